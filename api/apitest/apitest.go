// Package apitest serves a real drive, in folders of the test, to tests of what speaks to it.
package apitest

import (
	"context"
	"net/http"
	"path/filepath"
	"testing"
	"time"

	sheaf "github.com/sheaf-drive/sheaf"
	"github.com/sheaf-drive/sheaf/api/access"
	"github.com/sheaf-drive/sheaf/api/proto/sheafv1"
	"github.com/sheaf-drive/sheaf/api/rpc"
	"github.com/sheaf-drive/sheaf/api/service"
	"github.com/sheaf-drive/sheaf/chunkstore/blob"
	"github.com/sheaf-drive/sheaf/chunkstore/blob/mem"
)

// A Daemon is a Service with an open drive.
type Daemon struct {
	Service *service.Service
	Drive   *sheaf.Drive
	Tokens  *access.Store
	Log     *Log
}

// device has one drive, which is open already.
type device struct{ d *sheaf.Drive }

func (device) Exists() bool { return true }

func (x device) Open(context.Context, sheaf.Secret) (service.Drive, error) { return x.d, nil }

func (device) Init(context.Context, sheaf.Secret, *sheafv1.InitRequest) (service.Drive, string, error) {
	return nil, "", sheaf.ErrExists
}

// Start makes a drive, and closes it when the test ends. change may change the options of the Service.
func Start(t testing.TB, change func(o *service.Options)) *Daemon {
	t.Helper()
	dir := t.TempDir()
	d, _, err := sheaf.Create(t.Context(), sheaf.Options{
		Dir: filepath.Join(dir, "data"), Bucket: blob.Bucket(mem.New()), DeviceName: "test",
	})
	if err != nil {
		t.Fatal(err)
	}
	x := &Daemon{Drive: d, Tokens: access.NewStore(filepath.Join(dir, "tokens.json")), Log: &Log{}}
	o := service.Options{Device: device{d}, Tokens: x.Tokens, Log: x.Log.Logger()}
	if change != nil {
		change(&o)
	}
	x.Service = service.New(o)
	t.Cleanup(func() {
		if err := x.Service.Close(context.Background()); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	if _, err := x.Service.Unlock(t.Context(), &sheafv1.UnlockRequest{}); err != nil {
		t.Fatal(err)
	}
	return x
}

// Calls returns the handler of the calls, each with the grant of its request.
func (d *Daemon) Calls() http.Handler { return rpc.NewGuarded(d.Service, d.Log.Logger()) }

// Token makes a token, as t says, that lasts longer than a test.
func (d *Daemon) Token(t testing.TB, what access.Token) string {
	t.Helper()
	_, secret, err := d.Tokens.Create(what, 24*time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	return secret
}
