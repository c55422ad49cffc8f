package service

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/sheaf-drive/sheaf/api/proto/sheafv1"
	"github.com/sheaf-drive/sheaf/sync/trust"
	"github.com/sheaf-drive/sheaf/sync/trust/lookup"
	"github.com/sheaf-drive/sheaf/sync/trust/pgp"
	"github.com/sheaf-drive/sheaf/sync/trust/wot"
)

// Trust has the OpenPGP keys that this device knows.
type Trust interface {
	// Ring returns them while a drive is open. The error is that of trust.Open.
	Ring() (*trust.Ring, error)
}

// maxSignature is the longest file that is read as a signature, in bytes.
const maxSignature = 64 << 10

// ring is use for what needs the OpenPGP keys.
func (s *Service) ring(ctx context.Context) (_ context.Context, r *trust.Ring, release func(), err error) {
	ctx, _, release, err = s.use(ctx)
	if err != nil {
		return nil, nil, nil, err
	}
	if s.o.Trust == nil {
		err = errorf(sheafv1.Code_CODE_UNSUPPORTED, "", "no OpenPGP keys are kept here")
	} else {
		r, err = s.o.Trust.Ring()
	}
	if err != nil {
		release()
		return nil, nil, nil, err
	}
	return ctx, r, release, nil
}

// names has the first user IDs of keys.
type names map[wot.Fingerprint]string

func keyNames(all []trust.Known) names {
	n := names{}
	for _, k := range all {
		n[k.Certificate.Fingerprint()] = k.Certificate.Name()
	}
	return n
}

func (n names) link(l wot.Link) *sheafv1.Link {
	return &sheafv1.Link{
		From: pgp.Hex(l.From), FromName: text(n[l.From]), To: pgp.Hex(l.To), Name: text(l.Name), Trust: owners[l.Owner], Depth: int32(l.Cert.Depth),
	}
}

// text is a user ID as the contract takes it.
func text(s string) string { return strings.ToValidUTF8(s, "\ufffd") }

// owners and validities are the words of the contract.
var (
	owners = map[wot.Owner]sheafv1.OwnerTrust{
		wot.OwnerUnknown: sheafv1.OwnerTrust_OWNER_TRUST_UNSPECIFIED, wot.OwnerUndefined: sheafv1.OwnerTrust_OWNER_TRUST_UNDEFINED, wot.OwnerNever: sheafv1.OwnerTrust_OWNER_TRUST_NEVER,
		wot.OwnerMarginal: sheafv1.OwnerTrust_OWNER_TRUST_MARGINAL, wot.OwnerFull: sheafv1.OwnerTrust_OWNER_TRUST_FULL, wot.OwnerUltimate: sheafv1.OwnerTrust_OWNER_TRUST_ULTIMATE,
	}
	validities = map[wot.Validity]sheafv1.Validity{
		wot.Revoked: sheafv1.Validity_VALIDITY_REVOKED, wot.Expired: sheafv1.Validity_VALIDITY_EXPIRED, wot.Unknown: sheafv1.Validity_VALIDITY_UNKNOWN,
		wot.Undefined: sheafv1.Validity_VALIDITY_UNDEFINED, wot.Marginal: sheafv1.Validity_VALIDITY_MARGINAL, wot.Full: sheafv1.Validity_VALIDITY_FULL,
		wot.Ultimate: sheafv1.Validity_VALIDITY_ULTIMATE,
	}
)

// ownerOf is the inverse of owners.
func ownerOf(t sheafv1.OwnerTrust) (wot.Owner, error) {
	for o, x := range owners {
		if x == t && o != wot.OwnerUltimate {
			return o, nil
		}
	}
	return 0, errorf(sheafv1.Code_CODE_USAGE, "unknown, undefined, never, marginal or full", "only the user's own key is trusted ultimately, and it always is")
}

func bare(c *pgp.Certificate) *sheafv1.Identity {
	m := &sheafv1.Identity{Fingerprint: pgp.Hex(c.Fingerprint()), Created: stamp(c.Created())}
	for _, n := range c.UserIDs() {
		m.Names = append(m.Names, text(n))
	}
	return m
}

