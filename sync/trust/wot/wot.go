// Package wot is the web of trust: of the certifications that OpenPGP keys carry it says which keys are valid, and why. It reads no packet and checks no signature; whoever calls it has
// done that (package pgp does).
//
// The rules are those of GnuPG's trust model "pgp" (g10/trustdb.c and g10/key-clean.c of 2.2.40 were read, and a test holds every result against that program). In short:
//
//  1. Keys whose owner is trusted ultimately are the roots; they are valid, and round 0 has them as introducers.
//  2. In each round, each user ID collects the certifications of this round's introducers. It is fully valid once Completes of them are by fully trusted ones, one is by a root, or Marginals
//     of them are by marginally trusted ones; with fewer it is marginally valid.
//  3. The keys with a fully valid user ID, each once, are the introducers of the next round. How far one is trusted is what its owner is given by the user, or what a trust signature on
//     it says, whichever is more: an amount of 120 or more is full, one of 60 or more is marginal.
//  4. A trust signature of depth n by a root makes an introducer, who may make others with depth n-1. An introducer of depth n can give n at most.
//  5. It ends when a round has no introducers, or after Depth rounds.
//
// Where GnuPG does other than RFC 9580 (section 5.2.3.21) suggests, this does what GnuPG does, so that two programs of one person do not disagree about a key:
//
//   - Of the trust signatures on a key by introducers of one round the last in the order of its packets counts, whatever its date. A later one is not weighed against an earlier one.
//   - A scope is kept from an earlier trust signature when a later one has none. A scope does not bind the introducers of the introducer.
//   - The amount of a trust signature is not capped by the trust in who made it: a marginal introducer with depth left can make a full one.
//   - A trust signature outweighs the owner trust "never". So it cannot be relied on to keep somebody out; revoking the certification does.
//   - Of several certifications of a user ID by one key the newest counts, and of those with one time the last; if that has expired or is a revocation, no older one counts instead. One that was
//     made not revocable, and has not expired, is not set aside by one that is.
//   - A certification from the future counts; one that is older than either key does not.
//   - A certification of the type "persona" (0x11) does not count.
//
// In one point it is stricter than GnuPG 2.2: a root that is revoked or has expired introduces nobody.
package wot

import (
	"cmp"
	"slices"
)

// A Fingerprint names a key: its 20 (v4) or 32 (v6) bytes, not in hexadecimal.
type Fingerprint string

// Owner is how far the user trusts the owner of a key to certify others with care. The numbers are those of GnuPG; more is more.
type Owner uint8

// The values of Owner.
const (
	OwnerUnknown   Owner = 0
	OwnerUndefined Owner = 2
	OwnerNever     Owner = 3
	OwnerMarginal  Owner = 4
	OwnerFull      Owner = 5
	OwnerUltimate  Owner = 6 // it is the user's own
)

// String returns it in a word.
func (o Owner) String() string {
	switch o {
	case OwnerUndefined:
		return "undefined"
	case OwnerNever:
		return "never"
	case OwnerMarginal:
		return "marginal"
	case OwnerFull:
		return "full"
	case OwnerUltimate:
		return "ultimate"
	}
	return "unknown"
}

// The amounts of a trust signature from which on it makes a marginal and a full introducer.
const (
	AmountMarginal = 60
	AmountFull     = 120
)

// A Cert is a certification of a user ID, or the revocation of one, by another key. Its signature was verified.
type Cert struct {
	By         Fingerprint
	Revocation bool
	Persona    bool  // of type 0x11
	Final      bool  // its maker gave up the right to revoke it
	Time       int64 // when it was made, in seconds since 1970
	Expires    int64 // from then on it does not count; 0: never

	// Depth is how many levels of introducers it makes; 0: it is no trust signature, and Amount and Scope mean nothing.
	Depth  uint8
	Amount uint8
	// Scope is a regular expression that limits which user IDs the key can introduce, if Scoped. See InScope.
	Scoped bool
	Scope  string
}

// A UserID is one name of a key. Its owner has signed it.
type UserID struct {
	Name       string // as in the packet, most often UTF-8
	Revoked    bool
	Created    int64 // the time of the newest self-signature
	Expires    int64 // that self-signature's; 0: never
	KeyExpires int64 // what it says of the key; 0: nothing
	Certs      []Cert
}

// A Key is one key with what is known about it.
type Key struct {
	Fingerprint Fingerprint
	Owner       Owner
	Revoked     bool
	Created     int64
	// Expires is what a signature directly on the key says; 0: nothing, so that the user IDs say it.
	Expires int64
	UserIDs []UserID
}

// Rules say how much is enough.
type Rules struct {
	Completes int // certifications by fully trusted owners; at least 1
	Marginals int // certifications by marginally trusted ones; at least 1
	Depth     int // rounds, at most 255
}

// Defaults are those of GnuPG.
func Defaults() Rules { return Rules{Completes: 1, Marginals: 3, Depth: 5} }

// Validity is whether a key belongs to whom it names.
type Validity uint8

