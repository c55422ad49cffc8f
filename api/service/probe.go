package service

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"time"

	"github.com/sheaf-drive/sheaf/api/proto/sheafv1"
	"github.com/sheaf-drive/sheaf/chunkstore/blob"
	"github.com/sheaf-drive/sheaf/chunkstore/blob/retry"
	"github.com/sheaf-drive/sheaf/sync/remote"
)

// The blob that a test of a place writes: its name begins so, and it has so many bytes.
const (
	probePrefix = "sheaf-test-"
	probeSize   = 1 << 20
)

// probe is the test of one place.
type probe struct {
	resp *sheafv1.RemotesTestResponse
	took time.Duration // of the last step
}

// step does one step, unless one before has failed.
func (p *probe) step(name string, do func() error) error {
	began := time.Now()
	err := do()
	p.took = time.Since(began)
	p.resp.Steps = append(p.resp.Steps, &sheafv1.TestStep{Name: name, Micros: p.took.Microseconds(), Ok: err == nil})
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

func (p *probe) rate() int64 { return int64(probeSize / max(p.took.Seconds(), 1e-6)) }

// TestRemote lists, writes, reads and deletes at a place.
func (s *Service) TestRemote(ctx context.Context, q *sheafv1.RemotesTestRequest) (*sheafv1.RemotesTestResponse, error) {
	r, err := s.remotes()
	if err != nil {
		return nil, err
	}
	ctx, _, release, err := s.serve(ctx)
	if err != nil {
		return nil, err
	}
	defer release()
	at, err := ParsePlace(q.GetAt())
	if err != nil {
		return nil, err
	}
	if at.Name != "" && at.Name != remote.Self {
		if _, err := r.get(at.Name); err != nil {
			return nil, err
		}
	}
	kind, _, err := r.Kinds.Resolve(at, r.Book, remote.Options{Getenv: r.Getenv})
	if err != nil {
		return nil, err
	}
	p := &probe{resp: &sheafv1.RemotesTestResponse{}}
	var b *remote.Opened
	err = p.step("open", func() (err error) {
		// Whoever waits for the answer may try again.
		b, err = r.Kinds.Open(ctx, at, r.Book, remote.Options{Make: q.GetMake(), Getenv: r.Getenv, Retry: retry.Options{Tries: 2}})
		return err
	})
	if err == nil {
		if !kind.Can.Containers || strings.Trim(at.Path, "/") != "" {
			err = p.run(ctx, b)
		}
		err = errors.Join(err, b.Close())
	}
	if err != nil {
		e := Explain(err)
		p.resp.Error, p.resp.Code, p.resp.Hint = e.Error(), e.Code, hintAt(e.Hint, q.GetAt())
		if e.Code == sheafv1.Code_CODE_NOT_FOUND && e.Hint == "" {
			p.resp.Hint = "see how its path is written, or make it: sheaf remote test " + s.shown(q.GetAt()) + " --make"
		}
	}
	return p.resp, nil
}

// run does the steps after the first.
func (p *probe) run(ctx context.Context, b blob.Bucket) error {
	body := make([]byte, probeSize+8)
	_, _ = rand.Read(body) // it never fails
	name := blob.Name(probePrefix + hex.EncodeToString(body[probeSize:]))
	body = body[:probeSize]
	listed := func() (bool, error) {
		for i, err := range b.List(ctx, name) {
			if err != nil {
				return false, err
			}
			if i.Name == name {
				return true, nil
			}
		}
		return false, nil
	}
	if err := p.step("list", func() error { _, err := listed(); return err }); err != nil {
		return err
	}
	err := p.step("write", func() error { return b.Put(ctx, name, bytes.NewReader(body), probeSize) })
	if err != nil {
		return errors.Join(err, sweep(ctx, b, name))
	}
	p.resp.WriteRate = p.rate()
	err = p.step("read", func() error {
		got, err := blob.ReadAll(ctx, b, name, probeSize)
		if err != nil {
			return err
		}
		if !bytes.Equal(got, body) {
			return fmt.Errorf("%w: other bytes came back", blob.ErrMangled)
		}
		return nil
	})
	if err != nil {
		return errors.Join(err, sweep(ctx, b, name))
	}
	p.resp.ReadRate = p.rate()
	return p.step("delete", func() error {
		if there, err := listed(); err != nil {
			return err
		} else if !there {
			return fmt.Errorf("%w: what was written is not listed", blob.ErrMangled)
		}
		return b.Remove(ctx, name)
	})
}

// sweep removes what a test that failed may have left.
func sweep(ctx context.Context, b blob.Bucket, name blob.Name) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	if err := b.Remove(ctx, name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%s may be left there: %w", name, err)
	}
	return nil
}
