package service

import (
	"context"
	"errors"
	"fmt"
	"path"
	"strings"

	sheaf "github.com/sheaf-drive/sheaf"
	"github.com/sheaf-drive/sheaf/api/proto/sheafv1"
	"github.com/sheaf-drive/sheaf/chunkstore/blob"
	"github.com/sheaf-drive/sheaf/sync/engine"
)

// Many is a drive in many places.
type Many interface {
	// Replicas keeps them alike; nil: this drive has only its store.
	Replicas() *engine.Engine
	// Bucket is all that this device has and knows of the replicas; Own what it has put itself.
	Bucket() blob.Bucket
	Own() blob.Bucket
	// Expected is what package sheaf says.
	Expected(ctx context.Context, place blob.Bucket) ([]blob.Name, error)
	// Keeping says where their content is.
	Keeping
	// Conflicting says what devices wrote without having seen each other.
	Conflicting
	// Devices and Revoke are what package sheaf says.
	Devices(ctx context.Context) ([]sheaf.DeviceInfo, error)
	Revoke(ctx context.Context, device string) (sheaf.DeviceInfo, error)
	DriveID() [16]byte
}

// Conflicting is a drive that several devices write to, as package sheaf says.
type Conflicting interface {
	Conflicts(ctx context.Context, path string) ([]sheaf.Conflict, error)
	MergeText(ctx context.Context, c sheaf.Conflict) (string, error)
}

// A Reach knows the places that people name: a remote and a path in it, or a folder of this machine.
type Reach interface {
	// Open reaches a place. The Bucket is closed, if it is an io.Closer, by whoever has it. With make, a folder that is not
	// there is made.
	Open(ctx context.Context, at string, make bool) (blob.Bucket, error)
	// Keep notes the replicas of the drive, durably: they are there when it is opened the next time.
	Keep(all []Replica) error
	// Replicas returns what Keep noted last.
	Replicas() ([]Replica, error)
}

// A Replica is what is kept of one.
type Replica struct{ Name, At string }

// many returns the engine of the open drive.
func many(d Drive) (*engine.Engine, error) {
	if e := d.Replicas(); e != nil {
		return e, nil
	}
	return nil, errorf(sheafv1.Code_CODE_UNSUPPORTED, "", "this drive has its store, and no replicas")
}

func replicaError(err error) error {
	switch {
	case errors.Is(err, engine.ErrNotFound):
		return errorf(sheafv1.Code_CODE_NOT_FOUND, "sheaf replica list", "%v", err)
	case errors.Is(err, engine.ErrExists):
		return errorf(sheafv1.Code_CODE_EXISTS, "choose another name: sheaf replica add AT --name NAME", "%v", err)
	}
	return err
}

// AddReplica makes a place a replica.
func (s *Service) AddReplica(ctx context.Context, r *sheafv1.ReplicasAddRequest) (*sheafv1.Replica, error) {
	ctx, d, release, err := s.use(ctx)
	if err != nil {
		return nil, err
	}
	defer release()
	e, err := many(d)
	if err != nil {
		return nil, err
	}
	at, name := r.GetAt(), r.GetName()
	if at == "" {
		return nil, errorf(sheafv1.Code_CODE_USAGE, "sheaf replica add nas:drive", "no place is named")
	}
	if err := s.keepable(at); err != nil {
		return nil, err
	}
	if name == "" {
		name = PlaceName(at)
	}
	if strings.ContainsAny(name, ":/\\\n\"") {
		return nil, errorf(sheafv1.Code_CODE_USAGE, "", "replica name %q has one of : / \\ and quotes in it", name)
	}
	b, err := s.o.Reach.Open(ctx, at, true)
	if err != nil {
		return nil, fmt.Errorf("reach %s: %w", at, err)
	}
	err = sheaf.SameDrive(ctx, d.Bucket(), b)
	closeBucket(b)
	if errors.Is(err, sheaf.ErrOtherDrive) {
		return nil, errorf(sheafv1.Code_CODE_EXISTS, "name an empty folder", "%s holds another drive", at)
	}
	if err != nil {
		return nil, fmt.Errorf("look into %s: %w", at, err)
	}
	s.replicas.Lock()
	defer s.replicas.Unlock()
	if p, err := ParsePlace(at); err == nil && p.Name != "" && s.o.Remotes != nil {
		if _, err := s.o.Remotes.get(p.Name); err != nil { // taken away meanwhile
			return nil, err
		}
	}
	if err := e.Add(s.place(Replica{Name: name, At: at})); err != nil {
		return nil, replicaError(err)
	}
	if err := s.keepReplicas(e); err != nil {
		return nil, errors.Join(err, e.Drop(name))
	}
	for _, st := range e.List() {
		if st.Name == name {
			return replicaOf(&st), nil
		}
	}
	return &sheafv1.Replica{Name: name, At: at}, nil
}

