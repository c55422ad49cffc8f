package service

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/sheaf-drive/sheaf/api/proto/sheafv1"
	"github.com/sheaf-drive/sheaf/chunkstore/blob"
	"github.com/sheaf-drive/sheaf/sync/merge/ignore"
	"github.com/sheaf-drive/sheaf/sync/pair"
	"github.com/sheaf-drive/sheaf/sync/remote"
)

// rulesNote is the name under which the drive keeps its rules on this device.
const rulesNote = "rules"

// The limits of rules. With these the note stays far below what it may be.
const (
	everyRule  = 5 * time.Minute // between turns if nobody says how long
	minEvery   = time.Second
	maxRules   = 100
	maxIgnore  = 2 << 10 // bytes of all lines of one rule
	maxPlace   = 1 << 10 // bytes of the name of a place
	maxProblem = 512     // bytes of an error that are kept
)

// Pairs keep places of plain files alike. *sheaf.Drive's comments are the specification.
type Pairs interface {
	Pair(ctx context.Context, id string, o pair.Options) (*pair.Pair, error)
	ForgetPair(ctx context.Context, id string) error
	Feed(ctx context.Context, since remote.Cursor) (paths iter.Seq2[string, error], next remote.Cursor, err error)
}

// rules are those of the open drive.
type rules struct {
	changing sync.Mutex // held while rules are made, changed, removed, or their keepers begin or end
	saving   sync.Mutex // held while they are written

	mu     sync.Mutex // guards what follows
	loaded bool
	all    []*rule
}

// A rule is one rule, and what is open of it.
type rule struct {
	mu      sync.Mutex // guards what follows, to the empty line
	info    *sheafv1.Rule
	running int       // turns that are under way or wait for one
	steps   int64     // of the turn that is under way
	planned int64     // as well
	kept    bool      // a keeper gives it its turns
	draft   bool      // it is not made, but looked at only; a right place that is not there is taken for an empty one
	saved   time.Time // when it was written last
	end     func()    // ends life; nil: it was never open

	stop func() // ends its keeper, and returns when it has ended; nil: it has none. Guarded by rules.changing

	opening sync.Mutex // held by who opens: of all who find it closed only one waits for open, which another may soon hold for long

	open  sync.RWMutex    // held for reading by who uses pair
	pair  *pair.Pair      // nil: not open
	gone  bool            // it was removed, and is opened no more
	life  context.Context //nolint:containedctx // of those who use pair; done when they are to end
	close func()          // gives the places back
}

// show returns the rule as it is now.
func (r *rule) show() *sheafv1.Rule {
	r.mu.Lock()
	defer r.mu.Unlock()
	m := proto.CloneOf(r.info)
	m.Waits = waitsFor(m)
	switch {
	case r.running > 0:
		m.State, m.Steps, m.StepsTotal = sheafv1.RuleState_RULE_STATE_RUNNING, r.steps, r.planned
	case m.GetPaused():
		m.State = sheafv1.RuleState_RULE_STATE_PAUSED
	case r.kept && m.GetLastRun() != nil:
		m.NextRun = stamp(m.GetLastRun().AsTime().Add(time.Duration(m.GetEveryMs()) * time.Millisecond))
	}
	return m
}

// useRules is use, with the rules read.
func (s *Service) useRules(ctx context.Context) (context.Context, Drive, func(), error) {
	ctx, d, release, err := s.use(ctx)
	if err != nil {
		return nil, nil, nil, err
	}
	s.rules.mu.Lock()
	defer s.rules.mu.Unlock()
	if s.rules.loaded {
		return ctx, d, release, nil
	}
	b, err := d.Note(ctx, rulesNote)
	var m sheafv1.RulesListResponse
	if err == nil && len(b) > 0 {
		err = protojson.UnmarshalOptions{DiscardUnknown: true}.Unmarshal(b, &m)
	}
	if err != nil {
		release()
		return nil, nil, nil, fmt.Errorf("read the rules: %w", err)
	}
	for _, info := range m.GetRules() {
		s.rules.all = append(s.rules.all, &rule{info: info, saved: s.now()})
	}
	s.rules.loaded = true
	return ctx, d, release, nil
}

// useRule is useRules of one rule.
func (s *Service) useRule(ctx context.Context, name string) (context.Context, Drive, *rule, func(), error) {
	ctx, d, release, err := s.useRules(ctx)
	if err != nil {
		return nil, nil, nil, nil, err
	}
	s.rules.mu.Lock()
	defer s.rules.mu.Unlock()
	for _, r := range s.rules.all {
		if i := r.show(); i.GetName() == name || i.GetId() == name {
			return ctx, d, r, release, nil
		}
	}
	release()
	return nil, nil, nil, nil, errorf(sheafv1.Code_CODE_NOT_FOUND, "sheaf sync list", "no rule %q", name)
}

