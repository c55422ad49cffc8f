// Package webdav shows a tree (vfs.FS) by HTTP: WebDAV of RFC 4918, classes 1, 2 and 3, or pages to read only. It asks nobody who
// he is and listens on nothing: webdav/guard and webdav/door do.
//
// A Tree is what all doors to one vfs.FS share: the locks, the litter of clients, the folder in which uploads grow. A Handler
// is one view of it.
//
// What holds:
//
//   - A PUT is seen whole or not at all, also after a crash. When it is answered, it is durable on this machine.
//   - An ETag is strong, and another one whenever the content is another: see etag.
//   - A lock is durable before it is answered, if the Tree was given a LockStore.
//   - Nothing is read into memory as a whole but XML (64 KiB at most); a listing is sent as it is read.
//   - Symbolic links, devices and sockets are not shown, and not followed.
package webdav
