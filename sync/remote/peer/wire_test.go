package peer

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"reflect"
	"testing"
	"time"

	"github.com/sheaf-drive/sheaf/chunkstore/blob"
)

func TestCall_RoundTrip(t *testing.T) {
	for _, c := range []call{
		{op: opHello, n: -1},
		{op: opGet, name: "packs/a", off: 1 << 40, n: 7},
		{op: opRemove, n: -1, names: []blob.Name{"a", "b/c"}},
		{op: opPut, name: "x", n: -1, size: maxBlob},
	} {
		got, err := decodeCall(c.encode())
		if err != nil || !reflect.DeepEqual(got, c) {
			t.Errorf("got %+v, %v, want %+v", got, err, c)
		}
	}
}

// An error keeps what a caller does about it, and nothing that it says of a machine.
func TestFail_KeepsItsMeaning(t *testing.T) {
	for _, want := range failures {
		if want == nil {
			continue
		}
		p := encodeFail(blob.Later(fmt.Errorf("open /home/canary: %w", want), 3*time.Second))
		got := decodeFail(p)
		if !errors.Is(got, want) || blob.After(got) != 3*time.Second || bytes.Contains(p, []byte("canary")) {
			t.Errorf("got %v, want %v", got, want)
		}
	}
	if err := decodeFail(encodeFail(errors.New("disk"))); !errors.Is(err, blob.ErrTemporary) || errors.Is(err, fs.ErrNotExist) {
		t.Errorf("an unknown error became %v", err)
	}
}

// FuzzFrame: what a stranger sends is a frame or an error, and takes no more memory than it has bytes for.
func FuzzFrame(f *testing.F) {
	c := call{op: opRemove, n: -1, names: []blob.Name{"a", "b"}}
	h := hello{version: 1, name: "x"}
	for _, p := range [][]byte{
		appendFrame(nil, frameCall, c.encode()), appendFrame(nil, frameAnswer, h.encode()), appendFrame(nil, frameFail, encodeFail(fs.ErrNotExist)),
		appendFrame(nil, frameAnswer, encodeInfos([]blob.Info{{Name: "a", Size: 1, ModTime: time.Unix(1, 1)}})),
		{3, 255, 255, 255, 255},
		{},
	} {
		f.Add(p)
	}
	f.Fuzz(func(t *testing.T, p []byte) {
		r := bytes.NewReader(p)
		for {
			_, payload, err := readFrame(r, nil)
			if err != nil {
				return
			}
			if c, err := decodeCall(payload); err == nil && !bytes.Equal(c.encode(), payload) {
				t.Fatalf("call %+v has two forms", c)
			}
			if h, err := decodeHello(payload); err == nil && !bytes.Equal(h.encode(), payload) {
				t.Fatalf("hello %+v has two forms", h)
			}
			if all, err := decodeInfos(payload, "", ""); err == nil {
				for _, i := range all {
					if i.Name.Check() != nil || i.Size < 0 {
						t.Fatalf("listed %+v", i)
					}
				}
			}
			if err := decodeFail(payload); err == nil {
				t.Fatal("a failure without an error")
			}
		}
	})
}
