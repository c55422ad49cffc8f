// Package winfsp shows a tree (vfs.FS) through cgofuse: as a drive letter or a folder of Windows (WinFsp), without C. With the
// build tag cgofuse, and C, the same code is built against libfuse 2, on Linux, where its tests mount it, and on macOS (macFUSE,
// FUSE-T). It knows nothing below vfs. Where it is not built it says so, as a mount.Door that mounts nothing.
//
// # Names
//
// A tree has names that Windows cannot bear. names.go maps them, so that no two names of one directory are shown as one, and
// every one of them is reached by what is shown of it. See Encode.
//
// # What this API cannot do
//
// It says nothing of nodes, only of paths, and the kernel is told of no change (but by time: what it was told of a name it believes for
// a second, and what it keeps of a file's content it drops when the file is opened anew). Each name of a file that has several is a file of its
// own to the kernel. So this package is for systems
// that have nothing better; on Linux that is mount/fuse. In particular, of what mount/mounttest asks for, FUSE 2
// has no allocation of ranges (fallocate), no search for holes (lseek), no flags of a rename, and by cgofuse no way to set one of
// the two times alone; and who opens a file just when it is replaced may be told that there is none. Access control lists are not kept, and are refused.
//
// # Removed files that are open
//
// libfuse gives a file that is removed or replaced while it is open a hidden name, and removes that when the file is closed. Here
// the tree never sees that name: the file is removed from it, or replaced in one step, as by every other door. See hidden.go.
//
// # Windows
//
// Every file belongs to whoever mounts, as Windows sees it; in the tree a new node gets the owner of its directory, and owners are not
// changed from there. Attributes (hidden, read-only, system, archive) and a time of creation that a program sets are kept as extended
// attributes of the tree: see attributes.go. The driver fails what is open when it is unmounted by force; without force a
// mount in which a file is open stays. What was written is in the tree before the program's call returns, but for pages of memory
// maps, which Windows writes when it likes, or when it is asked to (FlushViewOfFile).
package winfsp
