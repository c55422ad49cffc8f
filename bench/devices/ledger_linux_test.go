package devices

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"
)

// A ledger knows of each piece of text that was ever written whether it has to be there. Each is written once.
type ledger struct {
	mu    sync.Mutex
	last  int
	texts map[string]*text
	past  []string // what was done, in the order in which it ended
}

// tell notes what was done.
func (l *ledger) tell(begun time.Time, format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.past = append(l.past, fmt.Sprintf("%s-%s ", begun.Format("05.000"), time.Now().Format("05.000"))+fmt.Sprintf(format, args...))
}

// about returns what was done with some text, or with the names of it.
func (l *ledger) about(s string) (past []string) {
	names := []string{s}
	for range 3 { // from the text to its names, and where these went
		past = past[:0]
		for _, line := range l.past {
			if !slices.ContainsFunc(names, func(n string) bool { return strings.Contains(line, n) }) {
				continue
			}
			past = append(past, line)
			for _, word := range strings.Fields(line) {
				if strings.HasPrefix(word, "/") && !slices.Contains(names, word) && len(names) < 4 {
					names = append(names, word)
				}
			}
		}
	}
	return past
}

type text struct {
	by     string
	synced bool // fsync returned after it was written
	free   bool // somebody who saw it began to replace or remove it: it may be there or not
}

var textForm = regexp.MustCompile(`<[a-z0-9]+:[0-9]+>`)

// write returns a new text.
func (l *ledger) write(by string) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.last++
	s := fmt.Sprintf("<%s:%d>", by, l.last)
	l.texts[s] = &text{by: by}
	return s
}

// synced notes that a text is durable.
func (l *ledger) synced(s string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.texts[s].synced = true
}

// free notes that the texts in some bytes of a file are about to be replaced or removed by one who has seen them.
func (l *ledger) free(content []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, s := range textForm.FindAllString(string(content), -1) {
		if t := l.texts[s]; t != nil {
			t.free = true
		}
	}
}

// missing returns the texts that have to be there and are not in found.
func (l *ledger) missing(found map[string]string) (missing []string, due int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for s, t := range l.texts {
		if !t.synced || t.free {
			continue
		}
		due++
		if _, ok := found[s]; !ok {
			missing = append(missing, s)
		}
	}
	return missing, due
}
