package webdav

import (
	"errors"
	"net/http"
	"strings"
)

// An ifList is one list of an If header: all its conditions have to hold.
type ifList struct {
	resource string // the URL before it, or "": that of the request
	conds    []ifCond
}

// An ifCond is one condition: a lock's token or an ETag.
type ifCond struct {
	not   bool
	token string
	etag  string // with its quotes
}

// maxIf is the number of conditions that are taken in.
const maxIf = 1000

var errIf = errors.New("the If header is not what RFC 4918 says")

// parseIf reads an If header (RFC 4918, section 10.4).
func parseIf(s string) ([]ifList, error) {
	var lists []ifList
	resource, tagged, conds := "", false, 0
	s = strings.TrimSpace(s)
	if s == "" {
		return nil, errIf
	}
	for first := true; s != ""; first = false {
		if s[0] == '<' {
			end := strings.IndexByte(s, '>')
			if end < 2 || !first && !tagged {
				return nil, errIf
			}
			resource, tagged = s[1:end], true
			s = strings.TrimLeft(s[end+1:], " \t")
			if s == "" {
				return nil, errIf
			}
		}
		l := ifList{resource: resource}
		var err error
		if s, l.conds, err = parseIfList(s); err != nil {
			return nil, err
		}
		if conds += len(l.conds); conds > maxIf {
			return nil, errIf
		}
		lists = append(lists, l)
		s = strings.TrimLeft(s, " \t")
	}
	return lists, nil
}

// parseIfList reads what stands in one pair of parentheses, and returns what follows.
func parseIfList(s string) (rest string, conds []ifCond, err error) {
	if s[0] != '(' {
		return "", nil, errIf
	}
	s = s[1:]
	for {
		s = strings.TrimLeft(s, " \t")
		if s == "" {
			return "", nil, errIf
		}
		if s[0] == ')' {
			if len(conds) == 0 {
				return "", nil, errIf
			}
			return s[1:], conds, nil
		}
		var c ifCond
		if len(s) > 3 && strings.EqualFold(s[:3], "not") {
			c.not = true
			s = strings.TrimLeft(s[3:], " \t")
		}
		switch {
		case strings.HasPrefix(s, "<"):
			end := strings.IndexByte(s, '>')
			if end < 2 {
				return "", nil, errIf
			}
			c.token, s = s[1:end], s[end+1:]
		case strings.HasPrefix(s, "["):
			end := strings.IndexByte(s, ']')
			if end < 0 {
				return "", nil, errIf
			}
			c.etag = s[1:end]
			s = s[end+1:]
			if !isETag(c.etag) {
				return "", nil, errIf
			}
		default:
			return "", nil, errIf
		}
		conds = append(conds, c)
	}
}

// isETag reports whether s is an entity tag.
func isETag(s string) bool {
	s = strings.TrimPrefix(s, "W/")
	return len(s) >= 2 && s[0] == '"' && s[len(s)-1] == '"' && !strings.Contains(s[1:len(s)-1], `"`)
}

// tokensOf returns all tokens that an If header has: those are submitted, wherever they stand in it.
func tokensOf(lists []ifList) map[string]bool {
	tokens := map[string]bool{}
	for _, l := range lists {
		for _, c := range l.conds {
			if c.token != "" {
				tokens[c.token] = true
			}
		}
	}
	return tokens
}

// ifOf returns the If header of a request: nil if there is none.
func ifOf(r *http.Request) ([]ifList, error) {
	v := r.Header.Values("If")
	if len(v) == 0 {
		return nil, nil
	}
	lists, err := parseIf(strings.Join(v, " "))
	if err != nil {
		return nil, refuse(http.StatusBadRequest, err.Error())
	}
	return lists, nil
}

// listed reports whether a header of entity tags, as in If-Match, has tag, whose strength weak ignores.
func listed(header, tag string, weak bool) bool {
	for header = strings.TrimSpace(header); header != ""; {
		header = strings.TrimLeft(header, " \t,")
		if strings.HasPrefix(header, "*") {
			return true
		}
		start := 0
		if strings.HasPrefix(header, "W/") {
			start = 2
		}
		if len(header) < start+2 || header[start] != '"' {
			return false
		}
		end := strings.IndexByte(header[start+1:], '"')
		if end < 0 {
			return false
		}
		one := header[:start+end+2]
		header = header[start+end+2:]
		if weak && strings.TrimPrefix(one, "W/") == strings.TrimPrefix(tag, "W/") || !weak && one == tag && start == 0 {
			return true
		}
	}
	return false
}
