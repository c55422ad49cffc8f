package rpc

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"strings"

	"connectrpc.com/connect"
	"connectrpc.com/grpchealth"
	"connectrpc.com/grpcreflect"

	"github.com/sheaf-drive/sheaf/api/access"
	"github.com/sheaf-drive/sheaf/api/proto/sheafv1"
	"github.com/sheaf-drive/sheaf/api/proto/sheafv1/sheafv1connect"
	"github.com/sheaf-drive/sheaf/api/service"
)

// maxMessage is the longest message that is taken in, in bytes. An upload's parts are at most
// 1 MiB; the rest is paths and words.
const maxMessage = 4 << 20

// NewHandler returns the handler of all services over s for a listener that only this user reaches: whoever can call it
// may do everything.
func NewHandler(s *service.Service) http.Handler {
	return access.Local(NewGuarded(s, slog.New(slog.DiscardHandler)))
}

// NewGuarded returns the handler of all services over s. A caller may do what the access.Grant in the context of the request allows, and
// without one nothing. Refusals go to log.
func NewGuarded(s *service.Service, log *slog.Logger) http.Handler {
	o := []connect.HandlerOption{connect.WithReadMaxBytes(maxMessage), connect.WithInterceptors(errorMapper{}, guard{log})}
	mux := http.NewServeMux()
	var names []string
	for _, h := range []func() (string, http.Handler){
		func() (string, http.Handler) { return sheafv1connect.NewDrivesHandler(drives{s}, o...) },
		func() (string, http.Handler) { return sheafv1connect.NewFilesHandler(files{s}, o...) },
		func() (string, http.Handler) { return sheafv1connect.NewSnapshotsHandler(snapshots{s}, o...) },
		func() (string, http.Handler) { return sheafv1connect.NewMountsHandler(mounts{s}, o...) },
		func() (string, http.Handler) { return sheafv1connect.NewStoreHandler(store{s}, o...) },
		func() (string, http.Handler) { return sheafv1connect.NewKeysHandler(keys{s}, o...) },
		func() (string, http.Handler) { return sheafv1connect.NewJobsHandler(jobs{s}, o...) },
		func() (string, http.Handler) { return sheafv1connect.NewReplicasHandler(replicas{s}, o...) },
		func() (string, http.Handler) { return sheafv1connect.NewConflictsHandler(conflicts{s}, o...) },
		func() (string, http.Handler) { return sheafv1connect.NewRemotesHandler(remotes{s}, o...) },
		func() (string, http.Handler) { return sheafv1connect.NewDevicesHandler(devices{s}, o...) },
		func() (string, http.Handler) { return sheafv1connect.NewCustodyHandler(custody{s}, o...) },
		func() (string, http.Handler) { return sheafv1connect.NewTokensHandler(tokens{s}, o...) },
		func() (string, http.Handler) { return sheafv1connect.NewEventsHandler(events{s}, o...) },
		func() (string, http.Handler) { return sheafv1connect.NewDoorsHandler(doors{s}, o...) },
		func() (string, http.Handler) { return sheafv1connect.NewPeersHandler(peers{s}, o...) },
		func() (string, http.Handler) { return sheafv1connect.NewPlacesHandler(places{s}, o...) },
		func() (string, http.Handler) { return sheafv1connect.NewRulesHandler(rules{s}, o...) },
		func() (string, http.Handler) { return sheafv1connect.NewFoldersHandler(folders{s}, o...) },
		func() (string, http.Handler) { return sheafv1connect.NewIdentitiesHandler(identities{s}, o...) },
		func() (string, http.Handler) { return sheafv1connect.NewSettingsHandler(settings{s}, o...) },
	} {
		path, handler := h()
		mux.Handle(path, handler)
		names = append(names, strings.Trim(path, "/"))
	}
	// What these tell is the contract itself, and that somebody answers.
	mux.Handle(grpchealth.NewHandler(grpchealth.NewStaticChecker(names...)))
	names = append(names, grpchealth.HealthV1ServiceName)
	mux.Handle(grpcreflect.NewHandlerV1(grpcreflect.NewStaticReflector(names...)))
	mux.Handle(grpcreflect.NewHandlerV1Alpha(grpcreflect.NewStaticReflector(names...)))
	return mux
}

// The services. Where a name of the contract is one of several services, the method of
// service.Service has another.
type (
	drives struct{ *service.Service }
	files  struct{ s *service.Service }
	mounts struct{ *service.Service }
	store  struct{ *service.Service }
	keys   struct{ *service.Service }
	jobs   struct{ s *service.Service }

	snapshots struct{ s *service.Service }
	replicas  struct{ s *service.Service }
	conflicts struct{ s *service.Service }
	remotes   struct{ s *service.Service }
	devices   struct{ s *service.Service }
	custody   struct{ *service.Service }
	tokens    struct{ s *service.Service }
	events    struct{ s *service.Service }
	doors     struct{ *service.Service }
	peers     struct{ *service.Service }
	places    struct{ s *service.Service }
	rules     struct{ s *service.Service }
	folders   struct{ s *service.Service }
	settings  struct{ s *service.Service }

	identities struct{ *service.Service }
)