// listRules returns all rules.
func (s *Service) listRules() []*rule {
	s.rules.mu.Lock()
	defer s.rules.mu.Unlock()
	return slices.Clone(s.rules.all)
}

// saveRules makes the rules durable as they are.
func (s *Service) saveRules(ctx context.Context, d Drive) error {
	s.rules.saving.Lock()
	defer s.rules.saving.Unlock()
	m := &sheafv1.RulesListResponse{}
	for _, r := range s.listRules() {
		r.mu.Lock()
		m.Rules = append(m.Rules, proto.CloneOf(r.info))
		r.saved = s.now()
		r.mu.Unlock()
	}
	b, err := protojson.Marshal(m)
	if err != nil {
		return fmt.Errorf("keep the rules: %w", err)
	}
	return d.SetNote(context.WithoutCancel(ctx), rulesNote, b)
}

// openRules gives the rules of the drive their turns, from now on, if this is a daemon.
func (s *Service) openRules(ctx context.Context) {
	if !s.o.Daemon || s.o.Remotes == nil {
		return
	}
	s.rules.changing.Lock()
	defer s.rules.changing.Unlock()
	_, _, release, err := s.useRules(ctx)
	if err != nil {
		s.o.Log.Error("it is not known what is to be kept alike", "error", err)
		return
	}
	defer release()
	for _, r := range s.listRules() {
		s.keep(r)
	}
}

// AddRule makes a rule.
func (s *Service) AddRule(ctx context.Context, q *sheafv1.RulesAddRequest) (*sheafv1.Rule, error) {
	ctx, d, release, err := s.useRules(ctx)
	if err != nil {
		return nil, err
	}
	defer release()
	s.rules.changing.Lock()
	defer s.rules.changing.Unlock()
	info, err := s.newRule(q)
	if err != nil {
		return nil, err
	}
	if len(s.listRules()) >= maxRules {
		return nil, errorf(sheafv1.Code_CODE_LIMIT, "sheaf sync rm NAME", "there are %d rules, which is as many as there can be", maxRules)
	}
	// They are opened to see that they are there; only here is one made, for later an empty folder would stand for a disk that is away.
	for i, at := range [...]string{info.GetLeft(), info.GetRight()} {
		sd, err := s.side(ctx, d, at, i == 1)
		if err != nil {
			return nil, err
		}
		_, err = sd.tree.Identity(ctx)
		can := sd.tree.Can()
		sd.close()
		if err != nil {
			return nil, fmt.Errorf("open %s: %w", s.shown(at), err)
		}
		if !can.Write && (i == 1 || info.GetMode() == sheafv1.RuleMode_RULE_MODE_TWO_WAY) {
			return nil, errorf(sheafv1.Code_CODE_READ_ONLY, "sheaf sync add A B --copy", "%s can only be read", s.shown(at))
		}
	}
	r := &rule{info: info}
	s.rules.mu.Lock()
	s.rules.all = append(s.rules.all, r)
	s.rules.mu.Unlock()
	if err := s.saveRules(ctx, d); err != nil {
		s.dropRule(r)
		return nil, err
	}
	s.keep(r)
	s.tellRule(r.show())
	return r.show(), nil
}

// dropRule takes a rule out of the list.
func (s *Service) dropRule(r *rule) {
	s.rules.mu.Lock()
	defer s.rules.mu.Unlock()
	s.rules.all = slices.DeleteFunc(s.rules.all, func(o *rule) bool { return o == r })
}

// freeRuleName returns a name for a rule of a place that no rule has.
func (s *Service) freeRuleName(left string) string {
	base := strings.Trim(left, "/:")
	if p, err := ParsePlace(left); err == nil {
		base = path.Base(path.Clean("/" + filepath.ToSlash(p.Path)))
		if base == "/" {
			base = p.Name + p.Kind
		}
	}
	base = strings.Map(func(r rune) rune {
		if ruleRune(r) {
			return r
		}
		return '-'
	}, base)
	if base = strings.Trim(base, "-."); base == "" {
		base = "rule"
	}
	base = base[:min(len(base), 90)]
	taken := map[string]bool{}
	for _, r := range s.listRules() {
		taken[r.show().GetName()] = true
	}
	for i, name := 2, base; ; i++ {
		if !taken[name] {
			return name
		}
		name = fmt.Sprintf("%s-%d", base, i)
	}
}

// ruleRune reports whether a name of a rule may have it.
func ruleRune(r rune) bool {
	return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' || r == '_' || r == '.'
}

