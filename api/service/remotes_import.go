package service

import (
	"context"
	"errors"
	"io/fs"
	"slices"
	"strings"

	"github.com/sheaf-drive/sheaf/api/proto/sheafv1"
	"github.com/sheaf-drive/sheaf/sync/remote"
	"github.com/sheaf-drive/sheaf/sync/remote/book"
	"github.com/sheaf-drive/sheaf/sync/remote/rcloneconf"
)

// ImportRemotes takes remotes over from a configuration of rclone.
func (s *Service) ImportRemotes(ctx context.Context, q *sheafv1.RemotesImportRequest) (*sheafv1.RemotesImportResponse, error) {
	r, err := s.remotes()
	if err != nil {
		return nil, err
	}
	sections, err := rcloneconf.Parse(q.GetConfig(), q.GetPassword())
	if errors.Is(err, rcloneconf.ErrPassword) {
		return nil, errorf(sheafv1.Code_CODE_WRONG_SECRET, "set RCLONE_CONFIG_PASS", "%w", err)
	}
	if err != nil {
		return nil, errorf(sheafv1.Code_CODE_USAGE, "", "%w", err)
	}
	var resp sheafv1.RemotesImportResponse
	for _, name := range q.GetNames() {
		if !slices.ContainsFunc(sections, func(x rcloneconf.Section) bool { return x.Name == name }) {
			return nil, errorf(sheafv1.Code_CODE_NOT_FOUND, "", "the configuration has no remote %q", name)
		}
	}
	for _, x := range sections {
		if len(q.GetNames()) > 0 && !slices.Contains(q.GetNames(), x.Name) {
			continue
		}
		m, err := s.importOne(ctx, r, x)
		if err != nil {
			return nil, err // of the book: nothing more can be kept
		}
		resp.Remotes = append(resp.Remotes, m)
	}
	return &resp, nil
}

// wraps are the kinds of rclone that are no place, but change what is at another remote.
var wraps = []string{"alias", "cache", "chunker", "combine", "compress", "crypt", "hasher", "union"}

func (s *Service) importOne(ctx context.Context, r *Remotes, x rcloneconf.Section) (*sheafv1.ImportedRemote, error) {
	m := &sheafv1.ImportedRemote{Name: x.Name, Kind: x.Kind}
	k, err := r.Kinds.Find(strings.ToLower(strings.ReplaceAll(x.Kind, " ", "")))
	switch {
	case x.Kind == "":
		m.Skipped = "it has no type"
		return m, nil
	case slices.Contains(wraps, x.Kind):
		m.Skipped = "it is no place, but a way to use another remote: import that one"
		return m, nil
	case err != nil:
		m.Skipped = "sheaf has no kind " + x.Kind
		return m, nil //nolint:nilerr // it is told to who imports
	}
	e := book.Remote{Name: x.Name, Kind: k.Name, Options: map[string]string{}, Secrets: book.Secrets{}}
	for n, v := range x.Values {
		o := k.Option(n)
		switch {
		case o == nil:
			m.Unknown = append(m.Unknown, n)
			continue
		case v == "":
			continue
		case o.Obscured:
			if v, err = rcloneconf.Reveal(v); err != nil {
				m.Skipped = n + ": " + err.Error()
				return m, nil //nolint:nilerr // it is told to who imports
			}
		}
		put(k, &e, []*sheafv1.OptionValue{{Name: n, Value: v}})
	}
	slices.Sort(m.GetUnknown())
	err = r.check(ctx, k, e)
	if err == nil {
		err = r.Book.Add(e)
	}
	switch {
	case errors.Is(err, remote.ErrOption), errors.Is(err, remote.ErrMissing), errors.Is(err, remote.ErrName), errors.Is(err, fs.ErrExist):
		m.Skipped = err.Error()
		return m, nil
	case err != nil:
		return nil, err
	}
	got, err := s.remoteOf(ctx, r, e)
	if err != nil {
		return nil, err
	}
	m.NeedsSignIn = got.GetNeedsSignIn()
	return m, nil
}