func (n names) identity(k trust.Known, own bool) *sheafv1.Identity {
	m := bare(k.Certificate)
	m.Own, m.Verified, m.Trust, m.Validity = own, k.Verified, owners[k.Owner], validities[k.Result.Validity]
	for _, l := range k.Path {
		m.Path = append(m.Path, n.link(l))
	}
	return m
}

// identities says of the keys that are wanted what holds now.
func (s *Service) identities(r *trust.Ring, wanted func(trust.Known) bool) []*sheafv1.Identity {
	all := r.List(s.now())
	return identitiesIn(r, all, keyNames(all), wanted)
}

// identitiesIn is identities of keys that were listed.
func identitiesIn(r *trust.Ring, all []trust.Known, n names, wanted func(trust.Known) bool) (out []*sheafv1.Identity) {
	own := r.Own()
	for _, k := range all {
		if wanted(k) {
			out = append(out, n.identity(k, own != nil && own.Certificate().Fingerprint() == k.Certificate.Fingerprint()))
		}
	}
	return out
}

// identity says of one key what holds now.
func (s *Service) identity(r *trust.Ring, f wot.Fingerprint) *sheafv1.Identity {
	for _, m := range s.identities(r, is(f)) {
		return m
	}
	return nil
}

// is is of the key with a fingerprint.
func is(f wot.Fingerprint) func(trust.Known) bool {
	return func(k trust.Known) bool { return k.Certificate.Fingerprint() == f }
}

// ListKeys has the keys that are known here.
func (s *Service) ListKeys(ctx context.Context, m *sheafv1.ListKeysRequest) (*sheafv1.ListKeysResponse, error) {
	_, r, release, err := s.ring(ctx)
	if err != nil {
		return nil, err
	}
	defer release()
	return &sheafv1.ListKeysResponse{Keys: s.identities(r, func(k trust.Known) bool { return matches(k, m.GetFind()) }), Unread: int32(r.Unread())}, nil
}

// matches reports whether a key is one that is looked for: by the end of its fingerprint, or a part of a user ID.
func matches(k trust.Known, find string) bool {
	digits := strings.ToUpper(strings.TrimPrefix(strings.Join(strings.Fields(find), ""), "0x"))
	if find == "" || len(digits) >= 16 && strings.HasSuffix(pgp.Hex(k.Certificate.Fingerprint()), digits) {
		return true
	}
	return slices.ContainsFunc(k.Certificate.UserIDs(), func(n string) bool { return strings.Contains(strings.ToLower(n), strings.ToLower(find)) })
}

// MakeKey makes a key of the user's own.
func (s *Service) MakeKey(ctx context.Context, m *sheafv1.MakeKeyRequest) (*sheafv1.MakeKeyResponse, error) {
	ctx, r, release, err := s.ring(ctx)
	if err != nil {
		return nil, err
	}
	defer release()
	k, err := pgp.Generate(m.GetName(), m.GetEmail(), s.now())
	if err != nil {
		return nil, err
	}
	if err := s.setOwn(ctx, r, k); err != nil {
		return nil, err
	}
	return &sheafv1.MakeKeyResponse{Key: s.identity(r, k.Certificate().Fingerprint())}, nil
}

// setOwn makes a key the user's own, and certifies this device with it.
func (s *Service) setOwn(ctx context.Context, r *trust.Ring, k *pgp.Secret) error {
	if err := r.SetOwn(k); err != nil {
		return err
	}
	return s.claimSelf(ctx, r)
}

