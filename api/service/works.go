package service

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/sheaf-drive/sheaf"
	"github.com/sheaf-drive/sheaf/api/proto/sheafv1"
	"github.com/sheaf-drive/sheaf/api/proto/wirepath"
	"github.com/sheaf-drive/sheaf/api/service/transfer"
	"github.com/sheaf-drive/sheaf/chunkstore/blob"
	"github.com/sheaf-drive/sheaf/vfs"
)

// workOf returns the work that request asks for, and its kind in one word. It checks what
// can be checked without the drive.
func (s *Service) workOf(request *sheafv1.StartRequest) (kind string, w work, err error) {
	c := &copyWork{s: s}
	switch r := request.GetWork().(type) {
	case *sheafv1.StartRequest_Import:
		kind, c.options = "import", r.Import.GetOptions()
		err = c.local(&c.from, r.Import.GetFrom(), err)
		err = c.inDrive(&c.to, r.Import.GetTo(), err)
	case *sheafv1.StartRequest_Export:
		kind, c.options, c.at = "export", r.Export.GetOptions(), r.Export.GetAt()
		err = c.inDrive(&c.from, r.Export.GetFrom(), err)
		err = c.local(&c.to, r.Export.GetTo(), err)
	case *sheafv1.StartRequest_Copy:
		kind, c.options, c.at = "copy", r.Copy.GetOptions(), r.Copy.GetAt()
		err = c.inDrive(&c.from, r.Copy.GetFrom(), err)
		err = c.inDrive(&c.to, r.Copy.GetTo(), err)
		if err == nil && c.at == "" && (c.to == c.from || c.from == "" || len(c.to) > len(c.from) && c.to[:len(c.from)+1] == c.from+"/") {
			err = errorf(sheafv1.Code_CODE_USAGE, "", "%q cannot be copied into itself", c.from)
		}
	case *sheafv1.StartRequest_Restore:
		kind, c.options, c.at = "restore", r.Restore.GetOptions(), r.Restore.GetAt()
		c.restore, c.overwrite = true, r.Restore.GetOverwrite()
		err = c.inDrive(&c.from, r.Restore.GetPath(), err)
		c.to = c.from
		if r.Restore.GetTo() != "" {
			err = c.inDrive(&c.to, r.Restore.GetTo(), err)
		}
		if err == nil && c.at == "" {
			err = errorf(sheafv1.Code_CODE_USAGE, `name a time: --at "2h ago"`, "the time to restore from is missing")
		}
	case *sheafv1.StartRequest_Verify:
		return "verify", &careWork{verify: true}, nil
	case *sheafv1.StartRequest_Gc:
		return "gc", &careWork{grace: time.Duration(r.Gc.GetGraceSeconds()) * time.Second}, nil
	case *sheafv1.StartRequest_Evict:
		w, err := evictWorkOf(r.Evict)
		return "evict", w, err
	case *sheafv1.StartRequest_Rule:
		if r.Rule.GetAllowDeletes() < 0 {
			return "", nil, errorf(sheafv1.Code_CODE_USAGE, "--allow-deletes 100", "the number of files that may be deleted is not negative")
		}
		return "sync", &ruleWork{s: s, rule: r.Rule.GetRule(), allow: r.Rule.GetAllowDeletes()}, nil
	case *sheafv1.StartRequest_Pin:
		w, err := s.pinWorkOf(r.Pin)
		return "pin", w, err
	default:
		kind, w, err := s.replicaWorkOf(request)
		if err == nil && w == nil {
			err = errorf(sheafv1.Code_CODE_USAGE, "", "no work is named")
		}
		return kind, w, err
	}
	if t := c.options.GetTransfers(); err == nil && (t < 0 || t > 16) {
		err = errorf(sheafv1.Code_CODE_USAGE, "", "%d files in flight; 1 to 16 can be", t)
	}
	c.kind = kind
	return kind, c, err
}

// copyWork is a work that copies.
type copyWork struct {
	s                  *Service
	kind               string
	from, to, at       string // decoded; of this machine for import's from and export's to
	options            *sheafv1.CopyOptions
	restore, overwrite bool
	progress           transfer.Progress
}

// inDrive decodes a path of the drive, unless there is an error already.
func (c *copyWork) inDrive(dst *string, text string, err error) error {
	if err == nil {
		*dst, err = clean(text)
	}
	return err
}

// local decodes a path of this machine, unless there is an error already.
func (c *copyWork) local(dst *string, text string, err error) error {
	if err != nil {
		return err
	}
	p, err := wirepath.Decode(text)
	if err == nil && !filepath.IsAbs(p) {
		err = errorf(sheafv1.Code_CODE_USAGE, "", "path %q is not absolute", p)
	}
	*dst = p
	return err
}

