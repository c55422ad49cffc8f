package pair

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"time"

	"github.com/sheaf-drive/sheaf/chunkstore/kv"
	"github.com/sheaf-drive/sheaf/sync/merge"
	"github.com/sheaf-drive/sheaf/sync/remote"
)

// keepHistory is how long the history is kept, and stampForm how times are written there.
const (
	keepHistory = 30 * 24 * time.Hour
	stampForm   = "20060102-150405"
)

// historyOf returns where a place keeps its history.
func historyOf(t remote.Tree) string {
	if t.Can().NoDots {
		return PlainHistoryDir
	}
	return HistoryDir
}

// historyPath returns where the old bytes of path go on side s, and makes the directories above. What has no room for the whole path keeps its last element.
func (p *Pair) historyPath(ctx context.Context, s merge.Side, path, step string) (string, error) {
	to := historyOf(p.o.Tree[s]) + "/" + step + "/" + path
	if len(to) > 900 {
		to = historyOf(p.o.Tree[s]) + "/" + step + "/" + path[strings.LastIndexByte(path, '/')+1:]
	}
	if !p.o.Rule.Can[s].EmptyDirs {
		return to, nil
	}
	for i := 0; i < len(to); i++ {
		if to[i] == '/' {
			if _, err := p.o.Tree[s].Mkdir(ctx, to[:i], 0o700); err != nil {
				return "", fmt.Errorf("make room in the history: %w", err)
			}
		}
	}
	return to, nil
}

// pruneEvery is how often a history is looked through. To ask a place for it in each turn would cost more than all else in a turn in which nothing happens.
const pruneEvery = 24 * time.Hour

// prune removes from the histories what is older than Keep, once a day. What fails is tried in the next turn.
func (p *Pair) prune(ctx context.Context) {
	for s := range merge.Side(2) {
		if !p.o.Tree[s].Can().Write {
			continue
		}
		name := "pruned " + s.String()
		if ago := p.o.Now().Sub(p.stamp(ctx, name)); ago >= 0 && ago < pruneEvery {
			continue
		}
		err := p.pruneSide(ctx, s)
		if err == nil {
			at := binary.BigEndian.AppendUint64(nil, uint64(p.o.Now().Unix()))
			err = p.o.KV.Update(ctx, func(tx kv.Tx) error { return tx.Put(p.key('m', name), at) })
		}
		if err != nil {
			p.o.Log.Warn("the history could not be looked through", "side", s.String(), "err", err)
		}
	}
}

func (p *Pair) pruneSide(ctx context.Context, s merge.Side) error {
	t := p.o.Tree[s]
	dir := historyOf(t)
	for it, err := range t.List(ctx, dir) {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		name := it.Path[len(dir)+1:]
		at, err := time.Parse(stampForm, name[:min(len(name), len(stampForm))])
		if err != nil || p.o.Now().Sub(at) < keepHistory {
			continue
		}
		if err := removeAll(ctx, t, it); err != nil {
			return fmt.Errorf("remove what is old: %w", err)
		}
	}
	return nil
}

func removeAll(ctx context.Context, t remote.Tree, it remote.Item) error {
	if it.Kind == remote.Dir {
		var all []remote.Item
		for k, err := range t.List(ctx, it.Path) {
			if err != nil {
				return err
			}
			all = append(all, k)
		}
		for _, k := range all {
			if err := removeAll(ctx, t, k); err != nil {
				return err
			}
		}
		if !t.Can().EmptyDirs {
			return nil
		}
		return t.Remove(ctx, it.Path, "")
	}
	return t.Remove(ctx, it.Path, it.Version)
}