// checkRule returns what is wrong with a rule, and puts in what was not said. have is the rule as it is, nil for a new one.
func (s *Service) checkRule(i *sheafv1.Rule, have *rule) error {
	if i.GetMode() == sheafv1.RuleMode_RULE_MODE_UNSPECIFIED {
		i.Mode = sheafv1.RuleMode_RULE_MODE_TWO_WAY
	}
	if i.GetEveryMs() == 0 {
		i.EveryMs = everyRule.Milliseconds()
	}
	lines := 0
	for _, l := range i.GetIgnore() {
		lines += len(l) + 1
		if strings.ContainsAny(l, "\n\r") {
			return errorf(sheafv1.Code_CODE_USAGE, "give --ignore once for each line", "a line of ignore has a line break")
		}
	}
	_, known := mergeModes[i.GetMode()]
	switch {
	case !known:
		return errorf(sheafv1.Code_CODE_USAGE, "", "a rule is two-way, copy, send or mirror")
	case len(i.GetName()) > 100 || i.GetName() == "" || strings.HasPrefix(i.GetName(), "-") || strings.ContainsFunc(i.GetName(), func(r rune) bool { return !ruleRune(r) }):
		return errorf(sheafv1.Code_CODE_USAGE, "--name photos", "a rule cannot be called %q: letters, digits, - _ and . without a - in front, at most 100", i.GetName())
	case i.GetEveryMs() < minEvery.Milliseconds() || i.GetEveryMs() > (365*24*time.Hour).Milliseconds():
		return errorf(sheafv1.Code_CODE_USAGE, "--every 5m", "the time between turns is from a second to a year")
	case lines > maxIgnore:
		return errorf(sheafv1.Code_CODE_LIMIT, "", "the lines of ignore have %d bytes, and %d at most are kept", lines, maxIgnore)
	case len(i.GetLeft()) > maxPlace || len(i.GetRight()) > maxPlace:
		return errorf(sheafv1.Code_CODE_LIMIT, "", "the name of a place has more than %d bytes", maxPlace)
	}
	if _, err := ignored(i); err != nil {
		return errorf(sheafv1.Code_CODE_USAGE, "", "ignore: %w", err)
	}
	if err := checkFilter(i.GetFilter()); err != nil {
		return err
	}
	for _, r := range s.listRules() {
		if o := r.show(); r != have && (o.GetName() == i.GetName() || o.GetId() == i.GetName()) {
			return errorf(sheafv1.Code_CODE_EXISTS, "--name OTHER", "there is a rule %q already", i.GetName())
		}
	}
	return nil
}

// ignored returns what a rule leaves out.
func ignored(i *sheafv1.Rule) (*ignore.Set, error) {
	set := &ignore.Set{}
	return set, set.Add("", "--ignore", strings.Join(i.GetIgnore(), "\n"), nil)
}

// ListRules says which rules there are.
func (s *Service) ListRules(ctx context.Context, _ *sheafv1.RulesListRequest) (*sheafv1.RulesListResponse, error) {
	_, _, release, err := s.useRules(ctx)
	if err != nil {
		return nil, err
	}
	defer release()
	resp := &sheafv1.RulesListResponse{}
	for _, r := range s.listRules() {
		resp.Rules = append(resp.Rules, r.show())
	}
	return resp, nil
}

// changeRule applies fn to a rule that has no turn meanwhile, makes that durable and lets it go on. If fn fails, nothing has changed.
func (s *Service) changeRule(ctx context.Context, name string, fn func(ctx context.Context, d Drive, r *rule, next *sheafv1.Rule) error) (*sheafv1.Rule, error) {
	ctx, d, r, release, err := s.useRule(ctx, name)
	if err != nil {
		return nil, err
	}
	defer release()
	s.rules.changing.Lock()
	defer s.rules.changing.Unlock()
	if !slices.Contains(s.listRules(), r) {
		return nil, errorf(sheafv1.Code_CODE_NOT_FOUND, "sheaf sync list", "no rule %q", name)
	}
	s.unkeep(r)
	defer s.keep(r)
	r.shut(true)
	r.mu.Lock()
	was, next := r.info, proto.CloneOf(r.info)
	r.mu.Unlock()
	if err := fn(ctx, d, r, next); err != nil {
		return nil, err
	}
	r.mu.Lock()
	r.info = next
	r.mu.Unlock()
	r.shut(true) // somebody may have opened it as it was
	if err := s.saveRules(ctx, d); err != nil {
		r.mu.Lock()
		r.info = was
		r.mu.Unlock()
		return nil, err
	}
	s.tellRule(r.show())
	return r.show(), nil
}