// ImportKeys adds keys.
func (s *Service) ImportKeys(ctx context.Context, m *sheafv1.ImportKeysRequest) (*sheafv1.ImportKeysResponse, error) {
	ctx, r, release, err := s.ring(ctx)
	if err != nil {
		return nil, err
	}
	defer release()
	if m.GetOwn() {
		k, err := pgp.ReadSecret(bytes.NewReader(m.GetKeys()), m.GetPassphrase())
		if err != nil {
			return nil, err
		}
		known := slices.ContainsFunc(r.List(s.now()), func(o trust.Known) bool { return o.Certificate.Fingerprint() == k.Certificate().Fingerprint() })
		if err := s.setOwn(ctx, r, k); err != nil {
			return nil, err
		}
		out := &sheafv1.ImportKeysResponse{Keys: []*sheafv1.Identity{s.identity(r, k.Certificate().Fingerprint())}}
		if !known {
			out.Fresh = 1
		}
		return out, nil
	}
	all, err := pgp.Read(bytes.NewReader(m.GetKeys()))
	if err != nil {
		return nil, err
	}
	fresh, err := r.Import(all...)
	if err != nil {
		return nil, err
	}
	return &sheafv1.ImportKeysResponse{Fresh: int32(fresh), Keys: s.identities(r, func(k trust.Known) bool {
		return slices.ContainsFunc(all, func(c *pgp.Certificate) bool { return c.Fingerprint() == k.Certificate.Fingerprint() })
	})}, nil
}

// ownOf returns the user's own key.
func ownOf(r *trust.Ring) (*pgp.Secret, error) {
	own := r.Own()
	if own == nil {
		return nil, errorf(sheafv1.Code_CODE_NOT_FOUND, "sheaf key new NAME --email ADDRESS, or sheaf key import --own FILE", "there is no OpenPGP key of your own here")
	}
	return own, nil
}

// ExportKey has a key as text.
func (s *Service) ExportKey(ctx context.Context, m *sheafv1.ExportKeyRequest) (*sheafv1.ExportKeyResponse, error) {
	_, r, release, err := s.ring(ctx)
	if err != nil {
		return nil, err
	}
	defer release()
	want := m.GetKey()
	if want == "" || len(m.GetSecretPassphrase()) > 0 {
		own, err := ownOf(r)
		if err != nil {
			return nil, err
		}
		mine := pgp.Hex(own.Certificate().Fingerprint())
		if want == "" {
			want = mine
		}
		if len(m.GetSecretPassphrase()) > 0 {
			if k, err := r.Find(want, s.now()); err != nil {
				return nil, err
			} else if k.Certificate.Fingerprint() != own.Certificate().Fingerprint() {
				return nil, errorf(sheafv1.Code_CODE_USAGE, "", "only of your own key the secret is here")
			}
			var b strings.Builder
			err := own.Export(&b, m.GetSecretPassphrase())
			return &sheafv1.ExportKeyResponse{Text: b.String()}, err
		}
	}
	k, err := r.Find(want, s.now())
	if err != nil {
		return nil, err
	}
	var b strings.Builder
	err = pgp.Armor(&b, k.Certificate)
	return &sheafv1.ExportKeyResponse{Text: b.String()}, err
}

// FindKeys looks for keys.
func (s *Service) FindKeys(ctx context.Context, m *sheafv1.FindKeysRequest) (*sheafv1.FindKeysResponse, error) {
	ctx, r, release, err := s.ring(ctx)
	if err != nil {
		return nil, err
	}
	defer release()
	if m.GetText() == "" {
		return nil, errorf(sheafv1.Code_CODE_USAGE, "an address, or a fingerprint", "it is not said whose key is looked for")
	}
	out := &sheafv1.FindKeysResponse{Here: s.identities(r, func(k trust.Known) bool { return matches(k, m.GetText()) })}
	var found lookup.Found
	switch {
	case m.GetKeyserver() != "":
		found, err = lookup.Finder{}.Keyserver(ctx, m.GetKeyserver(), m.GetText())
	case m.GetWkd():
		found, err = lookup.Finder{}.WKD(ctx, m.GetText())
	default:
		return out, nil
	}
	if err != nil {
		return nil, err
	}
	out.From = found.From
	var b strings.Builder
	for _, c := range found.Keys {
		out.Found = append(out.Found, bare(c))
	}
	if err := pgp.Armor(&b, found.Keys...); err != nil {
		return nil, err
	}
	out.Text = b.String()
	return out, nil
}

