package wot

// Need is what a member of a drive needs besides, for a device to accept it.
type Need uint8

// The values of Need, from little to much.
const (
	NeedMember   Need = iota // nothing
	NeedMarginal             // its owner's key is valid at least marginally
	NeedFull                 // its owner's key is valid
)

// String returns it in a word.
func (n Need) String() string { return [...]string{"member", "marginal", "full"}[min(n, NeedFull)] }

// Answer is what a person said of a device.
type Answer uint8

// The values of Answer.
const (
	AnswerNone Answer = iota
	AnswerYes         // it is accepted, whoever vouches for it
	AnswerNo          // it is not
)

// A Claim is what is known of a device.
type Claim struct {
	Member bool   // of the drive, as its log says, and not revoked
	Answer Answer // of the person whose device asks
	// Owner is whose key has certified it in a record that is good now; "": there is none.
	Owner Fingerprint
}

// Reason is why a device is accepted, or is not.
type Reason uint8

// The values of Reason.
const (
	NoMember     Reason = iota // it is no member of the drive: no trust makes it one
	Refused                    // a person said no
	OwnerRevoked               // its owner's key was revoked
	Unowned                    // there is no record of who owns it
	Unvouched                  // its owner's key is not valid enough
	Told                       // a person said yes
	Enough                     // it is a member, and nothing else is needed
	Vouched                    // its owner's key is valid enough
)

// A Verdict is the answer to the question whether a device is accepted.
type Verdict struct {
	Accepted bool
	Reason   Reason
	Validity Validity // of its owner's key; Unknown if there is none
	Path     []Link   // why that is valid
}

// Accept says whether a device is accepted. It makes nobody a member: whoever is none is refused, whoever vouches for it. And a member whose owner's key was revoked is refused where anything of
// the owner is needed, or known, whatever a person said of the device before: who has the key may have the device, too. It depends on nothing but what it is given.
func Accept(w Web, c Claim, need Need) Verdict {
	v := Verdict{Validity: Unknown}
	if r := w[c.Owner]; c.Owner != "" && r != nil {
		v.Validity, v.Path = r.Validity, w.Path(c.Owner)
	}
	known := c.Owner != "" && w[c.Owner] != nil
	switch {
	case !c.Member:
		v.Reason = NoMember
	case c.Answer == AnswerNo:
		v.Reason = Refused
	case known && v.Validity == Revoked:
		v.Reason = OwnerRevoked
	case c.Answer == AnswerYes:
		v.Accepted, v.Reason = true, Told
	case need == NeedMember:
		v.Accepted, v.Reason = true, Enough
	case !known:
		v.Reason = Unowned
	case need == NeedMarginal && v.Validity >= Marginal, v.Validity >= Full:
		v.Accepted, v.Reason = true, Vouched
	default:
		v.Reason = Unvouched
	}
	return v
}
