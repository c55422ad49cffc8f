// Package guard stands before a door that listens on TCP: it lets in nobody but who was given a password, and no web page of somebody else's.
// It serves nothing itself.
//
// A request passes four questions, in this order: is the Host one of this door's own (else a name of an attacker's has been made to
// lead here), was it a page of another site that sent it, does a password go with it, and what may that see. What is refused is
// told to a log, without names, paths or secrets.
package guard
