package rpc

import (
	"context"
	"errors"
	"fmt"

	"connectrpc.com/connect"

	"github.com/sheaf-drive/sheaf/api/proto/sheafv1"
	"github.com/sheaf-drive/sheaf/api/proto/wirepath"
	"github.com/sheaf-drive/sheaf/api/service"
)

// transportCodes is how the transport calls each kind of error, for those who know no better.
var transportCodes = map[sheafv1.Code]connect.Code{
	sheafv1.Code_CODE_UNSPECIFIED:  connect.CodeUnknown,
	sheafv1.Code_CODE_USAGE:        connect.CodeInvalidArgument,
	sheafv1.Code_CODE_NOT_FOUND:    connect.CodeNotFound,
	sheafv1.Code_CODE_EXISTS:       connect.CodeAlreadyExists,
	sheafv1.Code_CODE_WRONG_KIND:   connect.CodeFailedPrecondition,
	sheafv1.Code_CODE_NOT_EMPTY:    connect.CodeFailedPrecondition,
	sheafv1.Code_CODE_READ_ONLY:    connect.CodeFailedPrecondition,
	sheafv1.Code_CODE_PERMISSION:   connect.CodePermissionDenied,
	sheafv1.Code_CODE_TEMPORARY:    connect.CodeUnavailable,
	sheafv1.Code_CODE_DECISION:     connect.CodeFailedPrecondition,
	sheafv1.Code_CODE_LIMIT:        connect.CodeResourceExhausted,
	sheafv1.Code_CODE_NO_DRIVE:     connect.CodeFailedPrecondition,
	sheafv1.Code_CODE_LOCKED:       connect.CodeUnavailable,
	sheafv1.Code_CODE_NEED_SECRET:  connect.CodeUnauthenticated,
	sheafv1.Code_CODE_WRONG_SECRET: connect.CodeUnauthenticated,
	sheafv1.Code_CODE_INTEGRITY:    connect.CodeDataLoss,
	sheafv1.Code_CODE_NO_DAEMON:    connect.CodeUnavailable,
	sheafv1.Code_CODE_CANCELED:     connect.CodeCanceled,
	sheafv1.Code_CODE_UNSUPPORTED:  connect.CodeUnimplemented,
	sheafv1.Code_CODE_PARTIAL:      connect.CodeUnknown,
	sheafv1.Code_CODE_SIGN_IN:      connect.CodeFailedPrecondition,
	sheafv1.Code_CODE_FORBIDDEN:    connect.CodePermissionDenied,
}

// toWire returns err as it goes over the wire: its text, its kind, and a detail with the hint.
func toWire(err error) error {
	if err == nil {
		return nil
	}
	var ce *connect.Error
	if errors.As(err, &ce) { // of the transport itself, such as a message that is too long
		return err
	}
	e := service.Explain(err)
	ce = connect.NewError(transportCodes[e.Code], errors.New(wirepath.Encode(e.Error())))
	if d, err := connect.NewErrorDetail(&sheafv1.ErrorDetail{Code: e.Code, Hint: wirepath.Encode(e.Hint)}); err == nil {
		ce.AddDetail(d)
	}
	return ce
}

// FromWire returns an error of a client as what the service said. An error of the
// transport itself gets the kind that fits best.
func FromWire(err error) *service.Error {
	if err == nil {
		return nil
	}
	var ce *connect.Error
	if !errors.As(err, &ce) {
		return service.Explain(err)
	}
	text := errors.New(ce.Message())
	for _, d := range ce.Details() {
		m, err := d.Value()
		if err != nil {
			continue
		}
		if m, ok := m.(*sheafv1.ErrorDetail); ok {
			return &service.Error{Code: m.GetCode(), Hint: m.GetHint(), Err: text}
		}
	}
	e := &service.Error{Err: text}
	switch ce.Code() {
	case connect.CodeCanceled:
		e.Code, e.Err = sheafv1.Code_CODE_CANCELED, fmt.Errorf("%s: %w", ce.Message(), context.Canceled)
	case connect.CodeDeadlineExceeded:
		e.Code = sheafv1.Code_CODE_TEMPORARY
	case connect.CodeUnavailable:
		e.Code, e.Hint = sheafv1.Code_CODE_NO_DAEMON, "sheaf mount DIR starts it again"
	case connect.CodeUnimplemented:
		e.Code, e.Hint = sheafv1.Code_CODE_UNSUPPORTED, "the daemon is of another version: sheaf stop"
	case connect.CodeInvalidArgument, connect.CodeResourceExhausted:
		e.Code = sheafv1.Code_CODE_USAGE
	}
	return e
}

// errorMapper turns the errors of handlers into those of the wire.
type errorMapper struct{}

func (errorMapper) WrapUnary(next connect.UnaryFunc) connect.UnaryFunc {
	return func(ctx context.Context, r connect.AnyRequest) (connect.AnyResponse, error) {
		resp, err := next(ctx, r)
		if err != nil && !r.Spec().IsClient {
			err = toWire(err)
		}
		return resp, err
	}
}

func (errorMapper) WrapStreamingClient(next connect.StreamingClientFunc) connect.StreamingClientFunc {
	return next
}

func (errorMapper) WrapStreamingHandler(next connect.StreamingHandlerFunc) connect.StreamingHandlerFunc {
	return func(ctx context.Context, c connect.StreamingHandlerConn) error {
		return toWire(next(ctx, c))
	}
}
