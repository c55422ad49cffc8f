package rest

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	"github.com/sheaf-drive/sheaf/api/access"
	contract "github.com/sheaf-drive/sheaf/api/proto"
)

func description(t *testing.T) map[string]any {
	t.Helper()
	b, err := Description()
	if err != nil {
		t.Fatal(err)
	}
	var doc map[string]any
	if err := json.Unmarshal(b, &doc); err != nil {
		t.Fatal(err)
	}
	return doc
}

func TestRoutes_AreOneForEachCall(t *testing.T) {
	left := map[string]bool{}
	for p := range access.Needs { // a test there holds that these are all
		left[p] = true
	}
	seen := map[string]string{}
	for _, r := range Routes() {
		delete(left, r.Procedure)
		if _, ok := access.Needs[r.Procedure]; !ok {
			t.Errorf("%s %s is no call", r.Method, r.Path)
		}
		if other := seen[r.Method+" "+r.Path]; other != "" {
			t.Errorf("%s %s is of %s and of %s", r.Method, r.Path, other, r.Procedure)
		}
		seen[r.Method+" "+r.Path] = r.Procedure
		if !strings.HasPrefix(r.Path, "/v1/") {
			t.Errorf("%s is not below /v1/", r.Path)
		}
		if need := access.Needs[r.Procedure]; need.Writes && (r.Method == "GET" || r.Method == "HEAD") {
			t.Errorf("%s %s changes something", r.Method, r.Path)
		}
		for _, e := range r.elems {
			if f := r.rpc.Input().Fields().ByName(protoreflect.Name(e.field)); e.field != "" && f == nil && specials[r.Method+" "+r.Path] == nil {
				t.Errorf("%s %s: %s has no field %s", r.Method, r.Path, r.rpc.Input().FullName(), e.field)
			}
		}
		if r.rpc.IsStreamingClient() && specials[r.Method+" "+r.Path] == nil {
			t.Errorf("%s %s takes many messages", r.Method, r.Path)
		}
	}
	for p := range left {
		t.Errorf("%s has no route", p)
	}
	for at := range specials {
		if seen[at] == "" || bytesRoutes[at].answers == nil {
			t.Errorf("%s is served, and no route or not described", at)
		}
	}
}

func TestComments_AreThereForEachThing(t *testing.T) {
	c, err := contract.Comments()
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	need := func(d protoreflect.Descriptor, name string) {
		n++
		if c[name] == "" {
			t.Errorf("%s has no comment: %v", name, d.FullName())
		}
	}
	var message func(m protoreflect.MessageDescriptor)
	enum := func(e protoreflect.EnumDescriptor) {
		need(e, string(e.FullName()))
		for i := range e.Values().Len() { // Protocol Buffers has these beside the kind that they are of, and the comments in it
			need(e.Values().Get(i), string(e.FullName())+"."+string(e.Values().Get(i).Name()))
		}
	}
	message = func(m protoreflect.MessageDescriptor) {
		need(m, string(m.FullName()))
		for i := range m.Fields().Len() {
			need(m.Fields().Get(i), string(m.Fields().Get(i).FullName()))
		}
		for i := range m.Messages().Len() {
			message(m.Messages().Get(i))
		}
		for i := range m.Enums().Len() {
			enum(m.Enums().Get(i))
		}
	}
	protoregistry.GlobalFiles.RangeFilesByPackage("sheaf.v1", func(f protoreflect.FileDescriptor) bool {
		for i := range f.Messages().Len() {
			message(f.Messages().Get(i))
		}
		for i := range f.Enums().Len() {
			enum(f.Enums().Get(i))
		}
		for i := range f.Services().Len() {
			s := f.Services().Get(i)
			need(s, string(s.FullName()))
			for j := range s.Methods().Len() {
				need(s.Methods().Get(j), string(s.Methods().Get(j).FullName()))
			}
		}
		return true
	})
	if n < 300 {
		t.Errorf("only %d things were found", n)
	}
}