// PauseRule gives a rule no turns.
func (s *Service) PauseRule(ctx context.Context, q *sheafv1.RulesPauseRequest) (*sheafv1.Rule, error) {
	return s.changeRule(ctx, q.GetRule(), func(_ context.Context, _ Drive, _ *rule, next *sheafv1.Rule) error {
		next.Paused = true
		return nil
	})
}

// ResumeRule ends a pause.
func (s *Service) ResumeRule(ctx context.Context, q *sheafv1.RulesResumeRequest) (*sheafv1.Rule, error) {
	return s.changeRule(ctx, q.GetRule(), func(_ context.Context, _ Drive, _ *rule, next *sheafv1.Rule) error {
		next.Paused = false
		return nil
	})
}

// EditRule changes a rule.
func (s *Service) EditRule(ctx context.Context, q *sheafv1.RulesEditRequest) (*sheafv1.Rule, error) {
	return s.changeRule(ctx, q.GetRule(), func(_ context.Context, _ Drive, r *rule, next *sheafv1.Rule) error {
		if q.GetName() != "" {
			next.Name = q.GetName()
		}
		if q.GetMode() != sheafv1.RuleMode_RULE_MODE_UNSPECIFIED {
			next.Mode = q.GetMode()
		}
		if q.GetEveryMs() != 0 {
			next.EveryMs = q.GetEveryMs()
		}
		if q.GetSetIgnore() {
			next.Ignore = q.GetIgnore()
		}
		next.Filter = withFilter(next.GetFilter(), q.GetFilter(), q.GetSetTypes())
		return s.checkRule(next, r)
	})
}

// AcceptRule takes the places that are there now for those of the rule.
func (s *Service) AcceptRule(ctx context.Context, q *sheafv1.RulesAcceptRequest) (*sheafv1.Rule, error) {
	return s.changeRule(ctx, q.GetRule(), func(ctx context.Context, d Drive, r *rule, next *sheafv1.Rule) error {
		next.State, next.Error, next.Code = sheafv1.RuleState_RULE_STATE_NEW, "", ""
		return s.paired(ctx, d, r, func(ctx context.Context, p *pair.Pair) error { return p.Accept(ctx) })
	})
}

// RemoveRule ends a rule.
func (s *Service) RemoveRule(ctx context.Context, q *sheafv1.RulesRemoveRequest) (*sheafv1.RulesRemoveResponse, error) {
	ctx, d, r, release, err := s.useRule(ctx, q.GetRule())
	if err != nil {
		return nil, err
	}
	defer release()
	s.rules.changing.Lock()
	defer s.rules.changing.Unlock()
	s.unkeep(r)
	r.remove()
	s.dropRule(r)
	if err := s.saveRules(ctx, d); err != nil {
		return nil, err
	}
	// A crash before this leaves keys that nobody reads: no other rule gets this ID.
	if err := d.ForgetPair(context.WithoutCancel(ctx), r.show().GetId()); err != nil {
		return nil, err
	}
	return &sheafv1.RulesRemoveResponse{}, nil
}

// shortError returns an error as it is kept.
func shortError(err error) string {
	text := strings.ToValidUTF8(err.Error(), "\ufffd")
	if len(text) > maxProblem {
		text = strings.ToValidUTF8(text[:maxProblem], "") + " …"
	}
	return text
}

// explain says what a person can do about the error of a turn.
func (r *rule) explain(err error) error {
	name := r.show().GetName()
	switch {
	case err == nil:
		return nil
	case errors.Is(err, context.Canceled):
		return err
	case errors.Is(err, pair.ErrBraked):
		return errorf(sheafv1.Code_CODE_DECISION, fmt.Sprintf("see what it is: sheaf sync run -n %s; and if it is meant: sheaf sync run %s --allow-deletes %d", name, name, brakedFiles(err)), "%w", err)
	case errors.Is(err, pair.ErrSwapped):
		return errorf(sheafv1.Code_CODE_DECISION, "bring back the one that it was; or, if this one is meant: sheaf sync accept "+name, "%w", err)
	case errors.Is(err, pair.ErrSome):
		return errorf(sheafv1.Code_CODE_PARTIAL, "sheaf sync run "+name+" tries what failed again", "%w", err)
	case errors.Is(err, pair.ErrIgnore) && !errors.Is(err, blob.ErrTemporary):
		return errorf(sheafv1.Code_CODE_USAGE, "mend that file; nothing is done before, for what it leaves out would go over", "%w", err)
	case errors.Is(err, pair.ErrDamaged):
		return errorf(sheafv1.Code_CODE_INTEGRITY, "", "%w", err)
	case errors.Is(err, fs.ErrNotExist) && !errors.As(err, new(*Error)):
		return errorf(sheafv1.Code_CODE_NOT_FOUND, "bring the place back; nothing is deleted on the other side while it is away", "%w", err)
	}
	return err
}
