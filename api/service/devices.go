package service

import (
	"context"
	"slices"
	"strings"

	sheaf "github.com/sheaf-drive/sheaf"
	"github.com/sheaf-drive/sheaf/api/peering"
	"github.com/sheaf-drive/sheaf/api/proto/sheafv1"
	"github.com/sheaf-drive/sheaf/sync/trust"
	"github.com/sheaf-drive/sheaf/sync/trust/pgp"
	"github.com/sheaf-drive/sheaf/sync/trust/wot"
	"github.com/sheaf-drive/sheaf/vfs/manifest"
)

// fleet is the devices of the drive, with what this device thinks of them.
type fleet struct {
	s     *Service
	drive [16]byte
	ring  *trust.Ring // nil: there is none, or it cannot be read
	lost  bool        // it cannot be read
	all   []sheaf.DeviceInfo
	names names
	owned []trust.Known
	met   map[string]peering.Peer // by ID
}

// fleet looks at the devices of the drive. Without the OpenPGP keys, whose file may be damaged, they are shown all the same.
func (s *Service) fleet(ctx context.Context, d Drive) (*fleet, error) {
	all, err := d.Devices(ctx)
	if err != nil {
		return nil, err
	}
	f := &fleet{s: s, drive: d.DriveID(), all: all, met: map[string]peering.Peer{}}
	if s.o.Trust != nil {
		if f.ring, err = s.o.Trust.Ring(); err != nil {
			s.o.Log.Warn("who owns the devices is not known", "err", err)
			f.ring, f.lost = nil, true
		}
	}
	if f.ring != nil {
		f.owned = f.ring.List(s.now())
		f.names = keyNames(f.owned)
	}
	if s.o.Peers != nil {
		if p := s.o.Peers.Peering(); p != nil {
			for _, x := range p.Peers() {
				f.met[x.ID] = x
			}
		}
	}
	return f, nil
}

// meant returns the devices that a text may mean: by their names here, or as sheaf.DeviceInfo.Is has it.
func (f *fleet) meant(text string) (found []sheaf.DeviceInfo) {
	for _, x := range f.all {
		if f.name(x) == text || x.Is(text) {
			found = append(found, x)
		}
	}
	return found
}

// find returns the one device that is meant.
func (f *fleet) find(text string) (sheaf.DeviceInfo, error) {
	found := f.meant(text)
	switch len(found) {
	case 0:
		return sheaf.DeviceInfo{}, errorf(sheafv1.Code_CODE_NOT_FOUND, "sheaf device list", "%w: %s", sheaf.ErrNoDevice, text)
	case 1:
		return found[0], nil
	}
	return sheaf.DeviceInfo{}, errorf(sheafv1.Code_CODE_NOT_FOUND, "sheaf device list, and then its ID", "%w: that may be more than one: %s", sheaf.ErrNoDevice, text)
}

// name returns how a device is called here.
func (f *fleet) name(x sheaf.DeviceInfo) string {
	if f.ring != nil {
		if n := f.ring.Device(x.Key).Name; n != "" {
			return n
		}
	}
	return x.Name
}

// The reasons in words.
var reasons = map[wot.Reason]string{
	wot.NoMember: "it is no member of the drive", wot.Refused: "you said no", wot.OwnerRevoked: "its owner's key was revoked",
	wot.Unowned: "it has shown no record of who owns it", wot.Unvouched: "its owner's key is not valid enough", wot.Told: "you said yes",
	wot.Enough: "it is a member, and nothing else is needed", wot.Vouched: "its owner's key is valid",
}

