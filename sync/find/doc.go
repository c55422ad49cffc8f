// Package find tells where the other devices of a drive are: on the networks that this device is on, by multicast, and elsewhere by servers at which both are known by pseudonyms. It does
// not say who anybody is: what it finds are addresses to try, and the handshake of package peer decides who is there.
//
// # Pseudonyms
//
// All devices of a drive share secrets, one for each epoch. A device is named for an hour by a keyed hash (BLAKE3) of its key and the hour under the newest secret that it has. Who shares the secret
// knows all names of the hour; to others they are random, and those of two hours have nothing in common. A device takes what is said under this hour, the one before and the one after, for
// clocks differ, and under its newest three secrets, for not all have heard of the newest epoch yet.
//
// # Cards
//
// What a device says is a [Card], sealed (XChaCha20-Poly1305) to those who share the secret, bound to the pseudonym under which it is sent, and always of one size. Who keeps a card and sends it
// once more later has no more from it than a dial that fails: a card that is not newer than the last one of its device is dropped, and after the hour that follows its own its pseudonym means nothing.
package find
