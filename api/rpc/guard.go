package rpc

import (
	"context"
	"log/slog"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/proto"

	"github.com/sheaf-drive/sheaf/api/access"
	"github.com/sheaf-drive/sheaf/api/service"
)

// guard holds every message of every call against what its caller may do: see package access. It is the one place
// where that is done, for all tongues. A refusal is logged with the token's ID and the call, and with no name of a file.
type guard struct{ log *slog.Logger }

func (g guard) check(ctx context.Context, procedure string, m any) error {
	msg, _ := m.(proto.Message)
	err := access.Check(ctx, procedure, msg)
	if err != nil {
		id := ""
		if grant := access.Of(ctx); grant != nil {
			id = grant.ID
		}
		g.log.Warn("refused", "token", id, "call", procedure, "code", service.Explain(err).Code.String())
	}
	return err
}

func (g guard) WrapUnary(next connect.UnaryFunc) connect.UnaryFunc {
	return func(ctx context.Context, r connect.AnyRequest) (connect.AnyResponse, error) {
		if err := g.check(ctx, r.Spec().Procedure, r.Any()); err != nil {
			return nil, err
		}
		return next(ctx, r)
	}
}

func (guard) WrapStreamingClient(next connect.StreamingClientFunc) connect.StreamingClientFunc {
	return next
}

func (g guard) WrapStreamingHandler(next connect.StreamingHandlerFunc) connect.StreamingHandlerFunc {
	return func(ctx context.Context, c connect.StreamingHandlerConn) error {
		if err := g.check(ctx, c.Spec().Procedure, nil); err != nil {
			return err
		}
		return next(ctx, &guardedConn{c, g, ctx, nil})
	}
}

// guardedConn checks what comes in. After a refusal nothing more comes.
type guardedConn struct {
	connect.StreamingHandlerConn
	g   guard
	ctx context.Context //nolint:containedctx // that of the call, which the interface does not hand on
	err error
}

func (c *guardedConn) Receive(m any) error {
	if c.err != nil {
		return c.err
	}
	if err := c.StreamingHandlerConn.Receive(m); err != nil {
		return err
	}
	if err := c.g.check(c.ctx, c.Spec().Procedure, m); err != nil {
		c.err = refused{err}
	}
	return c.err
}

// refused tells a refusal from a caller that went away.
type refused struct{ error }

func (r refused) Unwrap() error { return r.error }