// device says what is known of a device.
func (f *fleet) device(x sheaf.DeviceInfo) *sheafv1.Device {
	m := deviceOf(x)
	m.Accepted, m.Why = !x.Revoked, reasons[wot.Enough]
	if x.Revoked {
		m.Why = "it was revoked"
	}
	if p, ok := f.met[x.ID]; ok {
		m.Way, m.At = p.Way, p.At
	}
	if f.lost && !x.Self && !x.Revoked {
		m.Accepted, m.Why = false, "what this device thinks of others cannot be read: sheaf key list says why"
	}
	if f.ring == nil {
		return m
	}
	if m.Name = f.name(x); m.Name != x.Name {
		m.GivenName = x.Name
	}
	d := f.ring.Device(x.Key)
	for _, k := range f.owned {
		if d.Owner != "" && k.Certificate.Fingerprint() == d.Owner {
			own := f.ring.Own()
			m.Owner = f.names.identity(k, own != nil && own.Certificate().Fingerprint() == d.Owner)
		}
	}
	if x.Self {
		m.Why = "it is this one"
		return m
	}
	v, limit := f.ring.Accept(x.Key, f.drive, !x.Revoked, f.s.now())
	if !x.Revoked {
		m.Accepted, m.Why = v.Accepted, reasons[v.Reason]
	}
	if limit == trust.LimitReadOnly && m.Role == roleFull {
		m.Role = roleReadOnly
	}
	return m
}

// The roles in words.
const (
	roleFull     = "full"
	roleReadOnly = "read-only"
)

// needs are the words of the contract.
var needs = map[wot.Need]sheafv1.Need{
	wot.NeedMember: sheafv1.Need_NEED_MEMBER, wot.NeedMarginal: sheafv1.Need_NEED_MARGINAL, wot.NeedFull: sheafv1.Need_NEED_FULL,
}

// need says what members need here.
func (f *fleet) need() sheafv1.Need {
	if f.ring == nil {
		return sheafv1.Need_NEED_MEMBER
	}
	return needs[f.ring.Need()]
}

// setNeed says what members need here, if anything is said.
func (f *fleet) setNeed(m sheafv1.Need) error {
	if m == sheafv1.Need_NEED_UNSPECIFIED {
		return nil
	}
	for n, x := range needs {
		if x == m {
			return f.ring.SetNeed(n)
		}
	}
	return errorf(sheafv1.Code_CODE_USAGE, "member, marginal or full", "there is no such need")
}

// Devices has the devices of the drive.
func (s *Service) Devices(ctx context.Context, r *sheafv1.DevicesListRequest) (*sheafv1.DevicesListResponse, error) {
	ctx, d, release, err := s.use(ctx)
	if err != nil {
		return nil, err
	}
	defer release()
	f, err := s.fleet(ctx, d)
	if err != nil {
		return nil, err
	}
	resp := &sheafv1.DevicesListResponse{Need: f.need()}
	if r.GetDevice() != "" {
		x, err := f.find(r.GetDevice())
		if err != nil {
			return nil, err
		}
		f.all = []sheaf.DeviceInfo{x}
	}
	for _, x := range f.all {
		resp.Devices = append(resp.Devices, f.device(x))
	}
	return resp, nil
}

func deviceOf(x sheaf.DeviceInfo) *sheafv1.Device {
	m := &sheafv1.Device{
		Id: x.ID, Name: x.Name, Self: x.Self, Writer: x.Writer, Revoked: x.Revoked, Added: stamp(x.Added), Seen: stamp(x.Seen), Role: roleReadOnly,
	}
	if x.Writer {
		m.Role = roleFull
	}
	if x.Err != nil {
		m.Error = x.Err.Error()
	}
	return m
}

// RevokeDevice ends the membership of a device.
func (s *Service) RevokeDevice(ctx context.Context, r *sheafv1.DevicesRevokeRequest) (*sheafv1.DevicesRevokeResponse, error) {
	ctx, d, release, err := s.use(ctx)
	if err != nil {
		return nil, err
	}
	defer release()
	f, err := s.fleet(ctx, d)
	if err != nil {
		return nil, err
	}
	name := r.GetDevice()
	switch x, err := f.find(name); {
	case err == nil:
		name = x.ID // it may be called so here only
	case len(f.meant(name)) > 1:
		return nil, err // the drive may know one of them only by that name, and that need not be the one
	}
	resp := s.readable(ctx, d)
	x, err := d.Revoke(ctx, name)
	if err != nil {
		return nil, err
	}
	resp.Device = deviceOf(x)
	return resp, nil
}

