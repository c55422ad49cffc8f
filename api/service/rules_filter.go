package service

import (
	"context"
	"crypto/rand"
	"errors"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/sheaf-drive/sheaf/api/proto/sheafv1"
	"github.com/sheaf-drive/sheaf/api/proto/wirepath"
	"github.com/sheaf-drive/sheaf/sync/merge"
	"github.com/sheaf-drive/sheaf/sync/pair"
)

// The limits of the filter of a rule.
const (
	maxFilterAge = 200 * 365 * 24 * time.Hour
	maxTypes     = 100
	maxType      = 32 // bytes
)

// fileTypes are the types that have a name, by the ends of the names of files. The list is here, and not the system's, so that a rule leaves out the same on each device.
var fileTypes = map[string][]string{
	"archive":  {".7z", ".bz2", ".cab", ".deb", ".dmg", ".gz", ".iso", ".jar", ".lz4", ".rar", ".rpm", ".tar", ".tgz", ".xz", ".zip", ".zst"},
	"audio":    {".aac", ".aif", ".aiff", ".alac", ".flac", ".m4a", ".mid", ".midi", ".mp3", ".oga", ".ogg", ".opus", ".wav", ".wma"},
	"document": {".csv", ".doc", ".docx", ".epub", ".md", ".odp", ".ods", ".odt", ".pdf", ".ppt", ".pptx", ".rtf", ".tex", ".txt", ".xls", ".xlsx"},
	"image":    {".avif", ".bmp", ".cr2", ".cr3", ".dng", ".gif", ".heic", ".heif", ".jpeg", ".jpg", ".jxl", ".nef", ".png", ".svg", ".tif", ".tiff", ".webp"},
	"video":    {".3gp", ".avi", ".flv", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".mts", ".ogv", ".ts", ".webm", ".wmv"},
}

// endsOf returns the ends of names that types stand for.
func endsOf(types []string) (ends []string) {
	for _, t := range types {
		t = strings.ToLower(t)
		if all, ok := fileTypes[t]; ok {
			ends = append(ends, all...)
		} else {
			ends = append(ends, t)
		}
	}
	return ends
}

// withFilter returns a filter with what is said anew in place of what there was; nil if it leaves nothing out.
func withFilter(was, said *sheafv1.RuleFilter, setTypes bool) *sheafv1.RuleFilter {
	f := &sheafv1.RuleFilter{}
	if was != nil {
		f = proto.CloneOf(was)
	}
	if said == nil {
		said = &sheafv1.RuleFilter{}
	}
	for _, x := range [...]struct{ to, from **int64 }{
		{&f.MinSize, &said.MinSize}, {&f.MaxSize, &said.MaxSize}, {&f.MinAgeMs, &said.MinAgeMs}, {&f.MaxAgeMs, &said.MaxAgeMs},
	} {
		if *x.from != nil {
			*x.to = *x.from
		}
		if *x.to != nil && **x.to == 0 {
			*x.to = nil
		}
	}
	if setTypes || len(said.GetTypes())+len(said.GetNotTypes()) > 0 {
		f.Types, f.NotTypes = said.GetTypes(), said.GetNotTypes()
	}
	if proto.Size(f) == 0 {
		return nil
	}
	return f
}

// checkFilter returns what is wrong with a filter.
func checkFilter(f *sheafv1.RuleFilter) error {
	switch {
	case f.GetMinSize() < 0 || f.GetMaxSize() < 0:
		return errorf(sheafv1.Code_CODE_USAGE, "--max-size 100M", "a size is not negative")
	case f.GetMaxSize() > 0 && f.GetMinSize() > f.GetMaxSize():
		return errorf(sheafv1.Code_CODE_USAGE, "", "no file has at least %d bytes and at most %d", f.GetMinSize(), f.GetMaxSize())
	case f.GetMinAgeMs() < 0 || f.GetMaxAgeMs() < 0 || max(f.GetMinAgeMs(), f.GetMaxAgeMs()) > maxFilterAge.Milliseconds():
		return errorf(sheafv1.Code_CODE_USAGE, "--max-age 30d", "an age is from nothing to 200 years")
	case f.GetMaxAgeMs() > 0 && f.GetMinAgeMs() > f.GetMaxAgeMs():
		return errorf(sheafv1.Code_CODE_USAGE, "", "no file is older than the least age and younger than the most")
	case len(f.GetTypes()) > maxTypes || len(f.GetNotTypes()) > maxTypes:
		return errorf(sheafv1.Code_CODE_LIMIT, "", "a rule names at most %d types", maxTypes)
	}
	for _, t := range slices.Concat(f.GetTypes(), f.GetNotTypes()) {
		if _, ok := fileTypes[strings.ToLower(t)]; !ok && (len(t) < 2 || len(t) > maxType || t[0] != '.' || strings.ContainsAny(t, "/\n\r\x00")) {
			return errorf(sheafv1.Code_CODE_USAGE, "--type image, or --type .raw", "%q is no type: archive, audio, document, image, video, or the end of a name with its dot", t)
		}
	}
	return nil
}

// limitsOf returns what a filter leaves out by size and age.
func limitsOf(f *sheafv1.RuleFilter) pair.Limits {
	return pair.Limits{
		MinSize: f.GetMinSize(), MaxSize: f.GetMaxSize(),
		MinAge: time.Duration(f.GetMinAgeMs()) * time.Millisecond, MaxAge: time.Duration(f.GetMaxAgeMs()) * time.Millisecond,
	}
}

