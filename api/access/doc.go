// Package access decides who may call what. A Grant is what a caller may do; it travels in the context of the call. Needs is what each
// call of the contract needs, and Check holds the one against the other. What has no Grant, or no entry in Needs, is
// refused.
//
// A Store keeps the tokens that give Grants to callers from the network. Whoever comes over the unix socket has the Grant of Local.
package access