// VerifyKey says why a key is valid, and notes that its fingerprint was compared.
func (s *Service) VerifyKey(ctx context.Context, m *sheafv1.VerifyKeyRequest) (*sheafv1.VerifyKeyResponse, error) {
	_, r, release, err := s.ring(ctx)
	if err != nil {
		return nil, err
	}
	defer release()
	k, err := r.Find(m.GetKey(), s.now())
	if err != nil {
		return nil, err
	}
	f := k.Certificate.Fingerprint()
	if err := compare(r, f, m.GetFingerprint()); err != nil {
		return nil, err
	}
	all := r.List(s.now())
	n := keyNames(all)
	out := &sheafv1.VerifyKeyResponse{Key: identitiesIn(r, all, n, is(f))[0]}
	for _, name := range k.Result.Names {
		for _, st := range name.Steps {
			out.Certifications = append(out.Certifications, n.link(wot.Link{From: st.Cert.By, To: f, Name: name.Text, Owner: st.Owner, Cert: st.Cert}))
		}
	}
	return out, nil
}

// compare notes that a fingerprint was compared, if one was told.
func compare(r *trust.Ring, f wot.Fingerprint, told string) error {
	if told == "" {
		return nil
	}
	err := r.Verify(f, told)
	if errors.Is(err, trust.ErrNoKey) {
		return errorf(sheafv1.Code_CODE_DECISION, "ask the owner again, by another way: this is the key of somebody else, or was altered", "%w", err)
	}
	if err != nil {
		return errorf(sheafv1.Code_CODE_USAGE, "", "%w", err)
	}
	return nil
}

// VerifySignature checks a signature on a file.
func (s *Service) VerifySignature(ctx context.Context, m *sheafv1.VerifySignatureRequest) (*sheafv1.VerifySignatureResponse, error) {
	_, r, release, err := s.ring(ctx)
	if err != nil {
		return nil, err
	}
	defer release()
	for _, p := range [][]byte{m.GetFile(), m.GetSignature()} {
		if !filepath.IsAbs(string(p)) {
			return nil, errorf(sheafv1.Code_CODE_USAGE, "", "%q is no absolute path", p)
		}
	}
	st, err := os.Stat(string(m.GetSignature()))
	if err != nil {
		return nil, err
	}
	if !st.Mode().IsRegular() || st.Size() > maxSignature {
		return nil, errorf(sheafv1.Code_CODE_USAGE, "", "%s is no file of at most %d bytes", m.GetSignature(), maxSignature)
	}
	sig, err := os.ReadFile(string(m.GetSignature()))
	if err != nil {
		return nil, err
	}
	f, err := os.Open(string(m.GetFile()))
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	var all []*pgp.Certificate
	for _, k := range r.List(s.now()) {
		if k.Result.Validity != wot.Revoked {
			all = append(all, k.Certificate)
		}
	}
	by, made, err := pgp.Verify(f, sig, all, s.now())
	if errors.Is(err, pgp.ErrNoKey) {
		return nil, errorf(sheafv1.Code_CODE_NOT_FOUND, "sheaf key import, or sheaf key find --wkd ADDRESS", "%w", err)
	}
	if err != nil {
		return nil, fmt.Errorf("verify %s: %w", m.GetFile(), err)
	}
	return &sheafv1.VerifySignatureResponse{Key: s.identity(r, by), Made: stamp(made)}, nil
}

// TrustKey says how far an owner is trusted.
func (s *Service) TrustKey(ctx context.Context, m *sheafv1.TrustKeyRequest) (*sheafv1.TrustKeyResponse, error) {
	_, r, release, err := s.ring(ctx)
	if err != nil {
		return nil, err
	}
	defer release()
	o, err := ownerOf(m.GetTrust())
	if err != nil {
		return nil, err
	}
	k, err := r.Find(m.GetKey(), s.now())
	if err != nil {
		return nil, err
	}
	if k.Owner == wot.OwnerUltimate {
		return nil, errorf(sheafv1.Code_CODE_USAGE, "", "the user's own key is trusted ultimately, always")
	}
	if err := r.SetOwner(k.Certificate.Fingerprint(), o); err != nil {
		return nil, err
	}
	return &sheafv1.TrustKeyResponse{Key: s.identity(r, k.Certificate.Fingerprint())}, nil
}