func (f files) Stat(ctx context.Context, r *sheafv1.StatRequest) (*sheafv1.Node, error) {
	return f.s.Stat(ctx, r)
}

func (f files) List(ctx context.Context, r *sheafv1.ListRequest, out *connect.ServerStream[sheafv1.ListResponse]) error {
	return f.s.List(ctx, r, out.Send)
}

func (f files) Read(ctx context.Context, r *sheafv1.ReadRequest, out *connect.ServerStream[sheafv1.ReadResponse]) error {
	return f.s.Read(ctx, r, out.Send)
}

func (f files) Write(ctx context.Context, in *connect.ClientStream[sheafv1.WriteRequest]) (*sheafv1.WriteResponse, error) {
	return f.s.Write(ctx, func() (*sheafv1.WriteRequest, error) {
		if in.Receive() {
			return in.Msg(), nil
		}
		if err := in.Err(); err != nil {
			return nil, cutOff(err)
		}
		return nil, io.EOF
	})
}

// cutOff tells a caller that went away in the midst of an upload from one that sent nonsense: the
// first is the end of what came, and what came is kept.
func cutOff(err error) error {
	if errors.As(err, new(refused)) {
		return err
	}
	if connect.CodeOf(err) == connect.CodeInvalidArgument && !errors.Is(err, io.ErrUnexpectedEOF) {
		return err
	}
	return io.EOF
}

func (f files) Upload(ctx context.Context, r *sheafv1.UploadRequest) (*sheafv1.UploadResponse, error) {
	return f.s.Upload(ctx, r)
}

func (f files) Mkdir(ctx context.Context, r *sheafv1.MkdirRequest) (*sheafv1.Node, error) {
	return f.s.Mkdir(ctx, r)
}

func (f files) Move(ctx context.Context, r *sheafv1.MoveRequest) (*sheafv1.MoveResponse, error) {
	return f.s.Move(ctx, r)
}

func (f files) Remove(ctx context.Context, r *sheafv1.RemoveRequest) (*sheafv1.RemoveResponse, error) {
	return f.s.Remove(ctx, r)
}

func (f files) DiskUsage(ctx context.Context, r *sheafv1.DiskUsageRequest) (*sheafv1.DiskUsageResponse, error) {
	return f.s.DiskUsage(ctx, r)
}

func (f files) History(ctx context.Context, r *sheafv1.HistoryRequest, out *connect.ServerStream[sheafv1.HistoryResponse]) error {
	return f.s.History(ctx, r, out.Send)
}

func (n snapshots) Create(ctx context.Context, r *sheafv1.CreateRequest) (*sheafv1.Snapshot, error) {
	return n.s.Create(ctx, r)
}

func (n snapshots) List(ctx context.Context, r *sheafv1.SnapshotsListRequest) (*sheafv1.SnapshotsListResponse, error) {
	return n.s.Snapshots(ctx, r)
}

func (n snapshots) Diff(ctx context.Context, r *sheafv1.DiffRequest, out *connect.ServerStream[sheafv1.DiffResponse]) error {
	return n.s.Diff(ctx, r, out.Send)
}

func (n snapshots) Drop(ctx context.Context, r *sheafv1.DropRequest) (*sheafv1.DropResponse, error) {
	return n.s.Drop(ctx, r)
}

func (m mounts) List(ctx context.Context, r *sheafv1.MountsListRequest) (*sheafv1.MountsListResponse, error) {
	return m.Mounts(ctx, r)
}

func (j jobs) Start(ctx context.Context, r *sheafv1.StartRequest) (*sheafv1.Job, error) {
	return j.s.Start(ctx, r)
}

func (j jobs) List(ctx context.Context, r *sheafv1.JobsListRequest) (*sheafv1.JobsListResponse, error) {
	return j.s.Jobs(ctx, r)
}

func (j jobs) Watch(ctx context.Context, r *sheafv1.WatchRequest, out *connect.ServerStream[sheafv1.WatchResponse]) error {
	return j.s.Watch(ctx, r, out.Send)
}

func (j jobs) Cancel(ctx context.Context, r *sheafv1.CancelRequest) (*sheafv1.Job, error) {
	return j.s.Cancel(ctx, r)
}

func (j jobs) Resume(ctx context.Context, r *sheafv1.ResumeRequest) (*sheafv1.Job, error) {
	return j.s.Resume(ctx, r)
}

func (r replicas) Add(ctx context.Context, m *sheafv1.ReplicasAddRequest) (*sheafv1.Replica, error) {
	return r.s.AddReplica(ctx, m)
}

func (r replicas) List(ctx context.Context, m *sheafv1.ReplicasListRequest) (*sheafv1.ReplicasListResponse, error) {
	return r.s.Replicas(ctx, m)
}

