package keys

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
)

func FuzzSlot(f *testing.F) {
	s, err := newSlot(DriveID{1}, PassphraseSlot, cheap, entropy(1))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(s.bytes())
	s.typ = RecoverySlot
	f.Add(s.bytes())
	f.Fuzz(func(t *testing.T, b []byte) {
		s, ok := parseSlot(b)
		if !ok {
			return
		}
		if !bytes.Equal(s.bytes(), b) {
			t.Error("another encoding is accepted")
		}
		if s.typ == PassphraseSlot && s.argon.Check() != nil {
			t.Error("a cost outside of the limits is accepted")
		}
		if _, ok := s.unwrap(&[32]byte{}); ok {
			t.Error("opened")
		}
	})
}

func FuzzRecord(f *testing.F) {
	rec := &Record{Drive: DriveID{9}, Version: 1, Chunker: []byte("c"), Created: noon}
	var err error
	if rec.first, err = boxSecret(&secret{1}, rec.Drive, 1, &secret{2}, entropy(1)); err != nil {
		f.Fatal(err)
	}
	f.Add(rec.encode())
	f.Fuzz(func(t *testing.T, b []byte) {
		rec, err := parseRecord(b)
		if err != nil {
			return
		}
		if !bytes.Equal(rec.encode(), b) {
			t.Error("another encoding is accepted")
		}
		_, _ = rec.ring(&secret{1})
	})
}

func FuzzEntry(f *testing.F) {
	d := newDrive(f)
	e := d.addEntry(f, d.device, Writer, DeviceID{})
	e.Parents, e.Epoch, e.Name, e.Time = Tips{{1}, {2}}, 1, "name", noon
	f.Add(e.encode())
	next, wraps, err := d.account.nextEpoch(d.mustLoad(f), DeviceID{})
	if err != nil {
		f.Fatal(err)
	}
	f.Add((&Entry{Parents: Tips{{1}}, Epoch: 1, Op: OpRevoke, Last: Mark{Seq: 3}, Next: next, Wraps: wraps}).encode())
	f.Add((&Entry{Parents: Tips{{1}}, Epoch: 1, Op: OpEpoch, Next: next, Wraps: wraps}).encode())
	f.Add((&Entry{Parents: Tips{{1}}, Epoch: 1, Op: OpSlots, Slots: [][]byte{d.account.Members().slotsOf(RecoverySlot)[0].bytes()}, Gone: []SlotID{{1}, {2}}}).encode())
	f.Fuzz(func(t *testing.T, b []byte) {
		e, err := parseEntry(b)
		if err != nil {
			return
		}
		if !bytes.Equal(e.encode(), b) {
			t.Error("another encoding is accepted")
		}
		m := d.account.Members()
		e.Parents = m.tips
		s := sign(d.account.owner, SignMember, e.encode())
		if more, err := m.with(&node{hash: s.Hash(), e: e, s: s}); err != nil || len(more.tips) == 0 {
			t.Errorf("the log is locked: %v", err)
		}
	})
}

func FuzzSigned(f *testing.F) {
	f.Add(Signed{Body: []byte("body")}.Encode())
	f.Fuzz(func(t *testing.T, b []byte) {
		if s, err := ParseSigned(b); err == nil && !bytes.Equal(s.Encode(), b) {
			t.Error("another encoding is accepted")
		}
	})
}

func FuzzOpenBlob(f *testing.F) {
	b, err := SealBlob(&[32]byte{1}, "head", 1, "heads/x", []byte("text"), 0, entropy(1))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add(b[:100])
	f.Fuzz(func(t *testing.T, p []byte) {
		if _, err := OpenBlob(&[32]byte{1}, "head", "heads/x", p); err == nil && !bytes.Equal(p, b) {
			t.Error("a forged blob is opened")
		}
	})
}

func FuzzReadDevice(f *testing.F) {
	d, dir := newDrive(f), f.TempDir()
	if err := d.account.SaveDevice(dir, d.device, true); err != nil {
		f.Fatal(err)
	}
	b, err := os.ReadFile(filepath.Join(dir, deviceFile))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		file, err := parseDevice(b)
		if err != nil {
			return
		}
		if !bytes.Equal(file.bytes(), b) {
			t.Error("another encoding is accepted")
		}
		if dev, err := d.account.OpenDevice(file); err == nil && dev.ID() != d.device.ID() {
			t.Error("a forged device is opened")
		}
	})
}

func FuzzParseWords(f *testing.F) {
	f.Add(Words([32]byte{1}))
	f.Add("abandon  ABANDON\tart")
	f.Fuzz(func(t *testing.T, text string) {
		code, err := ParseWords(text)
		if err != nil {
			return
		}
		if again, err := ParseWords(Words(code)); err != nil || again != code {
			t.Errorf("got %x, %v", again, err)
		}
	})
}

func FuzzParseFingerprint(f *testing.F) {
	f.Add(Fingerprint{1, 2, 3}.String())
	f.Add("SHF-")
	f.Fuzz(func(t *testing.T, text string) {
		print, err := ParseFingerprint(text)
		if err != nil {
			return
		}
		if again, err := ParseFingerprint(print.String()); err != nil || again != print {
			t.Errorf("got %s, %v", again, err)
		}
	})
}
