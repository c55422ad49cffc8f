package cloudtest

import (
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"text/scanner"
)

// search answers a query in pages: https://developers.google.com/workspace/drive/api/guides/search-files.
func (d *Drive) search(w http.ResponseWriter, r *http.Request) {
	files := d.files
	if d.lag > 0 {
		d.lag--
		files = d.old
	}
	q, err := parseQuery(r.FormValue("q"))
	size, sizeErr := strconv.Atoi(r.FormValue("pageSize"))
	if sizeErr != nil {
		size = 100
	}
	if err != nil || size < 1 || size > 1000 {
		driveError(w, http.StatusBadRequest, "invalid")
		return
	}
	var ids []string
	for _, dir := range q.dirs {
		if d.lag > 0 || len(d.old) > 0 {
			break
		}
		for id := range d.below[dir] {
			ids = append(ids, id)
		}
	}
	if len(q.dirs) == 0 || len(d.old) > 0 {
		for id := range files {
			ids = append(ids, id)
		}
	}
	if d.lag == 0 {
		d.old = nil
	}
	slices.Sort(ids)
	from, _ := slices.BinarySearch(ids, r.FormValue("pageToken"))
	found, next := []any{}, ""
	for _, id := range ids[from:] {
		f := files[id]
		if !q.match(d, f) {
			continue
		}
		if len(found) == size {
			next = id
			break
		}
		found = append(found, d.resource(f, r.FormValue("fields")))
	}
	answer := map[string]any{"kind": "drive#fileList", "incompleteSearch": false, "files": found}
	if next != "" {
		answer["nextPageToken"] = next
	}
	say(w, http.StatusOK, answer)
}

// A query is a parsed one. dirs are the folders that something has to be in, if it names them.
type query struct {
	match func(*Drive, *driveFile) bool
	dirs  []string
	tok   []string
}

func parseQuery(text string) (*query, error) {
	q := &query{match: func(*Drive, *driveFile) bool { return true }}
	if text == "" {
		return q, nil
	}
	var s scanner.Scanner
	s.Init(strings.NewReader(text))
	s.Error = func(*scanner.Scanner, string) {}
	s.Mode = scanner.ScanIdents
	for t := s.Scan(); t != scanner.EOF; t = s.Scan() {
		if t != '\'' {
			q.tok = append(q.tok, s.TokenText())
			continue
		}
		lit := "'"
		for c := s.Next(); c != '\''; c = s.Next() {
			if c == '\\' {
				c = s.Next()
			}
			if c == scanner.EOF {
				return nil, fmt.Errorf("query %q: a text does not end", text)
			}
			lit += string(c)
		}
		q.tok = append(q.tok, lit)
	}
	m, err := q.or()
	if err != nil || len(q.tok) > 0 {
		return nil, fmt.Errorf("query %q: not understood at %q: %w", text, q.tok, err)
	}
	q.match = m
	return q, nil
}

func (q *query) next() string {
	if len(q.tok) == 0 {
		return ""
	}
	t := q.tok[0]
	q.tok = q.tok[1:]
	return t
}

func (q *query) is(word string) bool {
	if len(q.tok) > 0 && q.tok[0] == word {
		q.tok = q.tok[1:]
		return true
	}
	return false
}

func (q *query) or() (func(*Drive, *driveFile) bool, error) {
	a, err := q.and()
	for err == nil && q.is("or") {
		l := a
		var r func(*Drive, *driveFile) bool
		r, err = q.and()
		a = func(d *Drive, f *driveFile) bool { return l(d, f) || r(d, f) }
	}
	return a, err
}

func (q *query) and() (func(*Drive, *driveFile) bool, error) {
	a, err := q.term()
	for err == nil && q.is("and") {
		l := a
		var r func(*Drive, *driveFile) bool
		r, err = q.term()
		a = func(d *Drive, f *driveFile) bool { return l(d, f) && r(d, f) }
	}
	return a, err
}

func (q *query) term() (func(*Drive, *driveFile) bool, error) {
	if q.is("(") {
		m, err := q.or()
		if err == nil && !q.is(")") {
			err = fmt.Errorf("no end of what is in brackets")
		}
		return m, err
	}
	field := q.next()
	if dir, ok := strings.CutPrefix(field, "'"); ok {
		if !q.is("in") || !q.is("parents") {
			return nil, fmt.Errorf("what is in what")
		}
		q.dirs = append(q.dirs, dir)
		return func(_ *Drive, f *driveFile) bool { return slices.Contains(f.parents, dir) }, nil
	}
	not := q.is("!")
	if !q.is("=") {
		return nil, fmt.Errorf("no operator after %q", field)
	}
	v := strings.TrimPrefix(q.next(), "'")
	is := map[string]func(*Drive, *driveFile) bool{
		"name":     func(_ *Drive, f *driveFile) bool { return strings.EqualFold(f.name, v) },
		"mimeType": func(_ *Drive, f *driveFile) bool { return f.mime == v },
		"trashed":  func(d *Drive, f *driveFile) bool { return strconv.FormatBool(d.inTrash(f)) == v },
	}[field]
	if is == nil {
		return nil, fmt.Errorf("no field %q", field)
	}
	return func(d *Drive, f *driveFile) bool { return is(d, f) != not }, nil
}
