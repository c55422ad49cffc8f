package main

import (
	"context"
	"log/slog"
	"net"
	"net/http"

	"github.com/sheaf-drive/sheaf/api/proto/sheafv1"
	"github.com/sheaf-drive/sheaf/api/rest"
	"github.com/sheaf-drive/sheaf/api/rpc"
	"github.com/sheaf-drive/sheaf/api/service"
	"github.com/sheaf-drive/sheaf/cmd/sheaf/settings"
)

// apiAddr is where the network door is to be: where --api says, or the configuration; "" for nowhere.
func (a *app) apiAddr() string {
	if at := (&set{app: a}).get(settings.API); at != settings.Off {
		return at
	}
	return ""
}

// listenAPI opens the network door. It returns nil if addr is "". What is sent there is not encrypted, so that it is for this machine only.
func listenAPI(ctx context.Context, addr string) (net.Listener, error) {
	if addr == "" {
		return nil, nil
	}
	at, err := settings.ParseAPI(addr)
	if err != nil {
		return nil, usagef("--api 127.0.0.1:8474", "%w", err)
	}
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", at.String())
	if err != nil {
		return nil, coded(sheafv1.Code_CODE_TEMPORARY, "choose another port: --api 127.0.0.1:0", "network door: %w", err)
	}
	return l, nil
}

// sayAPI says where the network door is, if it is on.
func (a *app) sayAPI(d *daemon) error {
	if d.api == "" {
		return nil
	}
	if a.json {
		return a.record(apiRecord{"api", d.api})
	}
	a.say("the API answers at %s", d.api)
	return nil
}

// doors returns the handler of all that speaks HTTP, for callers with an access.Grant.
func doors(svc *service.Service, log *slog.Logger) http.Handler {
	return rest.New(rest.Options{RPC: rpc.NewGuarded(svc, log)})
}
