//go:build linux

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
)

// A18: a program that listens to one device by WebSocket hears of 10,000 files (in full) that another device makes, each once and in the order in which they
// were made, though it is cut off three times; and of one that is made alone it hears within a second of its commit.
func TestAPI_EventsOfAnotherDevice(t *testing.T) {
	batches, each := 2, 250
	if inFull() {
		batches, each = 20, 500
	}
	first, token := startAPI(t)
	second := newMachine(t)
	var invited struct{ Link string }
	if err := json.Unmarshal([]byte(first.sheaf("invite", "--no-wait", "--listen", "127.0.0.1:0", "--json")), &invited); err != nil {
		t.Fatal(err)
	}
	second.sheaf(t, "join", "--yes", "--device-name", "second", invited.Link)

	ctx, cancel := context.WithTimeout(t.Context(), 15*time.Minute)
	defer cancel()
	type event struct{ Cursor, Kind, Path, Device string }
	listen := func(after string) *websocket.Conn {
		t.Helper()
		//nolint:bodyclose // the WebSocket has taken it
		c, _, err := websocket.Dial(ctx, "ws"+strings.TrimPrefix(first.url, "http")+"/v1/events?after="+after, &websocket.DialOptions{
			HTTPHeader: http.Header{"Authorization": {"Bearer " + token}},
		})
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	next := func(c *websocket.Conn) (e event) {
		t.Helper()
		_, b, err := c.Read(ctx)
		if err == nil {
			err = json.Unmarshal(b, &e)
		}
		if err != nil {
			t.Fatal(err)
		}
		return e
	}
	c := listen("")
	defer func() { _ = c.CloseNow() }()
	begin := next(c)
	if begin.Kind != "EVENT_KIND_BEGIN" {
		t.Fatalf("got %+v", begin)
	}
	cursor := begin.Cursor

	src := t.TempDir()
	for i := range each {
		if err := os.WriteFile(filepath.Join(src, fmt.Sprintf("f%04d", i)), []byte(fmt.Sprint(i)), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	wrote := make(chan struct{})
	go func() {
		defer close(wrote)
		for i := range batches {
			if code, _, errs := second.run(t, "cp", "-r", src, fmt.Sprintf("sheaf:/batch%02d", i)); code != 0 {
				t.Errorf("cp: exit %d: %s", code, errs)
				cancel()
				return
			}
		}
	}()
	all, cuts := batches*each, 0
	for n := 0; n < all; {
		if cuts < 3 && n == (cuts+1)*all/4 { // in the midst of what comes
			_ = c.CloseNow()
			cuts++
			c = listen(cursor)
		}
		e := next(c)
		cursor = e.Cursor
		if e.Kind != "EVENT_KIND_CREATED" || strings.Count(e.Path, "/") == 0 { // the folder of a batch
			continue
		}
		if want := fmt.Sprintf("batch%02d/f%04d", n/each, n%each); e.Path != want || !strings.HasPrefix(e.Device, "SHF-") {
			t.Fatalf("got %+v, want %s", e, want)
		}
		n++
	}
	<-wrote
	if cuts != 3 {
		t.Errorf("it was cut off %d times", cuts)
	}

	// How long it takes for one file, from when it is committed there.
	var took []time.Duration
	for i := range 9 {
		name := fmt.Sprintf("alone%d", i)
		second.sheaf(t, "cp", filepath.Join(src, "f0001"), "sheaf:/"+name)
		second.sheaf(t, "wait")
		began := time.Now()
		for e := next(c); e.Path != name; e = next(c) {
			if strings.HasPrefix(e.Path, "batch") && e.Kind == "EVENT_KIND_CREATED" {
				t.Fatalf("%+v comes a second time", e)
			}
		}
		took = append(took, time.Since(began))
	}
	slices.Sort(took)
	t.Logf("%d events of another device, in order; one alone came %v after its commit in the median, %v at most", all, took[len(took)/2], took[len(took)-1])
	if took[len(took)/2] > time.Second {
		t.Errorf("one alone came after %v", took)
	}
}
