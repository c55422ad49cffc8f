package merge

import (
	"errors"
	"fmt"
	"iter"
	"slices"
)

// A Side is one of the two places.
type Side uint8

// The two sides.
const (
	Left  Side = 0
	Right Side = 1
)

// Other returns the other side.
func (s Side) Other() Side { return 1 - s }

// String returns "left" or "right".
func (s Side) String() string {
	if s == Left {
		return "left"
	}
	return "right"
}

// A Kind is what an Item is, with the numbers of remote.ItemKind.
type Kind uint8

// The kinds of items.
const (
	File Kind = iota
	Dir
	Symlink
	Other // has no bytes that could be copied: it is there, and left alone
)

var kinds = [...]string{"file", "directory", "link", "special file"}

// String returns the kind as people call it.
func (k Kind) String() string {
	if int(k) < len(kinds) {
		return kinds[k]
	}
	return fmt.Sprintf("kind %d", uint8(k))
}

// An Item is one thing as a side shows it. What a place does not know is zero.
type Item struct {
	// Path is from the root of the side, with "/" between its elements, in the bytes that the side has.
	Path string
	Kind Kind
	// Mode is the permission bits; zero: the place keeps none.
	Mode uint32
	// Out says that a filter leaves it out. It is there, and nothing is done with it or below it.
	Out bool
	// Skip says that a filter leaves out this state of a File, by its size or age; another state of it may not be. It is not brought over, not removed, and not replaced, unless it is what
	// both sides agreed on and the other one has made something of it that is not left out.
	Skip bool
	// Size is in bytes, -1 if only reading tells it.
	Size int64
	// MTime is in nanoseconds since 1970.
	MTime int64
	// Target is of a Symlink.
	Target string
	// ID is who it is, on its side, and survives a move.
	ID string
	// Version changes whenever the bytes do.
	Version string
	// Sums are hashes of the content, as [Sums] writes them.
	Sums string
}

// A Pair is what both sides had when they last agreed.
type Pair struct {
	// N tells pairs apart. It is never zero, and stays with the thing when it moves.
	N    uint64
	Item [2]Item
}

// Input is what is known of two places.
type Input struct {
	// Base yields the pairs in the order of [Options.Key] of their left items. It may be read more than once, and so may Now.
	Base iter.Seq2[Pair, error]
	// Dirs, if not nil, yields those of all pairs that are directories, in any order. They are looked for in Base otherwise, which has to be whole then.
	Dirs iter.Seq2[Pair, error]
	// Now yields what each side has, in the order of [Options.Key].
	Now [2]iter.Seq2[Item, error]
	// Incomplete says that a side may have more than Now yields. What is not yielded counts as unchanged.
	Incomplete [2]bool
	// Most, if not 0, is of how many items that are new a plan may be, where nothing else differs: what comes after them is for the plan from [Result].Next. So a place that is filled takes
	// no more memory than a part of it. Of a [Mirror], where a side is Incomplete, and where
	// names fold, so that what takes a name may be anywhere, the plan is always of all.
	Most int
	// From, if not "", is the Next of a plan that was carried out, as far as that went, and nothing was looked at since. What comes before it is passed over, and need not be yielded.
	From string
	// Taken, if not nil, reports whether a side has something at a path. It keeps new names from those that are in use.
	Taken func(s Side, path string) bool
}

// Can is what a side can do, as far as it matters here.
type Can struct {
	EmptyDirs bool // directories exist without files
	Symlinks  bool
	Modes     bool // Item.Mode is kept
	Touch     bool // times and modes can be changed without the bytes
	Times     bool // Item.MTime is what Put was told
	// CheapRead says that it costs little to read a file there, in order to know whether its bytes have changed.
	CheapRead bool
}

// A Winner says which content keeps the name where both sides have changed one file. The other is kept beside it.
type Winner uint8

// The winners.
const (
	Newer   Winner = iota // by the time of the file, where both have one; left if that does not tell
	Older                 //
	Larger                //
	LeftOne               //
	RightOne
)

// A Mode is which way changes go.
type Mode uint8

// The modes. In all but TwoWay the left side is never written to.
const (
	// TwoWay brings the changes of each side to the other.
	TwoWay Mode = iota
	// CopyOnly brings what the left side has to the right one, and removes nothing there.
	CopyOnly
	// Send brings what the left side changes, deletes included, to the right one. What only the right side changed stays as it is there.
	Send
	// Mirror makes the right side what the left one is.
	Mirror
)

// Options say how two places are to be alike.
type Options struct {
	Mode   Mode
	Winner Winner
	// Names say which names each side can have.
	Names [2]Names
	Can   [2]Can
	// Label is how conflict copies call each side; "" means left and right.
	Label [2]string
	// Date is what conflict copies are dated: "2026-11-23".
	Date string
	// Brake says which deletes are a question first.
	Brake Brake
}

// A Brake stops a plan that deletes too much. The zero value stops one that deletes more than 50 files on a side that
// are more than 20 % of those both agreed on. All of them, if they are more than one, are always too much. Links count as files, and so does what
// only one side ever had and a [Mirror] is to remove.
type Brake struct {
	Files   int // a plan may always delete so many; 0 means 50
	Percent int // and this share; 0 means 20
	Off     bool
}

// An Op is what a step does.
type Op uint8

