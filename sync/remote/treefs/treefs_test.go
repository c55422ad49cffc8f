package treefs_test

import (
	"strings"
	"testing"

	"github.com/sheaf-drive/sheaf/sync/remote/memtree"
	"github.com/sheaf-drive/sheaf/sync/remote/treefs"
	"github.com/sheaf-drive/sheaf/vfs"
	"github.com/sheaf-drive/sheaf/vfs/vfstest"
)

// cannot are the rules of vfs that a place of files does not keep, with what it lacks.
var cannot = map[string][]string{
	"hard links": {
		"bad_names_are_refused_everywhere", "making_what_is_there_is_ErrExist_and_changes_nothing", "nothing_can_be_made_in_a_removed_directory",
		"the_names_of_one_file_count,_and_go_one_by_one", "anything_but_a_directory_can_have_two_names", "a_replaced_file_keeps_its_other_names",
		"two_names_of_one_file_are_left_as_they_are", "RenameNoReplace_replaces_nothing", "a_node_of_another_tree_is_refused",
		"changes_of_names_set_the_times_of_directories_and_nodes",
	},
	"extended attributes": {
		"a_removed_name_is_gone_and_its_node_is_not", "a_file_moves_with_all_it_is", "values_are_kept,_on_every_kind_of_node", "flags_tell_making_from_replacing",
		"limits_hold,_and_what_they_refuse_changes_nothing", "xattrs_and_attributes_of_one_node_are_changed_by_many",
	},
	"devices": {"every_kind_of_node_is_made_and_found_as_what_it_is", "the_size_is_set_like_any_attribute,_but_of_files_only", "a_setgid_directory_hands_down_its_group"},
	"exchanges": {
		"a_directory_cannot_move_below_itself", "RenameExchange_changes_places,_whatever_the_kinds", "what_is_not_there_cannot_be_renamed",
		"a_storm_of_renames_loses_nothing_and_doubles_nothing",
	},
	"owners":               {"mode_and_owner_are_set_as_told,_on_every_kind", "only_what_is_set_changes", "setuid_stays_when_a_file_is_written_or_given_away"},
	"more than one time":   {"times_are_kept_to_the_nanosecond,_far_back_and_ahead", "what_is_made_has_the_times_of_that_moment", "changes_of_a_file_set_its_mtime_and_ctime"},
	"versions of the past": {"who_looks_while_a_file_is_replaced_sees_the_old_or_the_new"},
	"holes": {
		"a_file_can_be_huge_where_it_is_a_hole", "every_mode_of_Allocate_does_what_it_says,_around_every_edge", "what_was_punched_is_no_longer_counted",
		"Seek_finds_data_and_holes", "a_range_of_a_huge_hole_is_no_work", "Allocate_refuses_what_is_no_range",
		"handles_come_and_go_while_a_file_is_written,_cut_and_removed",
	},
}

func TestFS_VFSTest(t *testing.T) {
	vfstest.Run(t, func(t *testing.T) vfs.FS {
		for what, tests := range cannot {
			for _, name := range tests {
				if strings.HasSuffix(t.Name(), "/"+name) {
					t.Skip("a place of files has no " + what)
				}
			}
		}
		return treefs.New(memtree.New(memtree.Options{}), treefs.Options{Spool: t.TempDir()})
	})
}
