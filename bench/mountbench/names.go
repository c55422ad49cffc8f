package main

import "github.com/sheaf-drive/sheaf/bench/measure"

// The names of the systems. The first is the one that the others are compared with.
const (
	sheafName = "sheaf"
	cryptName = "gocryptfs"
	juiceName = "juicefs" // only if it is installed
	plainName = "plain"
	nullName  = "nullfs"
)

// systemNames lists the systems of a run.
func systemNames(juice bool) []string {
	if juice {
		return []string{sheafName, cryptName, juiceName, plainName, nullName}
	}
	return []string{sheafName, cryptName, plainName, nullName}
}

// newBook returns a book in which the goals are about gocryptfs.
func newBook(systems []string, rows []measure.Row) *measure.Book {
	var against []string
	for _, s := range systems[1:] {
		if s != nullName {
			against = append(against, s)
		}
	}
	return measure.NewBook(systems, against, rows)
}
