package memkv_test

import (
	"testing"

	"github.com/sheaf-drive/sheaf/chunkstore/kv"
	"github.com/sheaf-drive/sheaf/chunkstore/kv/kvtest"
	"github.com/sheaf-drive/sheaf/chunkstore/kv/memkv"
)

func TestDB(t *testing.T) {
	kvtest.Run(t, func(*testing.T) kv.DB { return memkv.New() })
}

func TestClone_IsOfItsOwn(t *testing.T) {
	a := memkv.New()
	set := func(db kv.DB, k, v string) {
		t.Helper()
		if err := db.Update(t.Context(), func(tx kv.Tx) error { return tx.Put([]byte(k), []byte(v)) }); err != nil {
			t.Fatal(err)
		}
	}
	set(a, "k", "old")
	b := a.Clone()
	set(a, "k", "new")
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	if v, err := b.Get(t.Context(), []byte("k")); err != nil || string(v) != "old" {
		t.Errorf("got %q and error %v, want %q", v, err, "old")
	}
}
