package rest

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"unicode/utf8"

	"google.golang.org/genproto/googleapis/api/annotations"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	_ "github.com/sheaf-drive/sheaf/api/proto/sheafv1" // registers the contract
)

// A Route is one request of HTTP and the call that it makes.
type Route struct {
	Method    string // of HTTP
	Path      string // as in "/v1/files/{path=**}"
	Procedure string // as in "/sheaf.v1.Files/Read"

	rpc   protoreflect.MethodDescriptor
	body  bool // the fields that are not in the path are in the body
	elems []elem
}

// elem is one element of the path of a Route.
type elem struct {
	text  string // literally, if field is ""
	field string // takes the element
	rest  bool   // takes all elements that follow, or none
}

// Procedure returns how the transport names a call.
func procedureOf(m protoreflect.MethodDescriptor) string {
	return "/" + string(m.Parent().FullName()) + "/" + string(m.Name())
}

// Routes returns all routes of the contract, in the order of their paths.
func Routes() []Route {
	var all []Route
	protoregistry.GlobalFiles.RangeFilesByPackage("sheaf.v1", func(f protoreflect.FileDescriptor) bool {
		for i := range f.Services().Len() {
			methods := f.Services().Get(i).Methods()
			for j := range methods.Len() {
				rule, ok := proto.GetExtension(methods.Get(j).Options(), annotations.E_Http).(*annotations.HttpRule)
				if !ok || rule == nil {
					continue
				}
				for _, r := range append([]*annotations.HttpRule{rule}, rule.GetAdditionalBindings()...) {
					all = append(all, routeOf(methods.Get(j), r))
				}
			}
		}
		return true
	})
	slices.SortFunc(all, func(a, b Route) int { return strings.Compare(a.Path+" "+a.Method, b.Path+" "+b.Method) })
	return all
}

func routeOf(m protoreflect.MethodDescriptor, rule *annotations.HttpRule) Route {
	r := Route{Procedure: procedureOf(m), rpc: m, body: rule.GetBody() == "*"}
	switch p := rule.GetPattern().(type) {
	case *annotations.HttpRule_Get:
		r.Method, r.Path = http.MethodGet, p.Get
	case *annotations.HttpRule_Put:
		r.Method, r.Path = http.MethodPut, p.Put
	case *annotations.HttpRule_Post:
		r.Method, r.Path = http.MethodPost, p.Post
	case *annotations.HttpRule_Delete:
		r.Method, r.Path = http.MethodDelete, p.Delete
	case *annotations.HttpRule_Patch:
		r.Method, r.Path = http.MethodPatch, p.Patch
	case *annotations.HttpRule_Custom:
		r.Method, r.Path = p.Custom.GetKind(), p.Custom.GetPath()
	}
	for _, text := range strings.Split(strings.TrimPrefix(r.Path, "/"), "/") {
		e := elem{text: text}
		if name, ok := strings.CutPrefix(text, "{"); ok {
			e.field, e.rest = strings.CutSuffix(strings.TrimSuffix(name, "}"), "=**")
			e.text = ""
		}
		r.elems = append(r.elems, e)
	}
	return r
}

// errNoText says that an element of a path is not properly escaped, has an escaped "/", or is no UTF-8: see Files for such names.
var errNoText = errors.New("an element of the path is malformed")

// match returns what the fields in the path of r are in an escaped path.
func (r *Route) match(path string) (fields map[string]string, ok bool, err error) {
	have := strings.Split(strings.TrimPrefix(path, "/"), "/")
	fields = map[string]string{}
	for i, e := range r.elems {
		if e.rest {
			var names []string
			for _, h := range have[min(i, len(have)):] {
				name, err := unescape(h)
				if err != nil {
					return nil, true, err
				}
				names = append(names, name)
			}
			fields[e.field] = strings.Join(names, "/")
			return fields, true, nil
		}
		if i >= len(have) || e.field == "" && have[i] != e.text || have[i] == "" {
			return nil, false, nil
		}
		if e.field != "" {
			if fields[e.field], err = unescape(have[i]); err != nil {
				return nil, true, err
			}
		}
	}
	return fields, len(have) == len(r.elems), nil
}

func unescape(text string) (string, error) {
	name, err := url.PathUnescape(text)
	if err != nil || strings.Contains(name, "/") || !utf8.ValidString(name) {
		return "", fmt.Errorf("%w: %q", errNoText, text)
	}
	return name, nil
}

// find returns the route of a request, or which methods its path has.
func find(routes []Route, r *http.Request) (_ *Route, fields map[string]string, allow []string, err error) {
	path := r.URL.EscapedPath()
	for i := range routes {
		fields, ok, err := routes[i].match(path)
		if !ok || literalElsewhere(routes, &routes[i], path) {
			continue
		}
		if routes[i].Method == r.Method {
			return &routes[i], fields, nil, err
		}
		allow = append(allow, routes[i].Method)
	}
	return nil, nil, allow, nil
}

// literalElsewhere reports whether another route of this method says in so many words what r has a field for: that one goes before.
func literalElsewhere(routes []Route, r *Route, path string) bool {
	if !strings.Contains(r.Path, "{") {
		return false
	}
	return slices.ContainsFunc(routes, func(o Route) bool { return o.Method == r.Method && o.Path == path })
}
