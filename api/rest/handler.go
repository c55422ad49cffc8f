package rest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strings"
	"sync"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/dynamicpb"

	"github.com/sheaf-drive/sheaf/api/access"
	"github.com/sheaf-drive/sheaf/api/gate"
	"github.com/sheaf-drive/sheaf/api/metrics"
	"github.com/sheaf-drive/sheaf/api/proto/sheafv1"
	"github.com/sheaf-drive/sheaf/api/proto/sheafv1/sheafv1connect"
	"github.com/sheaf-drive/sheaf/api/rpc"
	"github.com/sheaf-drive/sheaf/api/service"
	"github.com/sheaf-drive/sheaf/api/ws"
)

// What is beside the routes: the description of the contract, and the metrics.
const (
	descriptionPath = "/openapi.json"
	metricsPath     = "/metrics"
)

// Options are what a handler is made of.
type Options struct {
	// RPC serves the calls, each with the access.Grant of its request. What is no route goes to it as it is. Needed.
	RPC http.Handler
}

type handler struct {
	o       Options
	routes  []Route
	callers map[string]*caller
	files   sheafv1connect.FilesClient
	drives  sheafv1connect.DrivesClient
}

// described is the description of the contract. It is made when it is asked for first: most processes are commands, whom nobody asks.
var described = sync.OnceValues(Description)

// New returns the handler of the routes over the calls.
func New(o Options) http.Handler {
	c := &http.Client{Transport: inside{o.RPC}}
	calls := rpc.NewClient(c, insideURL)
	h := &handler{o: o, routes: Routes(), callers: map[string]*caller{}, files: calls.Files, drives: calls.Drives}
	for _, r := range h.routes {
		h.callers[r.Procedure] = newCaller(c, r.rpc)
	}
	return h
}

func (h *handler) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	path := req.URL.EscapedPath()
	switch {
	case path == descriptionPath && (req.Method == http.MethodGet || req.Method == http.MethodHead):
		spec, err := described()
		if err != nil { // the contract in this program is malformed, which tests would have found
			fail(w, err)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(spec) // whoever asked may be gone
		return
	case path == metricsPath && (req.Method == http.MethodGet || req.Method == http.MethodHead):
		s, err := h.drives.Status(req.Context(), &sheafv1.StatusRequest{})
		if err != nil {
			fail(w, err)
			return
		}
		metrics.Serve(w, req, s)
		return
	case path != descriptionPath && path != "/v1" && !strings.HasPrefix(path, "/v1/"):
		h.o.RPC.ServeHTTP(w, req)
		return
	}
	r, fields, allow, err := find(h.routes, req)
	switch {
	case err != nil:
		gate.Refuse(w, http.StatusBadRequest, "usage", err.Error(), "escape each name by itself")
	case r != nil:
		h.serve(w, req, r, fields)
	case len(allow) > 0:
		slices.Sort(allow)
		w.Header().Set("Allow", strings.Join(slices.Compact(allow), ", "))
		gate.Refuse(w, http.StatusMethodNotAllowed, "usage", "this path has no "+req.Method, descriptionPath+" says what there is")
	default:
		gate.Refuse(w, http.StatusNotFound, "not_found", "there is no such route", descriptionPath+" says which there are")
	}
}

// serve makes the call of a route.
func (h *handler) serve(w http.ResponseWriter, req *http.Request, r *Route, fields map[string]string) {
	if special := specials[r.Method+" "+r.Path]; special != nil {
		special(h, w, req, fields)
		return
	}
	m, err := r.fill(w, req, fields)
	if err != nil {
		fail(w, err)
		return
	}
	call := h.callers[r.Procedure]
	if r.Path == eventsPath && req.Header.Get("Upgrade") != "" {
		h.socket(w, req, call, m)
		return
	}
	if !r.rpc.IsStreamingServer() {
		resp, err := call.CallUnary(req.Context(), connect.NewRequest(m))
		if err != nil {
			fail(w, err)
			return
		}
		answerWith(w, http.StatusOK, resp.Msg)
		return
	}
	stream, err := call.CallServerStream(req.Context(), connect.NewRequest(m))
	if err != nil {
		fail(w, err)
		return
	}
	defer func() { _ = stream.Close() }()
	h.stream(w, stream)
}

