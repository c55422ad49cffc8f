// Package sftp is the door for programs that speak SFTP, version 3 with the extensions of OpenSSH for atomic renames, hard links and free
// room: it shows a vfs.FS, or a folder of it, to whoever has a password. It gives no shell, runs no command and forwards nothing.
//
// The protocol itself is github.com/pkg/sftp's and golang.org/x/crypto/ssh's. Ours is what it means on a tree: paths end at the
// root that is shown, wherever a symbolic link or ".." points, and a file or a name for which a client was told "done" is durable.
package sftp