// The values of Validity, from bad to good.
const (
	Revoked   Validity = iota // by its owner
	Expired                   //
	Unknown                   // no introducer has certified it
	Undefined                 // introducers have whose owners are not trusted
	Marginal                  // not enough trusted ones have
	Full                      //
	Ultimate                  // it is the user's own
)

// String returns it in a word.
func (v Validity) String() string {
	return [...]string{"revoked", "expired", "unknown", "undefined", "marginal", "full", "ultimate"}[min(v, Ultimate)]
}

// A Step is a certification that counted.
type Step struct {
	Cert  Cert
	Owner Owner // how far its maker was trusted, by the user or by a trust signature
	Round int
}

// A Name is the result for one user ID.
type Name struct {
	Text     string
	Validity Validity
	Steps    []Step // in the order in which they counted

	fullAt int // the round in which it became fully valid; -1: it did not
}

// A Result is what the web says of a key.
type Result struct {
	Validity Validity
	// Owner is how far the key is trusted as an introducer: by the user, or, if it was one, by a trust signature.
	Owner Owner
	Names []Name // as in Key.UserIDs

	joined int // the round in which it introduces; -1: in none
}

// A Web is the result for all keys. It may be read by several goroutines.
type Web map[Fingerprint]*Result

// introducer is one of a round.
type introducer struct {
	owner  Owner
	depth  uint8
	scoped bool
	scope  string
}

// node is a key while it is computed.
type node struct {
	key    *Key
	res    *Result
	certs  [][]Cert // by user ID, one of each maker
	done   bool     // nothing can change any more
	used   bool     // it was an introducer, or is one
	usable []bool   // by user ID
	full   []int
	margin []int
	fresh  []Validity // of this round
	now    introducer // what trust signatures of this round make of it
	amount uint8
}

// Compute returns what the keys are worth at a time (seconds since 1970). Of keys with one fingerprint the first counts. Certifications by keys that are not there count for nothing. It depends
// on nothing else, and takes time in proportion to the number of certifications, times r.Depth. It keeps parts of keys, and changes nothing of it.
func Compute(keys []Key, r Rules, now int64) Web {
	r.Completes, r.Marginals, r.Depth = max(r.Completes, 1), max(r.Marginals, 1), min(r.Depth, 255)
	web := make(Web, len(keys))
	created := make(map[Fingerprint]int64, len(keys))
	var nodes []*node
	for i := range keys {
		k := &keys[i]
		if web[k.Fingerprint] != nil {
			continue
		}
		n := &node{key: k, res: &Result{Validity: Unknown, Owner: k.Owner, joined: -1}}
		web[k.Fingerprint], created[k.Fingerprint] = n.res, k.Created
		nodes = append(nodes, n)
	}
	list := map[Fingerprint]*introducer{}
	for _, n := range nodes {
		n.prepare(created, now)
		if n.key.Owner == OwnerUltimate && !n.done {
			n.crown()
			list[n.key.Fingerprint] = &introducer{owner: OwnerUltimate}
		}
	}
	for round := 0; round < r.Depth && len(list) > 0; round++ {
		next := map[Fingerprint]*introducer{}
		for _, n := range nodes {
			if n.done || !n.count(list, r, round) {
				continue
			}
			if n.used || !slices.Contains(n.fresh, Full) {
				continue
			}
			n.used, n.res.joined = true, round+1
			in := n.now
			in.owner = max(n.key.Owner, ownerOf(n.amount))
			n.res.Owner = in.owner
			next[n.key.Fingerprint] = &in
		}
		list = next
	}
	return web
}

// ownerOf returns what an amount of trust makes.
func ownerOf(amount uint8) Owner {
	switch {
	case amount >= AmountFull:
		return OwnerFull
	case amount >= AmountMarginal:
		return OwnerMarginal
	}
	return OwnerUnknown
}

// prepare takes from a key what does not depend on the rounds.
func (n *node) prepare(created map[Fingerprint]int64, now int64) {
	k := n.key
	c := len(k.UserIDs)
	n.certs, n.usable, n.full, n.margin, n.fresh = make([][]Cert, c), make([]bool, c), make([]int, c), make([]int, c), make([]Validity, c)
	for i, u := range k.UserIDs {
		v := Unknown
		switch {
		case u.Revoked:
			v = Revoked
		case u.Expires != 0 && u.Expires <= now:
			v = Expired
		default:
			n.usable[i] = true
			n.certs[i] = newest(k, u.Certs, created, now)
		}
		n.res.Names = append(n.res.Names, Name{Text: u.Name, Validity: v, fullAt: -1})
	}
	switch {
	case k.Revoked:
		n.res.Validity, n.done = Revoked, true
	case n.expired(now):
		n.res.Validity, n.done = Expired, true
	}
}

// expired reports whether the key has: as a signature on the key itself says, or else the newest of its user IDs that says anything.
func (n *node) expired(now int64) bool {
	at := n.key.Expires
	if at == 0 {
		var of int64
		for i, u := range n.key.UserIDs {
			if n.usable[i] && u.KeyExpires != 0 && u.Created > of {
				at, of = u.KeyExpires, u.Created
			}
		}
	}
	return at != 0 && at < now
}

