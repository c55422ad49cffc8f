package service

import (
	"context"
	"fmt"
	"io/fs"
	"strings"

	"github.com/sheaf-drive/sheaf/api/proto/sheafv1"
	"github.com/sheaf-drive/sheaf/api/proto/wirepath"
	"github.com/sheaf-drive/sheaf/sync/merge"
	"github.com/sheaf-drive/sheaf/sync/merge/ignore"
	"github.com/sheaf-drive/sheaf/sync/pair"
)

// maxConvert is how many bytes of ignore files are written anew at once.
const maxConvert = 256 << 10

// within returns where g is below o.
func (g ground) within(o ground) (below string, ok bool) {
	if !g.overlaps(o) || len(strings.Trim(g.path, "/")) < len(strings.Trim(o.path, "/")) {
		return "", false
	}
	return strings.Trim(strings.Trim(g.path, "/")[len(strings.Trim(o.path, "/")):], "/"), true
}

// IgnoredByRule says whether rules leave a path out.
func (s *Service) IgnoredByRule(ctx context.Context, q *sheafv1.RulesIgnoredRequest) (*sheafv1.RulesIgnoredResponse, error) {
	ctx, d, release, err := s.useRules(ctx)
	if err != nil {
		return nil, err
	}
	defer release()
	at, err := s.ground(q.GetPlace())
	if err != nil {
		return nil, err
	}
	resp := &sheafv1.RulesIgnoredResponse{}
	for _, r := range s.listRules() {
		i := r.show()
		if q.GetRule() != "" && q.GetRule() != i.GetName() && q.GetRule() != i.GetId() {
			continue
		}
		for n, place := range [...]string{i.GetLeft(), i.GetRight()} {
			g, err := s.ground(place)
			if err != nil {
				continue // a remote that is gone is asked for in its own turn
			}
			below, ok := at.within(g)
			if !ok || below == "" {
				continue
			}
			v, err := s.verdict(ctx, d, r, merge.Side(n), below, q.GetDir())
			if err != nil {
				return nil, r.explain(err)
			}
			resp.Verdicts = append(resp.Verdicts, v)
		}
	}
	if len(resp.GetVerdicts()) == 0 {
		return nil, errorf(sheafv1.Code_CODE_NOT_FOUND, "sheaf sync list", "%s is in no place of a rule", s.shown(q.GetPlace()))
	}
	return resp, nil
}

// verdict is what one rule says of a path of a side.
func (s *Service) verdict(ctx context.Context, d Drive, r *rule, side merge.Side, path string, dir bool) (*sheafv1.RuleVerdict, error) {
	i := r.show()
	m := &sheafv1.RuleVerdict{Rule: i.GetName()}
	var v pair.Verdict
	err := s.paired(ctx, d, r, func(ctx context.Context, p *pair.Pair) (err error) {
		v, err = p.Ignored(ctx, side, path, dir)
		return err
	})
	if err != nil {
		return nil, err
	}
	m.Path = wirepath.Encode(v.Name)
	by, from := v.By, v.Side.String()
	m.Ignored = v.Out
	set, err := ignored(i)
	if err != nil {
		return nil, err
	}
	if out, line := set.Match(v.Name, v.Dir); out || line != nil && by == nil {
		m.Ignored, by, from = out || v.Out, line, "rule"
	}
	if by != nil {
		m.From, m.Line, m.Text = from, int64(by.Number), wirepath.Encode(by.Text)
		if from != "rule" {
			m.File = wirepath.Encode(by.File)
		}
	}
	return m, nil
}

