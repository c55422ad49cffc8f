package sheaf

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"iter"
	"strings"

	"github.com/sheaf-drive/sheaf/chunkstore/chunk"
	"github.com/sheaf-drive/sheaf/sync/pair"
	"github.com/sheaf-drive/sheaf/sync/remote"
	"github.com/sheaf-drive/sheaf/vfs/manifest"
)

// rulePrefix begins the keys of the database under which rules remember what their places agreed on. The ID of the rule and a slash follow.
const rulePrefix = "rule/"

// Pair opens what keeps two places alike by the rule id, which has no slash; KV and Prefix of o are the drive's to set. It is remembered sealed, on this
// device only. A rule is open once at a time, and the drive outlives it.
func (d *Drive) Pair(ctx context.Context, id string, o pair.Options) (*pair.Pair, error) {
	o.KV, o.Prefix = d.db, rulePrefix+id+"/"
	return pair.Open(ctx, o)
}

// ForgetPair forgets all that the places of a rule agreed on. It is not open.
func (d *Drive) ForgetPair(ctx context.Context, id string) error {
	return pair.Forget(ctx, d.db, rulePrefix+id+"/")
}

// Feed is what treefs.TreeOptions.Feed asks for: the paths at which the tree of FS changed since a cursor, also by what other devices did, in the order of
// Diff, and all of a directory that came or went; if anything changed, also all names of files with hard links. It costs what changed, and the directories
// with such names. It commits first, for a cursor is a committed state of the tree: it opens what it names, and has to be kept as secret as the drive. If it cannot
// commit, for a disk that is full, there is no next cursor.
//
// A state of which something is gone, by GC, or cannot be had now, is remote.ErrCursor, from Feed or from paths: nothing is left out because it could not be read.
func (d *Drive) Feed(ctx context.Context, since remote.Cursor) (paths iter.Seq2[string, error], next remote.Cursor, err error) {
	if err := d.Commit(ctx); err != nil {
		if since != "" && ctx.Err() == nil {
			err = errors.Join(remote.ErrCursor, err)
		}
		if since != "" || ctx.Err() != nil {
			return nil, "", fmt.Errorf("what changed: %w", err)
		}
		return func(func(string, error) bool) {}, "", nil
	}
	// What is in it is in FS by now, and what is changed from here on is in the next state.
	now := d.State().Root
	next = feedCursor(now)
	if since == "" {
		return func(func(string, error) bool) {}, next, nil
	}
	was, err := parseFeedCursor(since)
	if err != nil {
		return nil, "", err
	}
	return func(yield func(string, error) bool) {
		if was == now {
			return
		}
		// The names of one file say of it what any of them says, and which are names of one file may change with any of them.
		for diff, err := range manifest.DiffAlso(ctx, d.store, was, now, manifest.BelowLink) {
			switch {
			case err == nil:
			case ctx.Err() != nil:
				err = context.Cause(ctx)
			default:
				err = fmt.Errorf("%w: %w", remote.ErrCursor, err)
			}
			if !yield(diff.Path, err) || err != nil {
				return
			}
		}
	}, next, nil
}

// feedPrefix begins each cursor: the kind of what follows, which is the Ref of the root, or nothing for a tree that is empty.
const feedPrefix = "root:"

func feedCursor(root chunk.Ref) remote.Cursor {
	if root.IsZero() {
		return feedPrefix
	}
	return remote.Cursor(feedPrefix + hex.EncodeToString(root.Append(nil)))
}

func parseFeedCursor(c remote.Cursor) (chunk.Ref, error) {
	text, ok := strings.CutPrefix(string(c), feedPrefix)
	if ok && text == "" {
		return chunk.Ref{}, nil
	}
	b, err := hex.DecodeString(text)
	if !ok || err != nil {
		return chunk.Ref{}, remote.ErrCursor
	}
	ref, err := chunk.ParseRef(b)
	if err != nil {
		return chunk.Ref{}, errors.Join(remote.ErrCursor, err)
	}
	return ref, nil
}