// crown makes a key a root.
func (n *node) crown() {
	n.res.Validity, n.res.joined, n.done = Ultimate, 0, true
	for i := range n.res.Names {
		if n.usable[i] {
			n.res.Names[i].Validity = Ultimate
		}
	}
}

// newest returns of the certifications by each maker the one that counts, if it is good now, in their order.
func newest(k *Key, certs []Cert, created map[Fingerprint]int64, now int64) []Cert {
	at := map[Fingerprint]int{}
	for i, c := range certs {
		born, known := created[c.By]
		if !known || c.By == k.Fingerprint || c.Persona && !c.Revocation || c.Time < born || c.Time < k.Created || k.Created > now || born > now {
			continue
		}
		old, seen := at[c.By]
		if !seen {
			at[c.By] = i
			continue
		}
		was, is := final(certs[old], now), final(c, now)
		if is && !was || is == was && c.Time >= certs[old].Time {
			at[c.By] = i
		}
	}
	var good []int
	for _, i := range at {
		if c := certs[i]; !c.Revocation && (c.Expires == 0 || c.Expires > now) {
			good = append(good, i)
		}
	}
	slices.Sort(good)
	out := make([]Cert, 0, len(good))
	for _, i := range good {
		out = append(out, certs[i])
	}
	return out
}

// final reports whether a certification cannot be set aside by one that is not so.
func final(c Cert, now int64) bool {
	return !c.Revocation && c.Final && (c.Expires == 0 || c.Expires > now)
}

// count adds the certifications by the introducers of a round, and reports whether there were any.
func (n *node) count(list map[Fingerprint]*introducer, r Rules, round int) bool {
	n.now, n.amount = introducer{}, 0
	var signed bool
	all := true
	for i := range n.certs {
		n.fresh[i] = Unknown
		name := &n.res.Names[i]
		any := false
		for _, c := range n.certs[i] {
			by := list[c.By]
			if by == nil || by.scoped && !InScope(by.scope, name.Text) {
				continue
			}
			n.trust(c, by)
			switch by.owner {
			case OwnerUltimate:
				n.full[i] = r.Completes
			case OwnerFull:
				n.full[i]++
			case OwnerMarginal:
				n.margin[i]++
			}
			name.Steps = append(name.Steps, Step{Cert: c, Owner: by.owner, Round: round})
			any = true
		}
		if any {
			signed = true
			n.fresh[i] = Undefined
			switch {
			case n.full[i] >= r.Completes || n.margin[i] >= r.Marginals:
				n.fresh[i] = Full
				if name.fullAt < 0 {
					name.fullAt = round
				}
			case n.full[i] > 0 || n.margin[i] > 0:
				n.fresh[i] = Marginal
			}
			name.Validity = n.fresh[i]
			n.res.Validity = max(n.res.Validity, n.fresh[i])
		}
		all = all && n.fresh[i] == Full
	}
	n.done = signed && all
	return signed
}

// trust takes what a trust signature makes of the key.
func (n *node) trust(c Cert, by *introducer) {
	depth := c.Depth
	if by.owner != OwnerUltimate {
		depth = min(depth, by.depth)
	}
	if depth == 0 {
		return
	}
	n.amount, n.now.depth = c.Amount, depth-1
	if c.Scoped {
		n.now.scoped, n.now.scope = true, c.Scope
	}
}

// A Link is one certification on the way from a root to a key.
type Link struct {
	From, To Fingerprint
	Name     string // the user ID that was certified
	Owner    Owner  // how far From is trusted
	Cert     Cert
}

// Path returns the reason why a key is as valid as it is: the certifications from a root to it, the strongest one at each step. It is empty for a root, and for a key that no introducer has
// certified. If several marginal ones together are the reason, it is one of them; Result.Names has all.
func (w Web) Path(key Fingerprint) []Link {
	res := w[key]
	if res == nil {
		return nil
	}
	var path []Link
	before := -1 // steps of all rounds count for the key itself
	for res != nil && res.joined != 0 {
		name, step := res.reason(before)
		if name == nil {
			break
		}
		path = append(path, Link{From: step.Cert.By, To: key, Name: name.Text, Owner: step.Owner, Cert: step.Cert})
		key, before = step.Cert.By, step.Round
		res = w[key]
	}
	slices.Reverse(path)
	return path
}

// reason returns the user ID that is best, by what counted before a round (-1: all), and the step that did most for it. As each step is by an introducer of its round, who came
// to be one by steps of earlier rounds, a path ends.
func (r *Result) reason(before int) (*Name, *Step) {
	var best *Name
	var step *Step
	for i := range r.Names {
		n := &r.Names[i]
		if before >= 0 && (n.fullAt < 0 || n.fullAt >= before) || best != nil && n.Validity <= best.Validity {
			continue
		}
		var s *Step
		for j := range n.Steps {
			x := &n.Steps[j]
			if (before < 0 || x.Round < before) && (s == nil || cmp.Or(cmp.Compare(x.Owner, s.Owner), cmp.Compare(s.Round, x.Round)) > 0) {
				s = x
			}
		}
		if s != nil {
			best, step = n, s
		}
	}
	return best, step
}