// What OpenAPI 3.1 wants of a document, as far as ours has it.
func TestDescription_IsValid(t *testing.T) {
	doc := description(t)
	if doc["openapi"] != "3.1.0" {
		t.Errorf("got %v", doc["openapi"])
	}
	only := func(at string, o map[string]any, allowed ...string) {
		for k := range o {
			if !slices.Contains(allowed, k) && !strings.HasPrefix(k, "x-") {
				t.Errorf("%s: no %q can be there", at, k)
			}
		}
	}
	needs := func(at string, o map[string]any, keys ...string) {
		for _, k := range keys {
			if o[k] == nil || o[k] == "" {
				t.Errorf("%s: %q is missing", at, k)
			}
		}
	}
	only("document", doc, "openapi", "info", "servers", "security", "paths", "components")
	needs("info", doc["info"].(map[string]any), "title", "version", "description")
	ids := map[string]bool{}
	for path, item := range doc["paths"].(map[string]any) {
		only(path, item.(map[string]any), "get", "put", "post", "delete", "patch", "head")
		for method, op := range item.(map[string]any) {
			at, op := method+" "+path, op.(map[string]any)
			only(at, op, "operationId", "tags", "summary", "description", "parameters", "requestBody", "responses")
			needs(at, op, "operationId", "summary", "description", "responses")
			if id := op["operationId"].(string); ids[id] {
				t.Errorf("%s: %s is there twice", at, id)
			} else {
				ids[id] = true
			}
			names := map[string]bool{}
			params, _ := op["parameters"].([]any)
			for _, p := range params {
				p := p.(map[string]any)
				only(at, p, "name", "in", "description", "required", "schema", "style", "explode")
				needs(at+" "+fmt.Sprint(p["name"]), p, "name", "in", "description", "schema")
				key := fmt.Sprint(p["in"], p["name"])
				if names[key] {
					t.Errorf("%s: %s is there twice", at, key)
				}
				names[key] = true
				if p["in"] == "path" && (p["required"] != true || !strings.Contains(path, "{"+p["name"].(string)+"}")) {
					t.Errorf("%s: %v", at, p)
				}
			}
			for _, part := range strings.Split(path, "/") {
				if strings.HasPrefix(part, "{") && !names["path"+strings.Trim(part, "{}")] {
					t.Errorf("%s: %s is not described", at, part)
				}
			}
			ok := false
			for status, r := range op["responses"].(map[string]any) {
				ok = ok || status[0] == '2'
				if r := r.(map[string]any); r["$ref"] == nil {
					needs(at+" "+status, r, "description")
					only(at, r, "description", "content", "headers")
				}
			}
			if !ok {
				t.Errorf("%s never goes well", at)
			}
		}
	}
	var walk func(at string, v any)
	walk = func(at string, v any) {
		switch v := v.(type) {
		case []any:
			for i, x := range v {
				walk(fmt.Sprint(at, "/", i), x)
			}
		case map[string]any:
			if r, ok := v["$ref"].(string); ok {
				var to any = doc
				for _, k := range strings.Split(strings.TrimPrefix(r, "#/"), "/") {
					m, _ := to.(map[string]any)
					to = m[k]
				}
				if to == nil {
					t.Errorf("%s: %s leads nowhere", at, r)
				}
			}
			for k, x := range v {
				walk(at+"/"+k, x)
			}
		}
	}
	walk("", doc)
	schemas := doc["components"].(map[string]any)["schemas"].(map[string]any)
	for name, s := range schemas {
		s := s.(map[string]any)
		needs(name, s, "type", "description")
		props, _ := s["properties"].(map[string]any)
		for k, p := range props {
			needs(name+"."+k, p.(map[string]any), "description")
		}
	}
	if len(schemas) < 80 {
		t.Errorf("only %d schemas", len(schemas))
	}
}