// PlaceName is what a place is called if nobody says otherwise: its remote's name, its kind, or its folder's name.
func PlaceName(at string) string {
	p, err := ParsePlace(at)
	switch {
	case err == nil && p.Name != "":
		return p.Name
	case err == nil && p.Kind != "":
		return p.Kind
	case err == nil:
		at = p.Path
	}
	return strings.NewReplacer(":", "-", "\\", "-", "\"", "").Replace(path.Base(at))
}

func closeBucket(b blob.Bucket) {
	if c, ok := b.(interface{ Close() error }); ok {
		_ = c.Close() // it was only read from
	}
}

// place is a replica for the engine.
func (s *Service) place(r Replica) engine.Place {
	return engine.Place{Name: r.Name, At: r.At, Open: func(ctx context.Context) (blob.Bucket, error) { return s.o.Reach.Open(ctx, r.At, false) }}
}

// keepReplicas notes the replicas for the next time. s.replicas is held.
func (s *Service) keepReplicas(e *engine.Engine) error {
	var all []Replica
	for _, st := range e.List() {
		if !st.Passing {
			all = append(all, Replica{Name: st.Name, At: st.At})
		}
	}
	return s.o.Reach.Keep(all)
}

// Replicas has all replicas.
func (s *Service) Replicas(ctx context.Context, _ *sheafv1.ReplicasListRequest) (*sheafv1.ReplicasListResponse, error) {
	_, d, release, err := s.use(ctx)
	if err != nil {
		return nil, err
	}
	defer release()
	return &sheafv1.ReplicasListResponse{Replicas: replicasOf(d)}, nil
}

func replicasOf(d Drive) []*sheafv1.Replica {
	e := d.Replicas()
	if e == nil {
		return nil
	}
	var all []*sheafv1.Replica
	for _, st := range e.List() {
		if !st.Here { // what peers put here is no place of its own
			all = append(all, replicaOf(&st))
		}
	}
	return all
}

// copiesOf counts the places that have all that is in packs here.
func copiesOf(all []*sheafv1.Replica) int32 {
	n := int32(1)
	for _, r := range all {
		if r.GetKnown() && r.GetLagBlobs() == 0 {
			n++
		}
	}
	return n
}

func replicaOf(st *engine.Status) *sheafv1.Replica {
	r := &sheafv1.Replica{
		Name: st.Name, At: st.At, Online: st.Online, Busy: st.Busy, Known: st.Known, LagBlobs: int64(st.LagBlobs), LagBytes: st.LagBytes,
		Pushed: stamp(st.Pushed), Fetched: stamp(st.Fetched), Verified: stamp(st.Verified), Packs: int64(st.Packs), Bytes: st.Bytes,
		TurnBytes: st.TurnBytes, TurnTotal: st.TurnTotal, Turn: int64(st.Turn),
	}
	if st.Err != nil {
		e := Explain(st.Err)
		r.Error, r.Code, r.Hint = e.Error(), e.Code, hintAt(e.Hint, st.At)
	}
	return r
}

// RemoveReplica makes a place none any more.
func (s *Service) RemoveReplica(ctx context.Context, r *sheafv1.ReplicasRemoveRequest) (*sheafv1.ReplicasRemoveResponse, error) {
	ctx, d, release, err := s.use(ctx)
	if err != nil {
		return nil, err
	}
	defer release()
	e, err := many(d)
	if err != nil {
		return nil, err
	}
	for _, st := range e.List() {
		if st.Name == r.GetName() && st.Passing {
			return nil, errorf(sheafv1.Code_CODE_UNSUPPORTED, "sheaf device revoke NAME", "%s is a replica because it is a device of the drive", r.GetName())
		}
	}
	s.replicas.Lock()
	defer s.replicas.Unlock()
	if r.GetForce() {
		err = e.Drop(r.GetName())
	} else {
		var only int
		if only, err = e.DropSpare(ctx, r.GetName()); only > 0 && err == nil {
			return nil, errorf(sheafv1.Code_CODE_DECISION, "copy them first (sheaf replica heal), or give them up: --force",
				"%d packs of the drive are at %s and, as far as is known, nowhere else", only, r.GetName())
		}
	}
	if err != nil {
		return nil, replicaError(err)
	}
	return &sheafv1.ReplicasRemoveResponse{}, s.keepReplicas(e)
}

// SyncReplicas gives all replicas a turn.
func (s *Service) SyncReplicas(ctx context.Context, _ *sheafv1.ReplicasSyncRequest) (*sheafv1.ReplicasListResponse, error) {
	ctx, d, release, err := s.use(ctx)
	if err != nil {
		return nil, err
	}
	defer release()
	e, err := many(d)
	if err != nil {
		return nil, err
	}
	if err := d.Commit(ctx); err != nil {
		return nil, err
	}
	if err := e.Sync(ctx); err != nil && ctx.Err() != nil {
		return nil, ctx.Err()
	}
	return &sheafv1.ReplicasListResponse{Replicas: replicasOf(d)}, nil // each says what is wrong with it
}
