// Package rest is the contract over plain HTTP and JSON, and its description by OpenAPI 3.1. Which request calls what stands in the
// contract (google.api.http), and both the routes and the description are made of that when the program starts, so that they cannot
// differ.
//
// A request becomes a call of the Connect handler in this process: what may be called, and what it does, is decided there and not here. Only the
// bytes of files have handlers of their own, for ranges, conditions and uploads that can be gone on with.
//
// Answers are JSON as Protocol Buffers have it, with the names of the contract: 64-bit numbers are texts, times are RFC 3339. A call that
// yields many messages answers with one JSON object a line.
package rest