// The route that can be a WebSocket, too, and its call.
const (
	eventsPath = "/v1/events"
	eventsCall = "/sheaf.v1.Events/Watch"
)

// socket tells over a WebSocket what a call yields. What is refused is so before the connection changes, so that a refusal has its status.
func (h *handler) socket(w http.ResponseWriter, req *http.Request, call *caller, m *dynamicpb.Message) {
	ctx, cancel := context.WithCancel(req.Context())
	defer cancel()
	stream, err := call.CallServerStream(ctx, connect.NewRequest(m))
	if err != nil {
		fail(w, err)
		return
	}
	defer func() { _ = stream.Close() }()
	if err := access.Check(ctx, eventsCall, nil); err != nil { // refused, and logged, by the call, too
		fail(w, err)
		return
	}
	ws.Serve(w, req, func(ctx context.Context, send func([]byte) error) error {
		defer context.AfterFunc(ctx, cancel)()
		for stream.Receive() {
			line, err := encode(stream.Msg())
			if err == nil {
				err = send(line)
			}
			if err != nil {
				return err
			}
		}
		return stream.Err()
	})
}

// stream answers with one object a line. Who asked learns of an error before the first of them by the status, and of a later one by
// the last line, which is a gate.Problem.
func (h *handler) stream(w http.ResponseWriter, stream *connect.ServerStreamForClient[dynamicpb.Message]) {
	begun := false
	begin := func() {
		if !begun {
			w.Header().Set("Content-Type", "application/jsonl")
			w.WriteHeader(http.StatusOK)
			begun = true
		}
	}
	var err error
	for stream.Receive() {
		var line []byte
		if line, err = encode(stream.Msg()); err != nil {
			break
		}
		begin()
		if _, err := w.Write(append(line, '\n')); err != nil {
			return
		}
		_ = http.NewResponseController(w).Flush() // what cannot be flushed comes at the end
	}
	if err == nil {
		err = stream.Err()
	}
	if err != nil {
		if begun {
			e := rpc.FromWire(err)
			_ = json.NewEncoder(w).Encode(gate.Problem{Code: codeName(e), Error: e.Error(), Hint: e.Hint})
			return
		}
		fail(w, err)
		return
	}
	begin()
}

// encode returns a message as JSON, in one line.
func encode(m proto.Message) ([]byte, error) {
	b, err := protojson.MarshalOptions{UseProtoNames: true, EmitUnpopulated: true}.Marshal(m)
	if err != nil {
		return nil, err
	}
	var line bytes.Buffer
	if err := json.Compact(&line, b); err != nil { // its blanks are by chance
		return nil, err
	}
	return line.Bytes(), nil
}

func answerWith(w http.ResponseWriter, status int, m proto.Message) {
	b, err := encode(m)
	if err != nil {
		fail(w, err)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(append(b, '\n')) // whoever asked may be gone
}

// fail answers with an error of a call, or of what was asked.
func fail(w http.ResponseWriter, err error) {
	var long *http.MaxBytesError
	switch {
	case errors.As(err, &long):
		gate.Refuse(w, http.StatusRequestEntityTooLarge, "limit", "the body is too long", "")
		return
	case errors.Is(err, errRequest):
		gate.Refuse(w, http.StatusBadRequest, "usage", err.Error(), descriptionPath+" says what is expected")
		return
	}
	e := rpc.FromWire(err)
	status := statuses[e.Code]
	if status == 0 {
		status = http.StatusInternalServerError
	}
	gate.Refuse(w, status, codeName(e), e.Error(), e.Hint)
}

// codeName is how the kind of an error is told: not_found, locked, ….
func codeName(e *service.Error) string {
	if e.Code == 0 {
		return "error"
	}
	return strings.ToLower(strings.TrimPrefix(e.Code.String(), "CODE_"))
}
