package service

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/sheaf-drive/sheaf/api/proto/sheafv1"
	"github.com/sheaf-drive/sheaf/api/proto/wirepath"
	"github.com/sheaf-drive/sheaf/vfs"
)

// doorAddr is where a door is opened if nobody says where.
var doorAddr = map[sheafv1.DoorKind]string{
	sheafv1.DoorKind_DOOR_KIND_WEBDAV: "127.0.0.1:7433", sheafv1.DoorKind_DOOR_KIND_HTTP: "127.0.0.1:7433",
	sheafv1.DoorKind_DOOR_KIND_SFTP: "127.0.0.1:7422", sheafv1.DoorKind_DOOR_KIND_S3: "127.0.0.1:7443",
}

// doorUser is who is let in if nobody says who.
const doorUser = "sheaf"

// servedNote is the name under which the drive keeps what is served.
const servedNote = "served"

// Notes keep on this device what is its doors', sealed. *sheaf.Drive's comments are the specification.
type Notes interface {
	Note(ctx context.Context, name string) ([]byte, error)
	SetNote(ctx context.Context, name string, b []byte) error
}

// A Gate is all doors of one open drive that listen on TCP. Its methods are not called at the same time.
type Gate interface {
	// Serve opens the door that what describes, sets its URL, fingerprint and certificate, and, if the port of its address is 0, that.
	Serve(ctx context.Context, what *sheafv1.Serving) (Served, error)
	// CreatePassword makes a password as what says, and returns it with its secret: chosen, or if that is "" or it signs one that chance made.
	CreatePassword(ctx context.Context, what *sheafv1.AppPassword, chosen string) (*sheafv1.AppPassword, string, error)
	// Passwords returns all, in the order in which they were made.
	Passwords(ctx context.Context) ([]*sheafv1.AppPassword, error)
	// RevokePassword takes one away. If there is none of that ID it is fs.ErrNotExist.
	RevokePassword(ctx context.Context, id string) error
	// Close gives back what the doors share. All of them are closed.
	Close(ctx context.Context) error
}

// Served is an open door.
type Served interface {
	// Close lets no new request in, and returns when all are gone.
	Close(ctx context.Context) error
	// Done is closed when it has ended, whoever ended it.
	Done() <-chan struct{}
	// Err returns why it ended, once Done is closed; nil if Close did it.
	Err() error
}

// A NewGate returns the Gate of a drive.
type NewGate func(ctx context.Context, d Drive) (Gate, error)

// doors are those of a Service.
type doors struct {
	changing sync.Mutex // held while something is opened or closed
	gate     Gate       // nil: not made yet
	release  func()     // of the drive, for gate

	mu  sync.Mutex // guards what follows
	all []*served
}

// served is one door: open, or to be.
type served struct {
	info   *sheafv1.Serving
	door   Served // nil: it could not be opened
	closed chan struct{}
}

// gateOf returns the Gate of the open drive. s.doors.changing is held.
func (s *Service) gateOf(ctx context.Context) (Gate, error) {
	if s.o.Gate == nil {
		return nil, errorf(sheafv1.Code_CODE_UNSUPPORTED, "", "nothing can be served here")
	}
	if s.doors.gate != nil {
		return s.doors.gate, nil
	}
	// It stays in use as long as the gate lives, which leave ends.
	_, d, release, err := s.use(context.Background())
	if err != nil {
		return nil, err
	}
	g, err := s.o.Gate(ctx, d)
	if err != nil {
		release()
		return nil, err
	}
	s.doors.gate, s.doors.release = g, release
	return g, nil
}

// Serve opens a door.
func (s *Service) Serve(ctx context.Context, r *sheafv1.ServeRequest) (*sheafv1.ServeResponse, error) {
	if !s.o.Daemon {
		return nil, errorf(sheafv1.Code_CODE_NO_DAEMON, "sheaf serve webdav", "only a daemon can serve")
	}
	info, err := s.doorOf(ctx, r)
	if err != nil {
		return nil, err
	}
	s.doors.changing.Lock()
	defer s.doors.changing.Unlock()
	g, err := s.gateOf(ctx)
	if err != nil {
		return nil, err
	}
	resp := &sheafv1.ServeResponse{}
	if have := s.servedAt(info.GetAddr()); have != nil {
		if !sameDoor(have, info) {
			return nil, errorf(sheafv1.Code_CODE_EXISTS, "sheaf serve stop "+have.GetAddr(), "%s serves something else already", have.GetAddr())
		}
		resp.Serving, resp.Already = have, true
		if err := s.letIn(ctx, g, r, resp); err != nil {
			return nil, err
		}
		return resp, nil
	}
	door, err := g.Serve(ctx, info)
	if err != nil {
		return nil, err
	}
	info.Since = stamp(time.Now())
	s.keepDoor(info, door)
	// Only now, or a password would be made, and shown to nobody, for a door that cannot be.
	if err = s.letIn(ctx, g, r, resp); err == nil {
		err = s.noteDoors(ctx)
	}
	if err != nil {
		return nil, errors.Join(err, s.shut(ctx, info.GetId()))
	}
	resp.Serving = proto.CloneOf(info)
	return resp, nil
}

