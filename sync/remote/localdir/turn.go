package localdir

import (
	"hash/maphash"
	"sync"
)

// turns are for the steps in which a name gets, or loses, what it stands for: of those that this process takes in one folder, one is taken
// after the other, whichever Tree it is of. Each of them looks at what is there, changes it, and takes that back if somebody else was faster. Of two of
// ours at once, one could take for somebody else's what the other was about to take back, and a refused file would stay in the place of one
// that was acknowledged. Programs that know nothing of this are met as Put says.
//
// Which folders share one is chance: a turn takes a few calls of the system, and no transfer.
var turns [64]sync.Mutex

var turnSeed = maphash.MakeSeed()

// turn waits until this process changes nothing else in the folders, and returns what ends the turn. Who has a turn must not wait for another.
func turn(folders ...*folder) (done func(), err error) {
	var taken [len(turns)]bool
	for _, d := range folders {
		i, err := d.self()
		if err != nil {
			return nil, err
		}
		// A system without numbers of files has one turn for all of them.
		taken[maphash.Comparable(turnSeed, [2]uint64{i.dev, i.ino})%uint64(len(turns))] = true
	}
	for n := range turns { // in one order, so that no two wait for each other
		if taken[n] {
			turns[n].Lock()
		}
	}
	return func() {
		for n := range turns {
			if taken[n] {
				turns[n].Unlock()
			}
		}
	}, nil
}