// typeOut says why the type of a file leaves it out; "" if it does not.
func typeOut(f *sheafv1.RuleFilter, name string) string {
	has := func(types []string) bool {
		name := strings.ToLower(name)
		return slices.ContainsFunc(endsOf(types), func(end string) bool { return strings.HasSuffix(name, end) })
	}
	switch {
	case len(f.GetTypes()) > 0 && !has(f.GetTypes()):
		return "it is of none of the types " + strings.Join(f.GetTypes(), ", ")
	case has(f.GetNotTypes()):
		return "it is of one of the types " + strings.Join(f.GetNotTypes(), ", ")
	}
	return ""
}

// outOf returns what a rule leaves out by name; nil if nothing.
func outOf(i *sheafv1.Rule) (func(path string, dir bool, size int64) bool, error) {
	set, err := ignored(i)
	if err != nil {
		return nil, err
	}
	f := i.GetFilter()
	if len(i.GetIgnore())+len(f.GetTypes())+len(f.GetNotTypes()) == 0 {
		return nil, nil
	}
	return func(path string, dir bool, _ int64) bool {
		out, _ := set.Match(path, dir)
		return out || !dir && typeOut(f, path) != ""
	}, nil
}

// newRule returns the rule that a request is for.
func (s *Service) newRule(q *sheafv1.RulesAddRequest) (*sheafv1.Rule, error) {
	info := &sheafv1.Rule{
		Id: strings.ToLower(rand.Text()[:12]), Name: q.GetName(), Left: q.GetLeft(), Right: q.GetRight(), Mode: q.GetMode(), EveryMs: q.GetEveryMs(),
		Ignore: q.GetIgnore(), Filter: withFilter(nil, q.GetFilter(), true), Paused: q.GetPaused(), State: sheafv1.RuleState_RULE_STATE_NEW,
	}
	if info.Name == "" {
		info.Name = s.freeRuleName(info.GetLeft())
	}
	if err := s.checkRule(info, nil); err != nil {
		return nil, err
	}
	return info, s.checkSides(info)
}

// PreviewRule tells what a turn would do.
func (s *Service) PreviewRule(ctx context.Context, q *sheafv1.RulesPreviewRequest, send func(*sheafv1.RulesRunResponse) error) error {
	if q.GetDraft() != nil {
		return s.previewDraft(ctx, q, send)
	}
	ctx, d, r, release, err := s.useRule(ctx, q.GetRule())
	if err != nil {
		return err
	}
	defer release()
	var o pair.PreviewOptions
	if q.GetSetIgnore() || q.GetFilter() != nil || q.GetSetTypes() {
		next := r.show()
		if q.GetSetIgnore() {
			next.Ignore = q.GetIgnore()
		}
		next.Filter = withFilter(next.GetFilter(), q.GetFilter(), q.GetSetTypes())
		if err := s.checkRule(next, r); err != nil {
			return err
		}
		lim := limitsOf(next.GetFilter())
		o.Limits = &lim
		if o.Out, err = outOf(next); err != nil {
			return err
		}
		if o.Out == nil {
			o.Out = func(string, bool, int64) bool { return false }
		}
	}
	return s.preview(ctx, d, r, o, q.GetFiles(), send)
}

// previewDraft tells what a rule would do that is not made.
func (s *Service) previewDraft(ctx context.Context, q *sheafv1.RulesPreviewRequest, send func(*sheafv1.RulesRunResponse) error) error {
	if q.GetRule() != "" || q.GetSetIgnore() || q.GetSetTypes() || q.GetFilter() != nil {
		return errorf(sheafv1.Code_CODE_USAGE, "", "a preview is of a rule or of a draft, which has a filter of its own")
	}
	ctx, d, release, err := s.useRules(ctx)
	if err != nil {
		return err
	}
	defer release()
	info, err := s.newRule(q.GetDraft())
	if err != nil {
		return err
	}
	r := &rule{info: info, draft: true}
	err = s.preview(ctx, d, r, pair.PreviewOptions{}, q.GetFiles(), send)
	r.remove()
	return errors.Join(err, d.ForgetPair(context.WithoutCancel(ctx), info.GetId()))
}

// preview tells what a turn of a rule would do.
func (s *Service) preview(ctx context.Context, d Drive, r *rule, o pair.PreviewOptions, files bool, send func(*sheafv1.RulesRunResponse) error) error {
	return r.explain(s.paired(ctx, d, r, func(ctx context.Context, p *pair.Pair) error {
		var all sheafv1.RuleSummary
		o.File = func(f pair.FileSeen) error {
			if f.Why == "" {
				all.FilesIn++
				all.BytesIn += max(f.Size, 0)
			} else {
				all.FilesOut++
				all.BytesOut += max(f.Size, 0)
			}
			if !files {
				return ctx.Err()
			}
			m := &sheafv1.RuleFile{Path: wirepath.Encode(f.Path), Left: f.On[merge.Left], Right: f.On[merge.Right], Size: f.Size, LeftOut: f.Why}
			if f.MTime != 0 {
				m.Modified = stamp(time.Unix(0, f.MTime))
			}
			return send(&sheafv1.RulesRunResponse{File: m})
		}
		rep, err := p.Preview(ctx, o)
		for _, step := range rep.Steps {
			if err := send(&sheafv1.RulesRunResponse{Step: &sheafv1.RuleStep{Step: wirepath.Encode(step)}}); err != nil {
				return err
			}
		}
		return s.sum(ctx, p, &rep, err, func(m *sheafv1.RulesRunResponse) error {
			m.Summary.FilesIn, m.Summary.BytesIn, m.Summary.FilesOut, m.Summary.BytesOut = all.FilesIn, all.BytesIn, all.FilesOut, all.BytesOut
			return send(m)
		})
	}))
}
