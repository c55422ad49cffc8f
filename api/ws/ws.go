// Package ws tells what happens over a WebSocket: one text message of JSON for each event.
package ws

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/coder/websocket"
)

// sendWait is how long a reader may take for one message.
const sendWait = 10 * time.Second

// What a client may say that it speaks (Sec-WebSocket-Protocol): Protocol, and, besides, TokenPrefix with its token behind, which is how a page
// in a browser shows it, as it can set no other header. The answer has Protocol, and never the token.
const (
	Protocol    = "sheaf.events.v1"
	TokenPrefix = "sheaf.token."
)

// Why a connection was closed, as its status and, in short, its reason.
const (
	TooSlow websocket.StatusCode = 4008
	Failed  websocket.StatusCode = 4000
)

// A Source sends what happens until ctx is done or send fails. Its error is for the one who listens.
type Source func(ctx context.Context, send func(line []byte) error) error

// Serve makes a WebSocket of a request and sends what the source has, until one of both sides ends. What comes in is an error: nothing is to be
// said. A reader that takes no message for some ten seconds is cut off.
func Serve(w http.ResponseWriter, r *http.Request, source Source) {
	c, err := websocket.Accept(w, r, &websocket.AcceptOptions{Subprotocols: []string{Protocol}}) // it refuses pages of other origins itself
	if err != nil {
		return // it has answered
	}
	defer func() { _ = c.CloseNow() }()
	ctx := c.CloseRead(r.Context())
	slow := false
	err = source(ctx, func(line []byte) error {
		wait, cancel := context.WithTimeout(ctx, sendWait)
		defer cancel()
		err := c.Write(wait, websocket.MessageText, line)
		slow = err != nil && errors.Is(wait.Err(), context.DeadlineExceeded)
		return err
	})
	switch {
	case slow:
		_ = c.Close(TooSlow, "too slow: begin anew, from the last cursor")
	case err != nil && ctx.Err() == nil:
		text := err.Error()
		_ = c.Close(Failed, text[:min(len(text), 120)])
	default:
		_ = c.Close(websocket.StatusGoingAway, "the daemon or the token ends")
	}
}
