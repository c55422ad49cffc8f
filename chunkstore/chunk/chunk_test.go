package chunk

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
)

func someRef() Ref {
	var r Ref
	for i := range 32 {
		r.ID[i], r.Key[i] = byte(i), byte(0xa0+i)
	}
	r.Size, r.Kind = 0x00123456, File
	return r
}

// The bytes of a Ref are format.
func TestRef_EncodingIsPinned(t *testing.T) {
	r := someRef()
	b := r.Append([]byte("x"))[1:]
	want := append(append(append([]byte{}, r.ID[:]...), r.Key[:]...), 0x00, 0x12, 0x34, 0x56, 3)
	if !bytes.Equal(b, want) || len(b) != RefSize || RefSize != 69 {
		t.Errorf("got %x, want %x", b, want)
	}
	got, err := ParseRef(b)
	if err != nil || got != r {
		t.Errorf("got %v, %v", got, err)
	}
	zero, err := ParseRef(make([]byte, RefSize))
	if err != nil || !zero.IsZero() {
		t.Errorf("zero ref: %v, %v", zero, err)
	}
	for k, n := range map[Kind]Kind{Data: 1, Dir: 2, File: 3, Snapshot: 4, History: 5} {
		if k != n {
			t.Errorf("%s is %d, want %d", k, k, n)
		}
	}
}

func TestParseRef_Refuses(t *testing.T) {
	sound := someRef().Append(nil)
	change := func(f func(b []byte)) []byte { b := bytes.Clone(sound); f(b); return b }
	for what, b := range map[string][]byte{
		"nothing":        nil,
		"a byte less":    sound[:RefSize-1],
		"a byte more":    append(bytes.Clone(sound), 0),
		"no kind":        change(func(b []byte) { b[68] = 0 }),
		"unknown kind":   change(func(b []byte) { b[68] = 6 }),
		"kind 255":       change(func(b []byte) { b[68] = 255 }),
		"too large":      change(func(b []byte) { copy(b[64:], []byte{1, 0, 0, 1}) }),
		"far too large":  change(func(b []byte) { copy(b[64:], []byte{255, 255, 255, 255}) }),
		"zero but an ID": append([]byte{1}, make([]byte, RefSize-1)...),
	} {
		if got, err := ParseRef(b); !errors.Is(err, ErrRef) || got != (Ref{}) {
			t.Errorf("%s: got %v, %v, want ErrRef", what, got, err)
		}
	}
	largest := change(func(b []byte) { copy(b[64:], []byte{1, 0, 0, 0}) })
	if r, err := ParseRef(largest); err != nil || r.Size != MaxSize {
		t.Errorf("largest: %v, %v", r, err)
	}
}

// No way of printing shows a key, alone or within a Ref.
func TestKey_IsNeverPrinted(t *testing.T) {
	r := someRef()
	forms := []string{fmt.Sprintf("%x", r.Key[:]), fmt.Sprint(r.Key[:])[1:20], string(r.Key[:8]), "a0a1a2", "A0A1A2", "160 161", "0xa0, 0xa1"}
	var printed []string
	for _, verb := range strings.Fields("v +v #v s q x X d o b c U e g t") {
		for _, v := range []any{r.Key, r, &r, []Ref{r}, map[string]Ref{"r": r}, struct{ K Key }{r.Key}} {
			printed = append(printed, fmt.Sprintf("%"+verb, v))
		}
	}
	j, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	slog.New(slog.NewJSONHandler(&log, nil)).Info("m", "ref", r, "key", r.Key, "p", &r)
	slog.New(slog.NewTextHandler(&log, nil)).Info("m", "ref", r, "key", r.Key, "p", &r)
	printed = append(printed, string(j), log.String(), r.String(), r.Key.String(), r.Key.GoString(), r.Key.LogValue().String())
	for _, p := range printed {
		for _, form := range forms {
			if strings.Contains(p, form) {
				t.Errorf("the key shows in %q", p)
			}
		}
	}
	if got := fmt.Sprint(r.Key); got != "[key]" {
		t.Errorf("got %q, want [key]", got)
	}
}

func TestString_NamesChunkAndKind(t *testing.T) {
	if got := someRef().String(); got != "file:000102030405…" {
		t.Errorf("got %q", got)
	}
	if got := (Ref{}).String(); got != "none" {
		t.Errorf("got %q", got)
	}
	if !(ID{}).IsZero() || someRef().ID.IsZero() || len(someRef().ID.String()) != 64 {
		t.Error("ID")
	}
	names := map[string]bool{}
	for k := range 256 {
		s := Kind(k).String()
		if names[s] || Kind(k).Valid() == strings.HasPrefix(s, "kind(") {
			t.Errorf("kind %d is %q, valid %v", k, s, Kind(k).Valid())
		}
		names[s] = true
	}
}

func FuzzParseRef(f *testing.F) {
	f.Add(someRef().Append(nil))
	f.Add(make([]byte, RefSize))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := ParseRef(b)
		if err != nil {
			if !errors.Is(err, ErrRef) {
				t.Errorf("got %v, want ErrRef", err)
			}
			return
		}
		if !bytes.Equal(r.Append(nil), b) {
			t.Errorf("%x parses and encodes to %x", b, r.Append(nil))
		}
	})
}