func (c *copyWork) do(ctx context.Context, d Drive) error {
	o := transfer.Options{DryRun: c.options.GetDryRun(), Workers: int(c.options.GetTransfers()), Checksum: c.options.GetChecksum()}
	if c.kind == "import" {
		from, err := transfer.OpenLocal(c.from, nil)
		if err != nil {
			return err
		}
		defer func() { _ = from.Close() }()
		if err := c.parents(ctx, d); err != nil {
			return err
		}
		if l, err := d.Load(); err == nil {
			l.Close()
			o.Load = d.Load
		} else if !errors.Is(err, errors.ErrUnsupported) {
			return err
		}
		return transfer.Copy(ctx, from, transfer.NewDrive(d.FS(), c.to, &c.s.claims), o, &c.progress)
	}
	fsys, taken, err := tree(ctx, d, c.at)
	if err != nil {
		return err
	}
	if _, err := vfs.Walk(ctx, fsys, c.from); err != nil {
		return err
	}
	from := transfer.NewDrive(fsys, c.from, nil)
	if c.kind == "export" {
		if !o.DryRun {
			if err := os.MkdirAll(filepath.Dir(c.to), 0o755); err != nil {
				return err
			}
		}
		to := c.to
		if full, err := filepath.EvalSymlinks(to); err == nil {
			to = full // the person who named the target means what it leads to
		}
		place, err := transfer.OpenLocal(to, &c.s.claims)
		if err != nil {
			return err
		}
		defer func() { _ = place.Close() }()
		return transfer.Copy(ctx, from, place, o, &c.progress)
	}
	if c.restore {
		o.Exact = taken
	}
	if c.restore && !c.overwrite {
		when := time.Now().Format("2006-01-02 15.04.05")
		o.KeepReplaced = func(name string, n int) string { return keptName(name, when, n) }
	}
	if err := c.parents(ctx, d); err != nil {
		return err
	}
	return transfer.Copy(ctx, from, transfer.NewDrive(d.FS(), c.to, &c.s.claims), o, &c.progress)
}

// parents makes what is missing above the target in the drive.
func (c *copyWork) parents(ctx context.Context, d Drive) error {
	if c.options.GetDryRun() || c.to == "" {
		return nil
	}
	_, err := vfs.MkdirAll(ctx, d.FS(), path.Dir(c.to), c.s.newDir(0))
	return err
}

// keptName is the name of a file that a restore replaces.
func keptName(name, when string, n int) string {
	tag := " (before restore, " + when + ")"
	if n > 0 {
		tag = fmt.Sprintf(" (before restore, %s, %d)", when, n+1)
	}
	return tagged(name, tag)
}

// tagged returns a name with a tag before its extension, cut so that it is a name.
func tagged(name, tag string) string {
	ext := path.Ext(name)
	if ext == name { // .profile has no extension
		ext = ""
	}
	tag = strings.NewReplacer("/", "-", "\x00", "-").Replace(tag)
	base := name[:len(name)-len(ext)]
	if over := len(base) + len(tag) + len(ext) - vfs.MaxName; over > 0 {
		if over >= len(base) {
			base, ext = base[:max(vfs.MaxName-len(tag), 0)], ""
		} else {
			base = base[:len(base)-over]
		}
	}
	return (base + tag + ext)[:min(len(base)+len(tag)+len(ext), vfs.MaxName)]
}

func (c *copyWork) show(j *sheafv1.Job) {
	n := c.progress.Count()
	j.Items, j.ItemsTotal, j.Bytes, j.BytesTotal, j.Counted = n.Items, n.ItemsTotal, n.Bytes, n.BytesTotal, n.Counted
	j.Skipped, j.Failed, j.Renamed = n.Skipped, n.Failed, n.Renamed
	for _, f := range c.progress.Failures() {
		j.Failures = append(j.Failures, &sheafv1.Failure{Path: wirepath.Encode(f.Path), Error: wirepath.Encode(f.Err.Error()), Code: Explain(f.Err).Code})
	}
	for _, a := range c.progress.Actions() {
		j.Actions = append(j.Actions, wirepath.Encode(a))
	}
}

// careWork is verify or gc.
type careWork struct {
	verify bool
	grace  time.Duration // of gc

	mu          sync.Mutex // guards the rest
	done, total int64
	verified    *sheafv1.VerifyResult
	gc          *sheafv1.GCResult
}

func (c *careWork) do(ctx context.Context, d Drive) error {
	progress := func(done, total int64) {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.done, c.total = done, total
	}
	if !c.verify {
		r, err := d.GC(ctx, sheaf.GCOptions{Grace: c.grace}, progress)
		c.mu.Lock()
		defer c.mu.Unlock()
		c.gc = &sheafv1.GCResult{LiveBytes: r.Live, FreedBytes: r.Freed, KeptBytes: r.Kept, Condemned: r.Condemned, Packs: r.Packs, Announced: r.Announced}
		for _, name := range r.Waits {
			c.gc.Waits = append(c.gc.Waits, wirepath.Encode(name))
		}
		return err
	}
	r, err := d.Verify(ctx, progress)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.verified = &sheafv1.VerifyResult{Packs: r.Packs, Chunks: r.Chunks, Bytes: r.Bytes}
	for _, f := range r.Findings {
		reason := f.Reason
		if reason == "" && f.Err != nil {
			reason = f.Err.Error()
		}
		c.verified.Findings = append(c.verified.Findings, &sheafv1.Finding{Blob: f.Blob, Path: wirepath.Encode(f.Path), Reason: wirepath.Encode(reason)})
	}
	const restore = "bring the named blobs back from a copy of the store"
	switch n := len(r.Findings); {
	case n > 0 && err == nil:
		return errorf(sheafv1.Code_CODE_INTEGRITY, restore, "the store is damaged in %d places", n)
	case n > 0 && errors.Is(err, blob.ErrTemporary): // what is known to be damaged comes before what could not be looked at
		return errorf(sheafv1.Code_CODE_INTEGRITY, restore, "the store is damaged in %d places, and not all could be read: %w", n, err)
	}
	return err
}

func (c *careWork) show(j *sheafv1.Job) {
	c.mu.Lock()
	defer c.mu.Unlock()
	j.Items, j.ItemsTotal, j.Counted = c.done, c.total, c.total > 0
	j.Verify, j.Gc = c.verified, c.gc
}
