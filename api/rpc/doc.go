// Package rpc carries the contract over Connect, gRPC and gRPC-Web: handlers for
// a service.Service, and the client of them. It decides nothing: package service does.
package rpc
