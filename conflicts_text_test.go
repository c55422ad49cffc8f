package sheaf

import (
	"errors"
	"testing"

	"github.com/sheaf-drive/sheaf/chunkstore/blob/mem"
	"github.com/sheaf-drive/sheaf/internal/testkit"
	"github.com/sheaf-drive/sheaf/vfs"
	"github.com/sheaf-drive/sheaf/vfs/lines"
)

// P10: two texts become one that has what each changed in the one that both come from, and never one that takes back what somebody wrote.
func TestMergeText_FromWhatBothHaveSeen(t *testing.T) {
	const base = "1\n2\n3\n4\n5\n6\n7\n8\n9\n"
	for name, c := range map[string]struct {
		first, later, other string // what a makes of base, and of that; what b makes of base
		early               bool   // b takes over the first while its own is in no head yet
		fresh               bool   // there is none that both come from
		want                string
		err                 error
	}{
		"apart":                      {first: "ONE\n2\n3\n4\n5\n6\n7\n8\n9\n", other: "1\n2\n3\n4\nFIVE\n6\n7\n8\n9\n", want: "ONE\n2\n3\n4\nFIVE\n6\n7\n8\n9\n"},
		"the same line":              {first: "ONE\n2\n3\n4\n5\n6\n7\n8\n9\n", other: "UNO\n2\n3\n4\n5\n6\n7\n8\n9\n", err: lines.ErrClash},
		"no text":                    {first: "ONE\n2\n3\n4\n5\n6\n7\n8\n9\n", other: "1\n2\x00", err: ErrNoText},
		"one has been changed again": {first: "ONE\n2\n3\n4\n5\n6\n7\n8\n9\n", later: "ONE\n2\n3\n4\n5\n6\n7\n8\nNINE\n", other: "1\n2\n3\n4\nFIVE\n6\n7\n8\n9\n", want: "ONE\n2\n3\n4\nFIVE\n6\n7\n8\nNINE\n"},
		"taken over before a commit": {first: "ONE\n2\n3\n4\n5\n6\n7\n8\n9\n", later: "ONE\n2\n3\n4\n5\n6\n7\n8\nNINE\n", other: "1\n2\n3\n4\nFIVE\n6\n7\n8\n9\n", early: true, want: "ONE\n2\n3\n4\nFIVE\n6\n7\n8\nNINE\n"},
		"both have made it":          {fresh: true, first: "ONE\n", other: "UNO\n", err: ErrNoCommon},
	} {
		t.Run(name, func(t *testing.T) {
			nas := mem.New()
			ra := newResident(t, place("nas", nas))
			da, words := ra.create()
			if !c.fresh {
				write(t, da.FS(), "text", []byte(base))
			}
			if err := exchange(t, da); err != nil {
				t.Fatal(err)
			}
			db := newResident(t, place("nas", nas)).join(words)
			if err := errors.Join(exchange(t, db), exchange(t, da)); err != nil {
				t.Fatal(err)
			}
			write(t, da.FS(), "text", []byte(c.first))
			write(t, db.FS(), "text", []byte(c.other))
			if !c.early {
				commit(t, db)
			}
			if err := exchange(t, da); err != nil {
				t.Fatal(err)
			}
			if c.early {
				if err := db.Replicas().Look(t.Context()); err != nil {
					t.Fatal(err)
				}
				if _, err := db.Adopt(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
			if c.later != "" {
				write(t, da.FS(), "text", []byte(c.later))
				commit(t, da)
				if !c.early { // b has both already, and then comes the later one
					if err := exchange(t, db); err != nil {
						t.Fatal(err)
					}
				}
				if err := da.Replicas().Sync(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
			if err := errors.Join(exchange(t, db), exchange(t, db)); err != nil {
				t.Fatal(err)
			}
			all, err := db.Conflicts(t.Context(), "")
			if err != nil || len(all) != 1 {
				t.Fatalf("conflicts are %+v, %v", all, err)
			}
			got, err := db.MergeText(t.Context(), all[0])
			if !errors.Is(err, c.err) || (err == nil) != (c.err == nil) || got != c.want {
				t.Errorf("got %q, %v", got, err)
			}
		})
	}
}

// States that the heads of a device name, and that were collected since, are passed over.
func TestMergeText_AfterACollection(t *testing.T) {
	nas := mem.New()
	ra := newResident(t, place("nas", nas))
	da, words := ra.create()
	write(t, da.FS(), "large", testkit.Random(testkit.Rand(testkit.Seed(t)), 3<<20))
	commit(t, da)
	if err := vfs.RemoveAll(t.Context(), da.FS(), "large"); err != nil {
		t.Fatal(err)
	}
	mustExchange(t, da)
	db := newResident(t, place("nas", nas)).join(words)
	mustExchange(t, db, da)
	thin(t, da)
	for freed, i := int64(0), 0; freed < 3<<20; i++ {
		if i == 10 {
			t.Fatalf("%d bytes were freed", freed)
		}
		freed += mustGC(t, da).Freed
		mustExchange(t, da, db, da)
	}
	write(t, da.FS(), "text", []byte("1\n2\n3\n4\n5\n"))
	mustExchange(t, da, db, da)
	write(t, da.FS(), "text", []byte("ONE\n2\n3\n4\n5\n"))
	write(t, db.FS(), "text", []byte("1\n2\n3\n4\nFIVE\n"))
	commit(t, db)
	mustExchange(t, da, db, da)
	all, err := da.Conflicts(t.Context(), "")
	if err != nil || len(all) != 1 {
		t.Fatalf("conflicts are %+v, %v", all, err)
	}
	if got, err := da.MergeText(t.Context(), all[0]); err != nil || got != "ONE\n2\n3\n4\nFIVE\n" {
		t.Errorf("got %q, %v", got, err)
	}
}
