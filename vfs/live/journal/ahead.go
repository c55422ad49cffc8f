package journal

// aheadStep is how many bytes gather before the disk is told to begin with them.
const aheadStep = 4 << 20

// An ahead has the disk begin with what was written before anybody waits for it: the
// Sync at the end of a long write would otherwise stand still for as long as the disk
// takes for all of it.
type ahead struct {
	spans chan span
	done  chan struct{}
}

type span struct {
	f      File
	off, n int64
}

// startAhead starts the goroutine that gives the hints, for a hint may have to wait
// while the disk is busy. It ends with end.
func startAhead() *ahead {
	a := &ahead{spans: make(chan span, 4), done: make(chan struct{})}
	go func() {
		defer close(a.done)
		for s := range a.spans {
			s.f.Ahead(s.off, s.n)
		}
	}()
	return a
}

// grown gives a hint if enough has gathered in seg. While the disk is busy with
// earlier ones none is given, and more gathers. Journal.mu is held.
func (a *ahead) grown(seg *segment) {
	from := max(seg.begun, seg.syncedSize)
	if seg.size-from < aheadStep {
		return
	}
	select {
	case a.spans <- span{seg.f, from, seg.size - from}:
		seg.begun = seg.size
	default:
	}
}

// end waits for the goroutine. Nothing may be told to a any more.
func (a *ahead) end() {
	close(a.spans)
	<-a.done
}
