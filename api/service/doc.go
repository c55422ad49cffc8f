// Package service holds the use cases of the contract (api/proto) over a drive:
// what each RPC does. It knows no transport, and neither how a drive is found on
// this device nor how it is mounted: it is handed both as values.
//
// The messages of the contract are its vocabulary, so that every tongue (rpc now,
// rest and ws later) and the command's --json show the same things under the same names.
package service
