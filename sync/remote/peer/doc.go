// Package peer makes a device a bucket for other devices, and other devices buckets for it. It moves sealed blobs and
// has no key of a drive; whom to let in it is told. It decides nothing of what is copied: package replica does.
//
// # What lies below
//
// Two devices have a session: QUIC (RFC 9000), or where UDP does not get through, TLS 1.3 over TCP with streams by yamux. Both sides show a
// certificate that they signed themselves with their device key, and both look up that key in [Options].Admit: at the handshake, before each
// call, and when [Node.Recheck] is called, which ends the sessions of those that are admitted no more. There is no resumption and no 0-RTT, so
// there is no handshake that skips this. A session has no client and no server: either side opens streams, so one of two devices that
// cannot be dialled is a bucket all the same.
//
// # Calls
//
// A call is a stream: frames of at most 256 KiB, of which docs/FORMAT.md has the bytes ("Between devices"). What a far side sends is held to its
// limits before memory is taken for it, and each frame has to come within a time. At most [maxCalls] calls of one session are served at a time, and
// more wait. A blob has at most 64 MiB.
//
// Packs are verified as they come, in groups of 1 MiB, against their names: the first read of a pack asks for the hashes of its tree (BLAKE3, in the outboard form of
// Bao: at most 64 bytes for each MiB), and a group whose hash does not fit is an error that wraps [ErrWrongBytes], and is not handed out. A pack that is put is
// stored only if its hash is its name. Other blobs are sealed, and whoever opens them verifies them.
//
// # Memory
//
// For a session over QUIC 4 MiB of windows, or up to 32 once much has come, with at most 256 MiB above those 4 for all sessions together; over TCP 1 MiB for each
// stream. For each call that is served, two frames, and 1 MiB for a group that is verified; for the trees of packs 2 KiB each, [maxTrees] at a time.
package peer