// doorOf returns the door that a request asks for.
func (s *Service) doorOf(ctx context.Context, r *sheafv1.ServeRequest) (*sheafv1.Serving, error) {
	addr := doorAddr[r.GetKind()]
	switch {
	case addr == "":
		return nil, errorf(sheafv1.Code_CODE_USAGE, "", "what is served is webdav, http, sftp or s3")
	case r.GetKind() == sheafv1.DoorKind_DOOR_KIND_SFTP && (r.GetTls() || len(r.GetHosts()) > 0):
		return nil, errorf(sheafv1.Code_CODE_USAGE, "", "sftp has an encryption of its own, and asks for no names: neither tls nor hosts are for it")
	}
	if err := mayChoose(signs(r.GetKind()), r.GetPassword()); err != nil {
		return nil, err
	}
	info := &sheafv1.Serving{
		Id: strings.ToLower(rand.Text()[:8]), Kind: r.GetKind(), Addr: r.GetAddr(), ReadOnly: r.GetReadOnly() || r.GetKind() == sheafv1.DoorKind_DOOR_KIND_HTTP,
		Tls: r.GetTls(), Hosts: r.GetHosts(), KeepLitter: r.GetKeepLitter(),
	}
	if info.Addr == "" {
		info.Addr = addr
	}
	p, err := s.folderOf(ctx, r.GetPath())
	info.Path = p
	return info, err
}

// signs reports whether clients of a door sign their requests.
func signs(k sheafv1.DoorKind) bool { return k == sheafv1.DoorKind_DOOR_KIND_S3 }

// mayChoose returns an error if somebody chose what chance has to make: from a signature that he sees, anybody may guess at a secret.
func mayChoose(signs bool, password []byte) error {
	if signs && len(password) > 0 {
		return errorf(sheafv1.Code_CODE_USAGE, "leave the password out: a key is made", "the keys of S3 are made by chance")
	}
	return nil
}

// folderOf returns how the contract calls a folder of the drive, "" for all of it. It must be there.
func (s *Service) folderOf(ctx context.Context, text string) (string, error) {
	_, n, p, release, err := s.find(ctx, text, "")
	if err != nil {
		return "", err
	}
	defer release()
	if _, ok := n.(vfs.Dir); !ok {
		return "", fmt.Errorf("serve: %w", vfs.ErrNotDir)
	}
	if p == "" {
		return "", nil
	}
	return wirepath.Encode("/" + p), nil
}

// letIn sees to it that somebody may pass the door of a request.
func (s *Service) letIn(ctx context.Context, g Gate, r *sheafv1.ServeRequest, resp *sheafv1.ServeResponse) error {
	user := r.GetUser()
	if user == "" {
		user = doorUser
	}
	signs := signs(r.GetKind())
	if len(r.GetPassword()) == 0 {
		all, err := g.Passwords(ctx)
		if err != nil || slices.ContainsFunc(all, func(p *sheafv1.AppPassword) bool { return p.GetUser() == user && (p.GetSigns() || !signs) }) {
			return err
		}
	}
	p, secret, err := g.CreatePassword(ctx, &sheafv1.AppPassword{Name: "made by serve", User: user, Signs: signs}, string(r.GetPassword()))
	if err != nil {
		return err
	}
	resp.AppPassword = p
	if len(r.GetPassword()) == 0 {
		resp.Secret = secret
	}
	return nil
}

// servedAt returns the door at an address, or nil.
func (s *Service) servedAt(addr string) *sheafv1.Serving {
	s.doors.mu.Lock()
	defer s.doors.mu.Unlock()
	for _, d := range s.doors.all {
		if d.info.GetAddr() == strings.Replace(addr, "localhost:", "127.0.0.1:", 1) && d.door != nil {
			return proto.CloneOf(d.info)
		}
	}
	return nil
}

