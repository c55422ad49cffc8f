package main

import "github.com/sheaf-drive/sheaf/bench/measure"

// The names of the systems. The first is the one that the others are compared with.
const (
	sheafName = "sheaf"
	cryptName = "gocryptfs"
	plainName = "plain"
	nullName  = "nullfs"
)

var (
	systemNames = []string{sheafName, cryptName, plainName, nullName}
	against     = []string{cryptName, plainName}
)

func newBook(rows []measure.Row) *measure.Book { return measure.NewBook(systemNames, against, rows) }
