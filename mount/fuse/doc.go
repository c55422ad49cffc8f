// Package fuse shows a tree (vfs.FS) as a folder through the kernel's FUSE, on Linux
// and macOS. It knows nothing below vfs: it neither stores nor decides who wins when two
// places change one file.
//
// # What the kernel keeps, and how it stays true
//
// Names, attributes and the content of files are kept by the kernel for ten minutes and
// dropped earlier when the tree says that they changed behind the mount
// (vfs.FS.Changes). With the write-back cache, the default,
// the kernel also gathers writes, and then it alone knows the length and the times
// of a file that it has in memory: it does not believe the tree any more. A file
// that changes behind the mount therefore gets a new node number: its names are
// dropped, and whoever opens it next sees all of the change. A process that holds it
// open goes on with the length it knew, as over NFS.
//
// # Who checks what
//
// The kernel checks permissions (default_permissions), applies the umask, keeps the
// sticky bit, and keeps flock and POSIX locks, which hold on this machine only. The
// tree hands the group of a setgid directory down. This package drops setuid, setgid and
// file capabilities when a file is written or given away (capability
// HANDLE_KILLPRIV_V2; older kernels do it themselves). See acl.go for access
// control lists.
//
// # Closing and syncing
//
// close(2) makes the kernel hand over what it gathered, and reports what failed; the tree
// itself is not told (FLUSH is declined, which saves one request for each close). fsync(2)
// reaches vfs.Handle.Sync, also for a directory. sync(2) and syncfs(2) make the kernel
// hand over its data but do not reach a FUSE file system in user space at all.
package fuse
