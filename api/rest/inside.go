package rest

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/dynamicpb"
)

// insideURL is where the handler is, over a transport that leads to it anyway.
const insideURL = "http://inside"

// inside is an http.RoundTripper that has a handler of this process answer. What is in the context of a request is in that of the handler.
type inside struct{ h http.Handler }

func (t inside) RoundTrip(r *http.Request) (*http.Response, error) {
	ctx, cancel := context.WithCancel(r.Context())
	body := newPipe()
	a := &answer{header: http.Header{}, w: body, begun: make(chan struct{})}
	in := r.Clone(ctx)
	in.RequestURI, in.URL, in.ProtoMajor, in.ProtoMinor, in.Proto = r.URL.RequestURI(), &url.URL{Path: r.URL.Path, RawQuery: r.URL.RawQuery}, 2, 0, "HTTP/2.0"
	if in.Body == nil {
		in.Body = http.NoBody
	}
	go func() {
		defer func() {
			err := io.EOF
			if p := recover(); p != nil { // as the server does with it: the caller sees a connection that breaks
				err = io.ErrUnexpectedEOF
			}
			a.WriteHeader(http.StatusOK)
			_ = in.Body.Close()
			body.finish(err)
		}()
		t.h.ServeHTTP(a, in)
	}()
	select {
	case <-a.begun:
	case <-r.Context().Done():
		_ = body.Close()
		cancel()
		return nil, r.Context().Err()
	}
	// As a connection that breaks: nobody waits for a reader that is gone.
	context.AfterFunc(ctx, func() { _ = body.Close() })
	return &http.Response{
		Status: http.StatusText(a.status), StatusCode: a.status, Proto: "HTTP/2.0", ProtoMajor: 2, Header: a.sent,
		Body: leave{body, cancel}, ContentLength: -1, Request: r, Trailer: http.Header{},
	}, nil
}

// answer is the http.ResponseWriter of inside.
type answer struct {
	header, sent http.Header
	status       int
	w            io.Writer
	begun        chan struct{} // closed when status and sent are there
}

func (a *answer) Header() http.Header { return a.header }

func (a *answer) WriteHeader(status int) {
	if a.status == 0 {
		a.status, a.sent = status, a.header.Clone()
		close(a.begun)
	}
}

func (a *answer) Write(b []byte) (int, error) {
	a.WriteHeader(http.StatusOK)
	return a.w.Write(b)
}

// Flush does what Write does anyway.
func (a *answer) Flush() { a.WriteHeader(http.StatusOK) }

// leave is the body of an answer. Who closes it has left, and the handler learns of it.
type leave struct {
	*pipe
	cancel context.CancelFunc
}

func (l leave) Close() error {
	l.cancel()
	return l.pipe.Close()
}

// A caller calls one procedure.
type caller = connect.Client[dynamicpb.Message, dynamicpb.Message]

func newCaller(h *http.Client, m protoreflect.MethodDescriptor) *caller {
	return connect.NewClient[dynamicpb.Message, dynamicpb.Message](h, insideURL+procedureOf(m),
		connect.WithSchema(m), connect.WithAcceptCompression("gzip", nil, nil),
		connect.WithResponseInitializer(func(_ connect.Spec, msg any) error {
			d, ok := msg.(*dynamicpb.Message)
			if !ok {
				return errors.New("not a message that can be anything")
			}
			*d = *dynamicpb.NewMessage(m.Output())
			return nil
		}))
}