// ConvertIgnore writes a .stignore anew.
func (s *Service) ConvertIgnore(_ context.Context, q *sheafv1.RulesConvertIgnoreRequest) (*sheafv1.RulesConvertIgnoreResponse, error) {
	size := len(q.GetText())
	includes := map[string]string{}
	for _, f := range q.GetIncludes() {
		size += len(f.GetText())
		includes[f.GetName()] = f.GetText()
	}
	if size > maxConvert {
		return nil, errorf(sheafv1.Code_CODE_LIMIT, "", "the files have %d bytes, and %d at most are written anew", size, maxConvert)
	}
	text, left, err := ignore.FromSyncthing(q.GetFile(), q.GetText(), func(name string) (string, error) {
		text, ok := includes[name]
		if !ok {
			return "", fs.ErrNotExist
		}
		return text, nil
	})
	if err != nil {
		return nil, errorf(sheafv1.Code_CODE_USAGE, "", "%w", err)
	}
	for i, l := range left {
		left[i] = wirepath.Encode(l)
	}
	return &sheafv1.RulesConvertIgnoreResponse{Text: text, Left: left}, nil
}

// waitsFor says what a rule waits for that only a person can give.
func waitsFor(i *sheafv1.Rule) string {
	switch {
	case i.GetState() == sheafv1.RuleState_RULE_STATE_BRAKED:
		return fmt.Sprintf("a word that %d files may be deleted: sheaf sync run %s --allow-deletes %d", i.GetBrakedFiles(), i.GetName(), i.GetBrakedFiles())
	case i.GetState() == sheafv1.RuleState_RULE_STATE_SWAPPED:
		return "the place that it was, or a word that this one is meant: sheaf sync accept " + i.GetName()
	case i.GetConflicts() > 0:
		return fmt.Sprintf("a choice in %d conflicts: sheaf sync conflicts %s", i.GetConflicts(), i.GetName())
	}
	return ""
}

// standing returns how the rules stand; nil if no drive is open.
func (s *Service) standing(ctx context.Context) []*sheafv1.Rule {
	if resp, err := s.ListRules(ctx, &sheafv1.RulesListRequest{}); err == nil {
		return resp.GetRules()
	}
	return nil
}

// tellRule tells those who watch how a rule stands.
func (s *Service) tellRule(i *sheafv1.Rule) {
	s.events.add(&sheafv1.Event{
		Kind: sheafv1.EventKind_EVENT_KIND_RULE, Rule: i.GetName(), RuleState: i.GetState(), Error: i.GetError(), Waits: i.GetWaits(), Steps: i.GetSteps(),
	})
}

// checkRules looks whether rules have their turns.
func checkRules(all []*sheafv1.Rule) (cs []*sheafv1.Check) {
	for _, i := range all {
		c := &sheafv1.Check{Name: "rule " + i.GetName(), State: sheafv1.Check_STATE_OK, Found: "both places are alike"}
		warn := func(found, fix string) { c.State, c.Found, c.Fix = sheafv1.Check_STATE_WARN, found, fix }
		switch i.GetState() {
		case sheafv1.RuleState_RULE_STATE_NEW:
			warn("it has had no turn yet", "sheaf sync run -n "+i.GetName())
		case sheafv1.RuleState_RULE_STATE_PAUSED:
			c.Found = "it is paused"
		case sheafv1.RuleState_RULE_STATE_RUNNING:
			c.Found = "a turn is under way"
		case sheafv1.RuleState_RULE_STATE_BRAKED:
			warn(i.GetError(), fmt.Sprintf("sheaf sync run -n %s; and if it is meant: --allow-deletes %d", i.GetName(), i.GetBrakedFiles()))
		case sheafv1.RuleState_RULE_STATE_SWAPPED:
			warn(i.GetError(), "bring back the place that it was, or: sheaf sync accept "+i.GetName())
		case sheafv1.RuleState_RULE_STATE_PARTIAL, sheafv1.RuleState_RULE_STATE_FAILED:
			warn(i.GetError(), "sheaf sync run "+i.GetName())
		case sheafv1.RuleState_RULE_STATE_ALIKE:
			switch {
			case i.GetConflicts() > 0:
				warn(fmt.Sprintf("%d conflicts wait for a choice", i.GetConflicts()), "sheaf sync conflicts "+i.GetName())
			case i.GetProblems() > 0:
				warn(fmt.Sprintf("%d things cannot be made alike", i.GetProblems()), "sheaf sync run "+i.GetName())
			}
		}
		cs = append(cs, c)
	}
	return cs
}
