// Package meeting is a server at which devices find each other that do not know where the others are, and what they say to it. The server knows pseudonyms, and where those who hold them come
// from; it passes on what is sealed to others, tells a device from which address its packets come, and carries, as a last resort, connections that are encrypted from end to end. It keeps nothing
// on disk but its own key, and knows no drive.
//
// # The protocol
//
// TLS 1.3 over TCP, ALPN "sheaf-meet/1". The certificate is one that this system trusts, or the address of the server has the hash of its public key. Frames: a kind in one byte, a length of
// at most 2 KiB in two (big endian), and that many bytes. A client begins; it says at least every [Quiet].
//
//	1 hold   claims of 16 bytes, at most 8: be who is meant by their hashes, and by no others
//	2 held
//	3 tell   number (4 bytes), slot (16), at most 1 KiB: pass this on to who holds the slot
//	4 told   number, and 1 byte: 0 nobody holds it, 1 passed on, 2 too much is said
//	5 said   slot, what was told: from the server
//	6 relay  token (16): join me with the connection that says the same; nothing else may come on this one
//	7 joined from here on bytes go to and fro
//	8 ping, 9 pong
//
// On the UDP port of the same number the server answers Binding requests of STUN (RFC 8489), without any credentials.
//
// # Bounds
//
// All is bounded: see [Options]. A connection has 64 KiB at most of what is to be sent to it; a relay holds 64 KiB.
package meeting