// sameDoor reports whether two doors show the same in the same way.
func sameDoor(a, b *sheafv1.Serving) bool {
	return a.GetKind() == b.GetKind() && a.GetPath() == b.GetPath() && a.GetReadOnly() == b.GetReadOnly() && a.GetTls() == b.GetTls() &&
		a.GetKeepLitter() == b.GetKeepLitter() && slices.Equal(a.GetHosts(), b.GetHosts())
}

// keepDoor lists a door until it ends, whoever ends it. s.doors.changing is held.
func (s *Service) keepDoor(info *sheafv1.Serving, door Served) {
	d := &served{info: info, door: door, closed: make(chan struct{})}
	s.doors.mu.Lock()
	s.doors.all = slices.DeleteFunc(s.doors.all, func(o *served) bool { return o.info.GetAddr() == info.GetAddr() })
	s.doors.all = append(s.doors.all, d)
	s.doors.mu.Unlock()
	go func() {
		defer close(d.closed)
		<-door.Done()
		if err := door.Err(); err != nil {
			s.o.Log.Error("a door ended", "addr", info.GetAddr(), "error", err)
			s.doors.mu.Lock()
			defer s.doors.mu.Unlock()
			d.door, d.info.Since, d.info.Error = nil, nil, err.Error()
		}
	}()
}

// noteDoors makes durable what is to be served from now on. s.doors.changing is held.
func (s *Service) noteDoors(ctx context.Context) error {
	_, d, release, err := s.use(context.WithoutCancel(ctx))
	if err != nil {
		return err
	}
	defer release()
	s.doors.mu.Lock()
	m := &sheafv1.ListServingResponse{Servings: s.servings()}
	s.doors.mu.Unlock()
	b, err := protojson.Marshal(m)
	if err != nil {
		return fmt.Errorf("keep what is served: %w", err)
	}
	return d.SetNote(context.WithoutCancel(ctx), servedNote, b)
}

// servings returns what is served. s.doors.mu is held.
func (s *Service) servings() []*sheafv1.Serving {
	var l []*sheafv1.Serving
	for _, d := range s.doors.all {
		l = append(l, proto.CloneOf(d.info))
	}
	return l
}

// openDoors opens those that the drive was served by when it was open last. What cannot be opened is told to the log, and stays in the list.
func (s *Service) openDoors(ctx context.Context) {
	if s.o.Gate == nil || !s.o.Daemon {
		return
	}
	s.doors.changing.Lock()
	defer s.doors.changing.Unlock()
	_, d, release, err := s.use(ctx)
	if err != nil {
		return
	}
	defer release()
	b, err := d.Note(ctx, servedNote)
	if err != nil || len(b) == 0 {
		if err != nil {
			s.o.Log.Error("it is not known what was served", "error", err)
		}
		return
	}
	var m sheafv1.ListServingResponse
	if err := (protojson.UnmarshalOptions{DiscardUnknown: true}).Unmarshal(b, &m); err != nil {
		s.o.Log.Error("it is not known what was served", "error", err)
		return
	}
	for _, info := range m.GetServings() {
		g, err := s.gateOf(ctx)
		var door Served
		if err == nil {
			info.Error = ""
			door, err = g.Serve(ctx, info)
		}
		if err != nil {
			s.o.Log.Error("a door cannot be opened again", "addr", info.GetAddr(), "error", err)
			info.Since, info.Error = nil, err.Error()
			s.doors.mu.Lock()
			s.doors.all = append(s.doors.all, &served{info: info})
			s.doors.mu.Unlock()
			continue
		}
		info.Since = stamp(time.Now())
		s.keepDoor(info, door)
	}
}

// ListServing says what is served.
func (s *Service) ListServing(context.Context, *sheafv1.ListServingRequest) (*sheafv1.ListServingResponse, error) {
	s.doors.mu.Lock()
	defer s.doors.mu.Unlock()
	return &sheafv1.ListServingResponse{Servings: s.servings()}, nil
}