// CertifyKey certifies a key.
func (s *Service) CertifyKey(ctx context.Context, m *sheafv1.CertifyKeyRequest) (*sheafv1.CertifyKeyResponse, error) {
	_, r, release, err := s.ring(ctx)
	if err != nil {
		return nil, err
	}
	defer release()
	k, err := r.Find(m.GetKey(), s.now())
	if err != nil {
		return nil, err
	}
	f := k.Certificate.Fingerprint()
	if err := s.certify(r, f, m); err != nil {
		return nil, err
	}
	return &sheafv1.CertifyKeyResponse{Key: s.identity(r, f)}, nil
}

// certify certifies one key, or withdraws that.
func (s *Service) certify(r *trust.Ring, f wot.Fingerprint, m *sheafv1.CertifyKeyRequest) error {
	if _, err := ownOf(r); err != nil {
		return err
	}
	if m.GetWithdraw() {
		return r.Withdraw(f, s.now())
	}
	v := pgp.Vouch{Domain: m.GetDomain()}
	const most = 1<<32 - 1 // seconds
	if n := m.GetSeconds(); n < 0 || n > most || m.GetDepth() < 0 || m.GetDepth() > 255 {
		return errorf(sheafv1.Code_CODE_USAGE, "", "a certification is good for at most %d seconds, and makes introducers of at most 255 levels", int64(most))
	}
	v.Depth, v.For = uint8(m.GetDepth()), time.Duration(m.GetSeconds())*time.Second
	switch t := m.GetIntroducer(); {
	case v.Depth == 0 && t == sheafv1.OwnerTrust_OWNER_TRUST_UNSPECIFIED && v.Domain == "":
	case v.Depth > 0 && t == sheafv1.OwnerTrust_OWNER_TRUST_MARGINAL:
		v.Amount = wot.AmountMarginal
	case v.Depth > 0 && t == sheafv1.OwnerTrust_OWNER_TRUST_FULL:
		v.Amount = wot.AmountFull
	default:
		return errorf(sheafv1.Code_CODE_USAGE, "--introducer marginal, or full", "an introducer has a depth, and is trusted marginally or fully")
	}
	if err := compare(r, f, m.GetFingerprint()); err != nil {
		return err
	}
	k, err := r.Find(pgp.Hex(f), s.now())
	if err != nil {
		return err
	}
	if !k.Verified {
		return errorf(sheafv1.Code_CODE_DECISION, "ask the owner for it, by a way that nobody else can alter, and give it with --fingerprint",
			"the fingerprint of %s has not been compared yet", text(k.Certificate.Name()))
	}
	return r.Vouch(f, nil, v, s.now())
}

// RevokeKey revokes the user's own key.
func (s *Service) RevokeKey(ctx context.Context, m *sheafv1.RevokeKeyRequest) (*sheafv1.RevokeKeyResponse, error) {
	_, r, release, err := s.ring(ctx)
	if err != nil {
		return nil, err
	}
	defer release()
	own, err := ownOf(r)
	if err != nil {
		return nil, err
	}
	f := own.Certificate().Fingerprint()
	if told, err := pgp.ParseHex(m.GetFingerprint()); err != nil || told != f {
		return nil, errorf(sheafv1.Code_CODE_USAGE, "sheaf key list", "the whole fingerprint of your own key is needed, so that nobody does it by mistake")
	}
	if err := r.RevokeOwn(s.now()); err != nil {
		return nil, err
	}
	return &sheafv1.RevokeKeyResponse{Key: s.identity(r, f)}, nil
}

// ForgetKey drops a key.
func (s *Service) ForgetKey(ctx context.Context, m *sheafv1.ForgetKeyRequest) (*sheafv1.ForgetKeyResponse, error) {
	_, r, release, err := s.ring(ctx)
	if err != nil {
		return nil, err
	}
	defer release()
	k, err := r.Find(m.GetKey(), s.now())
	if err != nil {
		return nil, err
	}
	if k.Owner == wot.OwnerUltimate {
		return nil, errorf(sheafv1.Code_CODE_USAGE, "", "the user's own key is not forgotten")
	}
	return &sheafv1.ForgetKeyResponse{}, r.Forget(k.Certificate.Fingerprint())
}
