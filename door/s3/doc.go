// Package s3 is the door for programs that speak the protocol of Amazon's S3: the folders at the top of a vfs.FS, or of a folder of it, are its
// buckets, and the files below are their objects. Requests are signed (Signature Version 4) with keys that are given out for it.
//
// The protocol itself is github.com/rclone/gofakes3's. Ours is what it means on a tree:
//
//   - A name in a key is a name of a file, so that a key with an empty name, "." or ".." is refused. A key that ends in "/" is a folder.
//   - An object is seen whole or not at all: it grows in a folder at the root that doors hide, and is durable before a client is told so.
//     The parts of a large one are put together without being copied.
//   - Folders that an object needs are made with it, marked, and go with the last object in them. Others stay: nobody asked to remove them.
//   - The MD5 that S3 calls ETag, and what clients say about an object, lie in an extended attribute with the time of the last change, so that
//     they count until somebody changes the file in another way; its ETag then is none of content, and says so by its form ("…-1").
package s3