// StopServing closes a door, or all.
func (s *Service) StopServing(ctx context.Context, r *sheafv1.StopServingRequest) (*sheafv1.StopServingResponse, error) {
	s.doors.changing.Lock()
	defer s.doors.changing.Unlock()
	want := r.GetDoor()
	s.doors.mu.Lock()
	resp := &sheafv1.StopServingResponse{}
	for _, i := range s.servings() {
		if want == "" || want == i.GetId() || want == i.GetAddr() || strings.TrimSuffix(want, "/") == strings.TrimSuffix(i.GetUrl(), "/") {
			resp.Stopped = append(resp.Stopped, i)
		}
	}
	s.doors.mu.Unlock()
	if len(resp.Stopped) == 0 && want != "" {
		return nil, errorf(sheafv1.Code_CODE_NOT_FOUND, "sheaf serve list", "nothing is served at %s", want)
	}
	var errs error
	for _, i := range resp.Stopped {
		errs = errors.Join(errs, s.shut(ctx, i.GetId()))
	}
	if len(resp.Stopped) > 0 {
		errs = errors.Join(errs, s.noteDoors(ctx))
	}
	if errs != nil {
		return nil, errs
	}
	return resp, nil
}

// shut closes one door and takes it out of the list. s.doors.changing is held.
func (s *Service) shut(ctx context.Context, id string) error {
	s.doors.mu.Lock()
	i := slices.IndexFunc(s.doors.all, func(d *served) bool { return d.info.GetId() == id })
	if i < 0 {
		s.doors.mu.Unlock()
		return nil
	}
	d, door := s.doors.all[i], s.doors.all[i].door
	s.doors.all = slices.Delete(s.doors.all, i, i+1)
	s.doors.mu.Unlock()
	if door == nil {
		return nil
	}
	err := door.Close(ctx)
	<-d.closed
	return err
}

// shutAll closes all doors for this time: they are opened again with the drive.
func (s *Service) shutAll(ctx context.Context) error {
	s.doors.changing.Lock()
	defer s.doors.changing.Unlock()
	s.doors.mu.Lock()
	all := s.servings()
	s.doors.mu.Unlock()
	var errs error
	for _, i := range all {
		errs = errors.Join(errs, s.shut(ctx, i.GetId()))
	}
	if s.doors.gate != nil {
		errs = errors.Join(errs, s.doors.gate.Close(ctx))
		s.doors.release()
		s.doors.gate = nil
	}
	return errs
}

// CreateAppPassword makes a password for one client.
func (s *Service) CreateAppPassword(ctx context.Context, r *sheafv1.CreateAppPasswordRequest) (*sheafv1.CreateAppPasswordResponse, error) {
	if err := mayChoose(r.GetSigns(), r.GetPassword()); err != nil {
		return nil, err
	}
	what := &sheafv1.AppPassword{Name: r.GetName(), User: r.GetUser(), ReadOnly: r.GetReadOnly(), Signs: r.GetSigns()}
	if what.User == "" {
		what.User = doorUser
	}
	var err error
	if what.Path, err = s.folderOf(ctx, r.GetPath()); err != nil {
		return nil, err
	}
	s.doors.changing.Lock()
	defer s.doors.changing.Unlock()
	g, err := s.gateOf(ctx)
	if err != nil {
		return nil, err
	}
	p, secret, err := g.CreatePassword(ctx, what, string(r.GetPassword()))
	if err != nil {
		return nil, err
	}
	if len(r.GetPassword()) > 0 {
		secret = ""
	}
	return &sheafv1.CreateAppPasswordResponse{AppPassword: p, Secret: secret}, nil
}

// ListAppPasswords says which there are.
func (s *Service) ListAppPasswords(ctx context.Context, _ *sheafv1.ListAppPasswordsRequest) (*sheafv1.ListAppPasswordsResponse, error) {
	s.doors.changing.Lock()
	defer s.doors.changing.Unlock()
	g, err := s.gateOf(ctx)
	if err != nil {
		return nil, err
	}
	all, err := g.Passwords(ctx)
	if err != nil {
		return nil, err
	}
	return &sheafv1.ListAppPasswordsResponse{AppPasswords: all}, nil
}

// RevokeAppPassword takes a password away.
func (s *Service) RevokeAppPassword(ctx context.Context, r *sheafv1.RevokeAppPasswordRequest) (*sheafv1.RevokeAppPasswordResponse, error) {
	s.doors.changing.Lock()
	defer s.doors.changing.Unlock()
	g, err := s.gateOf(ctx)
	if err != nil {
		return nil, err
	}
	if err := g.RevokePassword(ctx, r.GetId()); err != nil {
		return nil, err
	}
	return &sheafv1.RevokeAppPasswordResponse{}, nil
}