// readable says what every device can read now. That it is not known in full keeps nobody from revoking one.
func (s *Service) readable(ctx context.Context, d Drive) *sheafv1.DevicesRevokeResponse {
	if err := d.Commit(ctx); err != nil {
		s.o.Log.Warn("what was changed last is not in what the device may hold", "err", err)
	}
	now := d.State()
	resp := &sheafv1.DevicesRevokeResponse{Files: int64(now.Files), Bytes: int64(now.Bytes)}
	all, err := d.Snapshots(ctx)
	if err != nil {
		s.o.Log.Warn("which snapshots there are is not known", "err", err)
	}
	if i := slices.IndexFunc(all, func(k manifest.Kept) bool { return k.Root == now.Root }); i >= 0 {
		resp.Snapshot = all[i].Dot.String()
	}
	return resp
}

// known is fleet for what needs the OpenPGP keys, and finds one device.
func (s *Service) known(ctx context.Context, device string) (_ context.Context, f *fleet, x sheaf.DeviceInfo, release func(), err error) {
	ctx, d, release, err := s.use(ctx)
	if err == nil {
		if f, err = s.fleet(ctx, d); err == nil && f.ring == nil {
			if s.o.Trust == nil {
				err = errorf(sheafv1.Code_CODE_UNSUPPORTED, "", "nothing is kept of devices here")
			} else {
				_, err = s.o.Trust.Ring()
			}
		}
		if err == nil && device != "" {
			x, err = f.find(device)
		}
		if err != nil {
			release()
		}
	}
	return ctx, f, x, release, err
}

// again says what holds now of a device.
func (f *fleet) again(x sheaf.DeviceInfo) *sheafv1.Device {
	f.owned = f.ring.List(f.s.now())
	f.names = keyNames(f.owned)
	return f.device(x)
}

// RenameDevice says how a device is called here.
func (s *Service) RenameDevice(ctx context.Context, r *sheafv1.DevicesRenameRequest) (*sheafv1.DevicesRenameResponse, error) {
	_, f, x, release, err := s.known(ctx, r.GetDevice())
	if err != nil {
		return nil, err
	}
	defer release()
	name := r.GetName()
	if r.GetDevice() == "" || len(name) > 255 || strings.HasPrefix(strings.ToUpper(name), "SHF-") {
		return nil, errorf(sheafv1.Code_CODE_USAGE, "", "a device is called by a name of at most 255 bytes that is no ID")
	}
	for _, o := range f.all {
		if name != "" && o.ID != x.ID && (f.name(o) == name || o.Name == name) {
			return nil, errorf(sheafv1.Code_CODE_EXISTS, "sheaf device list", "another device is called %s", name)
		}
	}
	if err := f.ring.SetDevice(x.Key, func(d *trust.Device) { d.Name = name }); err != nil {
		return nil, err
	}
	return &sheafv1.DevicesRenameResponse{Device: f.again(x)}, nil
}

