// Package powerloss is a disk that remembers: a file system in memory, mounted by FUSE, that
// keeps a log of all that was done to it. From the log it makes what a death of the
// process, or of the machine, would have left at any moment, and it refuses calls on
// demand as a full or broken disk does. It knows nothing of what lies on it.
//
// # Moments
//
// The log is a list of events: each change of a name, of bytes or of a length, and each sync. A moment
// is a number of events; the state at moment n is what was there after the first n of them. What
// a test was promised when the log had n events must hold in every state from n on.
//
// # What a cut leaves
//
// A dead process ([Killed]) leaves all that the system was told. A power cut leaves what was
// synced, and of the rest anything: each write since the last sync of its file is there, is not, or is there
// in some of its sectors of 512 bytes, in any order; a length may have changed or not. What it
// leaves of names depends on the file system, of which there are two models here:
//
//   - [Ordered], as ext4, xfs and btrfs: names change in the order of the calls, and the sync of anything
//     makes all earlier changes of names durable.
//   - [Posix], as the standard allows: only the sync of a folder makes its names durable. Each other change is there
//     or not, whatever came before or after. A rename between folders may leave both names, but never
//     none. The sync of a file does not save its name.
//
// After a sync that failed the kernel may have thrown the bytes away and call the pages
// clean. So the writes that such a sync was to save are saved by no later one, unless chance wants it so.
//
// # Kills
//
// A state that is cut from the log is one that a dead process would leave. [Kill] has a process that uses the disk die in earnest, at one call, with the
// call carried out or not: SIGKILL comes before the answer. What it leaves is the state at the last moment of the log, as
// nothing is done after it.
//
// # In a process of its own
//
// The file system is served by a child of the test, so that a page fault of the test never waits for
// the test. The TestMain of a package that uses it calls [Child] first.
package powerloss
