// Package engine keeps a drive alike in all the places it is copied to: it gives each replica its turn, when
// this device has put something, and now and then to see what others did. It is not the copying, which is package
// replica, and it never looks into what it copies.
//
// A turn of a replica is
//
//  1. Push: what this device put and the replica lacks goes there; and, where there are other replicas, what came from these.
//     Then what this device has removed goes away there.
//  2. Fetch: the small blobs that others have put there come here, and which packs it has is noted.
//  3. If there was a head among them, Adopt is called, which makes of it what it knows to; that moves this device's own head,
//     and so all replicas get a turn.
//
// A replica that fails is tried again, after a second at first and ten minutes at last; Nudge does not hurry it, Sync does.
// Nothing that this device has is ever removed because of what a replica shows.
package engine