func (r replicas) Remove(ctx context.Context, m *sheafv1.ReplicasRemoveRequest) (*sheafv1.ReplicasRemoveResponse, error) {
	return r.s.RemoveReplica(ctx, m)
}

func (r replicas) Sync(ctx context.Context, m *sheafv1.ReplicasSyncRequest) (*sheafv1.ReplicasListResponse, error) {
	return r.s.SyncReplicas(ctx, m)
}

func (c conflicts) List(ctx context.Context, m *sheafv1.ConflictsListRequest) (*sheafv1.ConflictsListResponse, error) {
	return c.s.Conflicts(ctx, m)
}

func (c conflicts) Keep(ctx context.Context, m *sheafv1.ConflictsKeepRequest) (*sheafv1.ConflictsKeepResponse, error) {
	return c.s.KeepConflict(ctx, m)
}

func (d devices) List(ctx context.Context, m *sheafv1.DevicesListRequest) (*sheafv1.DevicesListResponse, error) {
	return d.s.Devices(ctx, m)
}

func (d devices) Revoke(ctx context.Context, m *sheafv1.DevicesRevokeRequest) (*sheafv1.DevicesRevokeResponse, error) {
	return d.s.RevokeDevice(ctx, m)
}

func (d devices) Rename(ctx context.Context, m *sheafv1.DevicesRenameRequest) (*sheafv1.DevicesRenameResponse, error) {
	return d.s.RenameDevice(ctx, m)
}

func (d devices) Trust(ctx context.Context, m *sheafv1.DevicesTrustRequest) (*sheafv1.DevicesTrustResponse, error) {
	return d.s.TrustDevice(ctx, m)
}

func (d devices) Vouch(ctx context.Context, m *sheafv1.DevicesVouchRequest) (*sheafv1.DevicesVouchResponse, error) {
	return d.s.VouchForDevice(ctx, m)
}

func (x remotes) Kinds(ctx context.Context, r *sheafv1.KindsRequest) (*sheafv1.KindsResponse, error) {
	return x.s.RemoteKinds(ctx, r)
}

func (x remotes) List(ctx context.Context, r *sheafv1.RemotesListRequest) (*sheafv1.RemotesListResponse, error) {
	return x.s.ListRemotes(ctx, r)
}

func (x remotes) Get(ctx context.Context, r *sheafv1.RemotesGetRequest) (*sheafv1.Remote, error) {
	return x.s.GetRemote(ctx, r)
}

func (x remotes) Add(ctx context.Context, r *sheafv1.RemotesAddRequest) (*sheafv1.Remote, error) {
	return x.s.AddRemote(ctx, r)
}

func (x remotes) Edit(ctx context.Context, r *sheafv1.RemotesEditRequest) (*sheafv1.Remote, error) {
	return x.s.EditRemote(ctx, r)
}

func (x remotes) Remove(ctx context.Context, r *sheafv1.RemotesRemoveRequest) (*sheafv1.RemotesRemoveResponse, error) {
	return x.s.RemoveRemote(ctx, r)
}

func (x remotes) Test(ctx context.Context, r *sheafv1.RemotesTestRequest) (*sheafv1.RemotesTestResponse, error) {
	return x.s.TestRemote(ctx, r)
}

func (x remotes) StartSignIn(ctx context.Context, r *sheafv1.StartSignInRequest) (*sheafv1.StartSignInResponse, error) {
	return x.s.StartSignIn(ctx, r)
}

func (x remotes) FinishSignIn(ctx context.Context, r *sheafv1.FinishSignInRequest) (*sheafv1.Remote, error) {
	return x.s.FinishSignIn(ctx, r)
}

func (x remotes) Import(ctx context.Context, r *sheafv1.RemotesImportRequest) (*sheafv1.RemotesImportResponse, error) {
	return x.s.ImportRemotes(ctx, r)
}

func (x settings) List(ctx context.Context, r *sheafv1.SettingsListRequest) (*sheafv1.SettingsListResponse, error) {
	return x.s.Settings(ctx, r)
}

func (x settings) Set(ctx context.Context, r *sheafv1.SettingsSetRequest) (*sheafv1.SettingsSetResponse, error) {
	return x.s.SetSetting(ctx, r)
}

func (t tokens) Create(ctx context.Context, r *sheafv1.TokensCreateRequest) (*sheafv1.TokensCreateResponse, error) {
	return t.s.CreateToken(ctx, r)
}

func (t tokens) List(ctx context.Context, r *sheafv1.TokensListRequest) (*sheafv1.TokensListResponse, error) {
	return t.s.Tokens(ctx, r)
}

func (t tokens) Revoke(ctx context.Context, r *sheafv1.TokensRevokeRequest) (*sheafv1.TokensRevokeResponse, error) {
	return t.s.RevokeTokens(ctx, r)
}

func (e events) Watch(ctx context.Context, r *sheafv1.EventsWatchRequest, out *connect.ServerStream[sheafv1.Event]) error {
	return e.s.WatchEvents(ctx, r, out.Send)
}