// The operations. Those from Hash on change no place.
const (
	// Move moves the thing on Step.Side from Step.From to Step.Path, where nothing is.
	Move Op = iota
	// Mkdir makes the directory Step.Path on Step.Side.
	Mkdir
	// Copy brings the content of a file or link from the other side, where it is at Step.From, to Step.Path on Step.Side, in the place of what is known to be there.
	Copy
	// Touch gives the thing at Step.Path on Step.Side the time and mode that the one at Step.From on the other side has.
	Touch
	// Remove removes the file or empty directory Step.Path on Step.Side.
	Remove
	// Hash is to find the hashes of both files, at Step.At, for only they tell whether they are equal. Who carries it out plans again.
	Hash
	// Agree takes note that both sides have the same.
	Agree
	// Forget takes note that there is nothing any more, or nothing that is looked at.
	Forget
	// Shelve takes note, in the Pair of the thing and nowhere else, of what each side has now that is left out by its size or age: Item.Skip of Step.Thing.Now. As long as one is, no
	// delete follows from that Pair.
	Shelve
)

var ops = [...]string{"move", "mkdir", "copy", "touch", "remove", "compare", "agree", "forget", "shelve"}

// String returns the operation in one word.
func (o Op) String() string {
	if int(o) < len(ops) {
		return ops[o]
	}
	return fmt.Sprintf("op %d", uint8(o))
}

// A Thing is one file, directory or link in a plan. Several steps may be of one thing.
type Thing struct {
	// N is that of its Pair; 0: it is in no pair.
	N    uint64
	Kind Kind
	// Now is what is known of it on each side; Has says on which it is. Who carries steps out keeps both true.
	Now [2]Item
	Has [2]bool
}

// A Conflict is two contents that both claim one name.
type Conflict struct {
	// Path is the name, on the side whose content keeps it; Copy the one that the other content has now, on Side.
	Path, Copy string
	Side       Side
}

// A Step is one thing to do.
type Step struct {
	Op   Op
	Side Side
	// Thing is what it is done to. If it is known to be on Side, that it still has the version known is the condition of the step; else that nothing is there.
	Thing *Thing
	// From and Path are what Op says.
	From, Path string
	// At is where the thing is on each side, and is to be, when the step is done.
	At [2]string
	// Needs are the numbers of the steps that have to be done before.
	Needs []int
	// Follows is of a Move by which one side follows the other: both agree on the place from then on, also of all that is in a directory.
	Follows bool
	// Carries is of a Move of a directory that is in no Pair: those of what is in it go with it.
	Carries bool
	// Settles says that after this step both sides agree on the thing: it becomes a Pair.
	Settles bool
	// Drop says that the thing is in no Pair from now on.
	Drop bool
	// Conflict is to be told to somebody, if not nil.
	Conflict *Conflict
	// Why says in a few words what led to it.
	Why string
}

// String returns the step as a line.
func (s *Step) String() string {
	switch s.Op {
	case Move:
		return fmt.Sprintf("%s: move %s to %s", s.Side, s.From, s.Path)
	case Copy:
		verb := "copy"
		if s.Thing.Has[s.Side] {
			verb = "replace"
		}
		return fmt.Sprintf("%s: %s %s", s.Side, verb, s.Path)
	case Hash, Agree, Forget, Shelve:
		return fmt.Sprintf("%s %s", s.Op, s.Path)
	}
	return fmt.Sprintf("%s: %s %s", s.Side, s.Op, s.Path)
}

// A Problem is a thing that cannot be made alike, and why.
type Problem struct {
	Side Side // where it is
	Path string
	Why  string
}

// A Result is what Plan finds.
type Result struct {
	Steps    []Step
	Problems []Problem
	// Braked is not nil if the steps must not be carried out before somebody has agreed.
	Braked *Braked
	// Agreed is how many things are alike and were passed over.
	Agreed int
	// Next, if not "", says that there is more than these steps are of, and where the next plan begins ([Input].From). Nothing is removed by them.
	Next string
}

// Braked says what a plan would delete, on the side on which that is more: who agrees to so many has agreed to both.
type Braked struct {
	Side      Side
	Files, Of int
}

func (b *Braked) Error() string {
	return fmt.Sprintf("%d of %d files would be deleted on the %s side", b.Files, b.Of, b.Side)
}

// writes reports whether s may be changed.
func (o *Options) writes(s Side) bool { return o.Mode == TwoWay || s == Right }

// deletes reports whether things may be removed on s.
func (o *Options) deletes(s Side) bool { return o.writes(s) && o.Mode != CopyOnly }

// ErrMixed says that more differs from [Input].From on than what is new, so that nothing can be said without what comes before it.
var ErrMixed = errors.New("not only what is new differs")

// Plan returns the steps that make both sides alike. It fails only if a sequence does, or is not in order, and with ErrMixed.
func Plan(in Input, o Options) (*Result, error) {
	if o.Mode == Mirror || in.Incomplete[Left] || in.Incomplete[Right] || o.Names[Left].suffixes() || o.Names[Right].suffixes() {
		in.Most = 0
	}
	out, err := plan(in, o)
	if in.From == "" && errors.Is(err, ErrMixed) {
		in.Most = 0
		out, err = plan(in, o)
	}
	if err != nil {
		return nil, fmt.Errorf("plan: %w", err)
	}
	return out, nil
}

func plan(in Input, o Options) (*Result, error) {
	p := newPlanner(in, o)
	if err := p.gather(); err != nil {
		return nil, err
	}
	p.match()
	p.decide()
	p.emit()
	if p.part() && slices.ContainsFunc(p.out.Steps, func(st Step) bool { return st.Op == Remove || st.Drop }) {
		return nil, ErrMixed // whatever it was: nothing goes for what a part of the trees looks like
	}
	p.brake()
	out := p.out // and nothing else of the planner, which has several times as much
	return &out, nil
}

// part reports whether the plan is not of all that differs.
func (p *planner) part() bool { return p.out.Next != "" || p.in.From != "" }
