package aside

import (
	"strings"
	"testing"
)

func TestName_SaysWhichFileItIsOf(t *testing.T) {
	for _, ino := range []uint64{0, 1, 1<<64 - 1} {
		name := Name(ino)
		if !Is(name) || name == Name(ino) {
			t.Errorf("%q is no hidden name, or that of another file, too", name)
		}
		if !Ours(name, ino, false) || Ours(name, ino+1, false) && ino+1 != 0 {
			t.Errorf("%q is not known to be of file %d alone", name, ino)
		}
		if got, want := Ours(name, 7, true), ino == 0; got != want {
			t.Errorf("an empty file under %q is ours: %v, want %v", name, got, want)
		}
	}
}

func TestIs_TakesNoOtherNames(t *testing.T) {
	name := Name(12)
	for _, other := range []string{
		"", prefix, name[1:], name + "0", name[:len(name)-1], strings.Replace(name[len(prefix):], "-", "0", 1), prefix + strings.Repeat("x", length-len(prefix)),
		name[:len(name)-1] + "g", strings.ToUpper(name),
	} {
		if Is(other) {
			t.Errorf("%q is taken for a hidden name", other)
		}
	}
}

func TestSaved_IsANameThatIsSeen(t *testing.T) {
	name := Name(12)
	for _, was := range []string{"file", strings.Repeat("n", 255)} {
		if got := Saved(name, was); Is(got) || len(got) > most || got == was || !strings.HasSuffix(strings.TrimSuffix(got, ")"), name[length-digits:]) {
			t.Errorf("%q becomes %q", was, got)
		}
	}
}
