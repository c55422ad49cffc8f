package blob_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/sheaf-drive/sheaf/chunkstore/blob"
)

func TestName_Check(t *testing.T) {
	legal := []blob.Name{
		"a", "packs/0f/0f12", "a-b", "a.b", "a_b", "1/2/3/4/5/6/7/8", "con1", "xcon/com", "com10", "a..b",
		blob.Name(strings.Repeat("a", blob.MaxName)),
	}
	illegal := []blob.Name{
		"", "/", "/a", "a/", "a//b", ".", "..", "a/..", "../a", ".a", "a/.b", "a.", "a./b", "A", "ä", "a b", "a\\b", "a\x00",
		"a:b", "1/2/3/4/5/6/7/8/9", "con", "x/nul", "aux.txt", "com1", "lpt9.tar.gz/x", "prn.",
		blob.Name(strings.Repeat("a", blob.MaxName+1)),
	}
	for _, n := range legal {
		if err := n.Check(); err != nil {
			t.Errorf("Check(%q) = %v, want nil", n, err)
		}
	}
	for _, n := range illegal {
		if err := n.Check(); !errors.Is(err, blob.ErrName) {
			t.Errorf("Check(%q) = %v, want ErrName", n, err)
		}
	}
}

// FuzzName holds Check against the rules, written down a second time, byte by byte.
func FuzzName(f *testing.F) {
	for _, s := range []string{"a", "packs/ab/cd", "a/../b", "con", ".x", "x.", "a//b", "lpt1.x", strings.Repeat("a/", 8)} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got := blob.Name(s).Check() == nil
		if want := legalByHand(s); got != want {
			t.Fatalf("Check(%q) legal = %v, want %v", s, got, want)
		}
	})
}

func legalByHand(s string) bool {
	if s == "" || len(s) > 200 {
		return false
	}
	elems := strings.Split(s, "/")
	if len(elems) > 8 {
		return false
	}
	devices := " con prn aux nul com0 com1 com2 com3 com4 com5 com6 com7 com8 com9 lpt0 lpt1 lpt2 lpt3 lpt4 lpt5 lpt6 lpt7 lpt8 lpt9 "
	for _, e := range elems {
		if e == "" || strings.HasPrefix(e, ".") || strings.HasSuffix(e, ".") {
			return false
		}
		if strings.Trim(e, "abcdefghijklmnopqrstuvwxyz0123456789._-") != "" {
			return false
		}
		for _, c := range e {
			if !strings.ContainsRune("abcdefghijklmnopqrstuvwxyz0123456789._-", c) {
				return false
			}
		}
		if strings.Contains(devices, " "+strings.Split(e, ".")[0]+" ") {
			return false
		}
	}
	return true
}

func TestBody_YieldsExactlySizeBytes(t *testing.T) {
	broken := errors.New("broken")
	readers := map[string]func(io.Reader) io.Reader{
		"plain": func(r io.Reader) io.Reader { return r }, "one byte": iotest.OneByteReader,
		"half": iotest.HalfReader, "data with error": iotest.DataErrReader,
	}
	for name, wrap := range readers {
		t.Run(name, func(t *testing.T) {
			for _, c := range []struct {
				have int
				size int64
				want error
			}{{0, 0, nil}, {1, 1, nil}, {5000, 5000, nil}, {4999, 5000, blob.ErrSize}, {5001, 5000, blob.ErrSize}, {1, 0, blob.ErrSize}, {0, 1, blob.ErrSize}, {3, -1, blob.ErrSize}} {
				got, err := io.ReadAll(blob.Body(t.Context(), wrap(bytes.NewReader(make([]byte, c.have))), c.size))
				if !errors.Is(err, c.want) {
					t.Errorf("%d bytes as %d: got error %v, want %v", c.have, c.size, err, c.want)
				}
				if int64(len(got)) > max(c.size, 0) {
					t.Errorf("%d bytes as %d: yielded %d", c.have, c.size, len(got))
				}
			}
		})
	}
	t.Run("an error of the reader is handed on", func(t *testing.T) {
		_, err := io.ReadAll(blob.Body(t.Context(), iotest.ErrReader(broken), 5))
		if !errors.Is(err, broken) {
			t.Errorf("got %v, want %v", err, broken)
		}
	})
	t.Run("a done context stops it", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		_, err := io.ReadAll(blob.Body(ctx, bytes.NewReader(make([]byte, 5)), 5))
		if !errors.Is(err, context.Canceled) {
			t.Errorf("got %v, want %v", err, context.Canceled)
		}
	})
}