// TrustDevice says which devices are accepted here.
func (s *Service) TrustDevice(ctx context.Context, r *sheafv1.DevicesTrustRequest) (*sheafv1.DevicesTrustResponse, error) {
	_, f, x, release, err := s.known(ctx, r.GetDevice())
	if err != nil {
		return nil, err
	}
	defer release()
	if r.GetDevice() == "" {
		if r.GetNeed() == sheafv1.Need_NEED_UNSPECIFIED {
			return nil, errorf(sheafv1.Code_CODE_USAGE, "name a device, or say what all need: --need full", "it is not said what is trusted")
		}
		if err := f.setNeed(r.GetNeed()); err != nil {
			return nil, err
		}
		return &sheafv1.DevicesTrustResponse{Need: f.need()}, nil
	}
	answers := map[sheafv1.Answer]trust.Answer{
		sheafv1.Answer_ANSWER_YES: wot.AnswerYes, sheafv1.Answer_ANSWER_NO: wot.AnswerNo, sheafv1.Answer_ANSWER_WITHDRAWN: wot.AnswerNone,
	}
	answer, said := answers[r.GetAnswer()]
	var limit trust.Limit
	switch r.GetRole() {
	case "", roleFull:
		if !x.Writer && r.GetRole() == roleFull {
			return nil, errorf(sheafv1.Code_CODE_DECISION, "revoke it, and let it in anew: sheaf invite", "%s may not write to the drive, and nothing here gives it that", f.name(x))
		}
	case roleReadOnly:
		limit = trust.LimitReadOnly
	default:
		return nil, errorf(sheafv1.Code_CODE_USAGE, "sheaf device trust NAME --role read-only, or sheaf device revoke NAME", "a device that is a member has its keys, so here it can be limited to read-only and nothing else")
	}
	switch {
	case x.Self:
		return nil, errorf(sheafv1.Code_CODE_USAGE, "", "it is this device")
	case x.Revoked:
		return nil, errorf(sheafv1.Code_CODE_DECISION, "let it in anew: sheaf invite", "%w: nothing makes it a member again", sheaf.ErrRevoked)
	}
	if err := f.setNeed(r.GetNeed()); err != nil { // when nothing is wrong with the rest
		return nil, err
	}
	err = f.ring.SetDevice(x.Key, func(d *trust.Device) {
		if said {
			d.Answer = answer
		}
		if r.GetRole() != "" {
			d.Limit = limit
		}
	})
	if err != nil {
		return nil, err
	}
	return &sheafv1.DevicesTrustResponse{Device: f.again(x), Need: f.need()}, nil
}

// VouchForDevice certifies a device as the user's own, or the key of its owner.
func (s *Service) VouchForDevice(ctx context.Context, r *sheafv1.DevicesVouchRequest) (*sheafv1.DevicesVouchResponse, error) {
	_, f, x, release, err := s.known(ctx, r.GetDevice())
	if err != nil {
		return nil, err
	}
	defer release()
	if _, err := ownOf(f.ring); err != nil {
		return nil, err
	}
	switch {
	case r.GetDevice() == "":
		return nil, errorf(sheafv1.Code_CODE_USAGE, "sheaf device list", "it is not said for which device")
	case x.Revoked:
		return nil, errorf(sheafv1.Code_CODE_DECISION, "", "%w: nobody vouches for it", sheaf.ErrRevoked)
	case x.Self || r.GetMine():
		if err := s.claim(f.ring, f.drive, x); err != nil {
			return nil, err
		}
		return &sheafv1.DevicesVouchResponse{Device: f.again(x)}, nil
	}
	owner := f.ring.Device(x.Key).Owner
	if owner == "" {
		return nil, errorf(sheafv1.Code_CODE_NOT_FOUND, "on that device: sheaf key new NAME, or sheaf key import --own FILE; if it is your own: sheaf device vouch --mine",
			"no record of who owns %s has come yet", f.name(x))
	}
	err = s.certify(f.ring, owner, &sheafv1.CertifyKeyRequest{
		Key: pgp.Hex(owner), Fingerprint: r.GetFingerprint(), Depth: r.GetDepth(), Introducer: r.GetIntroducer(), Withdraw: r.GetWithdraw(),
	})
	if err != nil {
		return nil, err
	}
	return &sheafv1.DevicesVouchResponse{Device: f.again(x)}, nil
}

// claim certifies a device as the user's own.
func (s *Service) claim(r *trust.Ring, drive [16]byte, x sheaf.DeviceInfo) error {
	return r.Claim(trust.Record{Drive: drive, Sign: x.Key, KEM: x.KEM, Name: x.Name, Created: s.now()}, s.now())
}

// claimSelf certifies this device as the user's own.
func (s *Service) claimSelf(ctx context.Context, r *trust.Ring) error {
	ctx, d, release, err := s.use(ctx)
	if err != nil {
		return err
	}
	defer release()
	all, err := d.Devices(ctx)
	if err != nil {
		return err
	}
	for _, x := range all {
		if x.Self {
			return s.claim(r, d.DriveID(), x)
		}
	}
	return nil
}
