package rest

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"google.golang.org/protobuf/reflect/protoreflect"

	contract "github.com/sheaf-drive/sheaf/api/proto"
)

// object is a JSON object, whose keys are sorted when it is written.
type object = map[string]any

// mayFail are the statuses by which errors are told, besides 500, which is a mistake in sheaf itself.
var mayFail = []int{400, 401, 403, 404, 405, 409, 412, 413, 421, 422, 423, 424, 501, 503, 507}

// describer makes the description.
type describer struct {
	comments map[string]string
	schemas  object
}

// Description returns the description of all routes, by OpenAPI 3.1, as JSON. It is made of the contract alone.
func Description() ([]byte, error) {
	c, err := contract.Comments()
	if err != nil {
		return nil, fmt.Errorf("describe: %w", err)
	}
	d := &describer{comments: c, schemas: object{}}
	paths := object{}
	for _, r := range Routes() {
		path := strings.ReplaceAll(r.Path, "=**}", "}")
		if paths[path] == nil {
			paths[path] = object{}
		}
		paths[path].(object)[strings.ToLower(r.Method)] = d.operation(&r)
	}
	d.schemas["Problem"] = object{
		"type": "object", "additionalProperties": false, "required": []string{"code", "error", "hint"},
		"description": "Why a request failed.",
		"properties": object{
			"code":  object{"type": "string", "description": "Its kind, as Code of the contract has it, in lower case and without CODE_."},
			"error": object{"type": "string", "description": "What failed, for people."},
			"hint":  object{"type": "string", "description": "What to do about it; may be empty."},
		},
	}
	b, err := json.MarshalIndent(object{
		"openapi": "3.1.0",
		"info": object{
			"title": "sheaf", "version": "v1",
			"license": object{"name": "Apache License 2.0", "identifier": "Apache-2.0"},
			"description": "An encrypted drive, over HTTP. In a path, each name is escaped by itself. Numbers of 64 bits are texts. " +
				"What yields many messages answers with one JSON object a line, of which the last may be a Problem.",
		},
		"servers":  []any{object{"url": "/"}},
		"security": []any{object{"token": []string{}}},
		"paths":    paths,
		"components": object{
			"schemas":         d.schemas,
			"securitySchemes": object{"token": object{"type": "http", "scheme": "bearer", "description": "sheaf token create"}},
			"responses": object{"Problem": object{
				"description": "It failed.", "content": object{"application/json": object{"schema": ref("Problem")}},
			}},
		},
	}, "", "\t")
	if err != nil {
		return nil, fmt.Errorf("describe: %w", err)
	}
	return append(b, '\n'), nil
}

func ref(name string) object { return object{"$ref": "#/components/schemas/" + name} }

// operation describes one route.
func (d *describer) operation(r *Route) object {
	full := string(r.rpc.FullName())
	id := strings.TrimPrefix(full, "sheaf.v1.")
	said := d.comments[full]
	summary, _, _ := strings.Cut(strings.ReplaceAll(said, "\n", " "), ". ")
	if first := firstRoute(r); first != r.Method+" "+r.Path { // each operation has a name of its own
		id += "_" + strings.ToLower(r.Method)
	}
	op := object{
		"operationId": id, "tags": []string{string(r.rpc.Parent().Name())}, "summary": strings.TrimSuffix(summary, "."), "description": said,
		"x-sheaf-call": r.Procedure,
	}
	var params []any
	for _, e := range r.elems {
		if e.field == "" {
			continue
		}
		schema, about := object{"type": "string"}, "The name of the upload."
		if f := r.rpc.Input().Fields().ByName(protoreflect.Name(e.field)); f != nil {
			schema, about = d.value(f), d.comments[string(f.FullName())]
		}
		if e.rest {
			about += " It may have any number of names, with a slash between them, each escaped by itself."
		}
		params = append(params, object{"name": e.field, "in": "path", "required": true, "description": about, "schema": schema})
	}
	responses := object{}
	if s, ok := bytesRoutes[r.Method+" "+r.Path]; ok {
		params = append(params, s.params...)
		if s.body != "" {
			op["requestBody"] = object{"required": true, "description": s.body, "content": object{"application/octet-stream": object{}}}
		}
		s.answers(d, r, responses)
	} else {
		fields := r.rpc.Input().Fields()
		for i := range fields.Len() {
			if f := fields.Get(i); !r.body && scalar(f) && !inPath(r, string(f.Name())) {
				params = append(params, object{
					"name": string(f.Name()), "in": "query", "description": d.comments[string(f.FullName())], "schema": d.schemaOf(f), "explode": true, "style": "form",
				})
			}
		}
		if r.body {
			op["requestBody"] = object{"required": false, "content": object{"application/json": object{"schema": d.message(r.rpc.Input())}}}
		}
		d.ok(r, responses)
	}
	if len(params) > 0 {
		op["parameters"] = params
	}
	for _, status := range mayFail {
		if responses[strconv.Itoa(status)] == nil {
			responses[strconv.Itoa(status)] = object{"$ref": "#/components/responses/Problem"}
		}
	}
	op["responses"] = responses
	return op
}

// firstRoute returns the first route of the call of r that has the same method, or else the first of all.
func firstRoute(r *Route) string {
	for _, o := range Routes() {
		if o.Procedure == r.Procedure {
			return o.Method + " " + o.Path
		}
	}
	return ""
}

// ok describes the answer of a call that went well.
func (d *describer) ok(r *Route, responses object) {
	out := d.message(r.rpc.Output())
	about := d.comments[string(r.rpc.Output().FullName())]
	if r.rpc.IsStreamingServer() {
		responses["200"] = object{
			"description": about + " One a line.",
			"content":     object{"application/jsonl": object{"schema": object{"anyOf": []any{out, ref("Problem")}}}},
		}
		if r.Path == eventsPath {
			responses["101"] = object{"description": "The connection becomes a WebSocket, with one message of JSON for each object."}
		}
		return
	}
	responses["200"] = object{"description": about, "content": object{"application/json": object{"schema": out}}}
}

// message returns a reference to a message, and describes it if that was not done yet.
func (d *describer) message(m protoreflect.MessageDescriptor) object {
	name := schemaName(m)
	if _, ok := d.schemas[name]; ok {
		return ref(name)
	}
	d.schemas[name] = object{} // it may be in itself
	props := object{}
	for i := range m.Fields().Len() {
		f := m.Fields().Get(i)
		s := d.schemaOf(f)
		about := d.comments[string(f.FullName())]
		if o := f.ContainingOneof(); o != nil && !o.IsSynthetic() {
			about += " At most one of the fields of " + string(o.Name()) + " is set."
		}
		s["description"] = about
		props[string(f.Name())] = s
	}
	d.schemas[name] = object{"type": "object", "additionalProperties": false, "description": d.comments[string(m.FullName())], "properties": props}
	return ref(name)
}

func schemaName(m protoreflect.Descriptor) string {
	return strings.ReplaceAll(strings.TrimPrefix(string(m.FullName()), "sheaf.v1."), ".", "")
}

// schemaOf describes what a field holds.
func (d *describer) schemaOf(f protoreflect.FieldDescriptor) object {
	if f.IsList() {
		return object{"type": "array", "items": d.value(f)}
	}
	v := d.value(f)
	if f.Kind() == protoreflect.MessageKind {
		return object{"anyOf": []any{v, object{"type": "null"}}}
	}
	return v
}

// value describes one value of a field.
func (d *describer) value(f protoreflect.FieldDescriptor) object {
	switch f.Kind() {
	case protoreflect.MessageKind:
		if f.Message().FullName() == "google.protobuf.Timestamp" {
			return object{"type": "string", "format": "date-time"}
		}
		return d.message(f.Message())
	case protoreflect.EnumKind:
		return d.enum(f.Enum())
	case protoreflect.BoolKind:
		return object{"type": "boolean"}
	case protoreflect.StringKind:
		return object{"type": "string"}
	case protoreflect.BytesKind:
		return object{"type": "string", "contentEncoding": "base64"}
	case protoreflect.Int32Kind, protoreflect.Sint32Kind, protoreflect.Sfixed32Kind:
		return object{"type": "integer", "format": "int32"}
	case protoreflect.Uint32Kind, protoreflect.Fixed32Kind:
		return object{"type": "integer", "format": "int64", "minimum": 0, "maximum": 1<<32 - 1}
	case protoreflect.Uint64Kind, protoreflect.Fixed64Kind:
		return object{"type": "string", "format": "uint64", "pattern": "^[0-9]+$"}
	}
	return object{"type": "string", "format": "int64", "pattern": "^-?[0-9]+$"}
}

func (d *describer) enum(e protoreflect.EnumDescriptor) object {
	name := schemaName(e)
	if d.schemas[name] == nil {
		var values []string
		about := d.comments[string(e.FullName())]
		for i := range e.Values().Len() {
			v := e.Values().Get(i)
			values = append(values, string(v.Name()))
			about += "\n- " + string(v.Name()) + ": " + d.comments[string(e.FullName())+"."+string(v.Name())]
		}
		d.schemas[name] = object{"type": "string", "enum": values, "description": about}
	}
	return ref(name)
}

// bytesRoute is what is to be said of a route that carries the bytes of a file.
type bytesRoute struct {
	params  []any
	body    string // about the bytes that it takes; "": it takes none
	answers func(d *describer, r *Route, responses object)
}

func query(name, about string, required bool, schema object) object {
	return object{"name": name, "in": "query", "description": about, "required": required, "schema": schema}
}

func header(name, about string, required bool) object {
	return object{"name": name, "in": "header", "description": about, "required": required, "schema": object{"type": "string"}}
}

var (
	text         = object{"type": "string"}
	flag         = object{"type": "boolean"}
	ifMatch      = header("If-Match", "Only if what is there has this ETag.", false)
	ifNoneMatch  = header("If-None-Match", "Only if what is there has not this ETag; *: only if nothing is there.", false)
	uploadParams = []any{
		query("path", "Where the file is to be.", true, text),
		query("length", "How many bytes it will have.", true, object{"type": "string", "pattern": "^[0-9]+$"}),
		query("sha256", "Their SHA-256, as 64 hexadecimal digits: with other bytes it fails.", false, text),
		query("exclusive", "Fail if the path is taken.", false, flag),
	}
	// Location has them all, so that they are allowed.
	uploadAsked   = append([]any{uploadParams[0], query("length", "Is not looked at.", false, text)}, uploadParams[2:]...)
	uploadHeaders = object{
		"Upload-Offset": object{"description": "How many bytes came.", "schema": text},
		"Location":      object{"description": "Where it goes on.", "schema": text},
		"ETag":          object{"description": "The state of the file, if it is there now.", "schema": text},
	}
)

// fileAnswers describes those of a route that reads a file.
func fileAnswers(_ *describer, r *Route, responses object) {
	etag := object{"ETag": object{"description": "The state of the file.", "schema": text}}
	for status, about := range map[int]string{200: "The file.", 206: "The range, or as multipart/byteranges the ranges."} {
		a := object{"description": about, "headers": etag}
		if r.Method != http.MethodHead {
			a["content"] = object{"application/octet-stream": object{}, "multipart/byteranges": object{}}
		}
		responses[strconv.Itoa(status)] = a
	}
	responses["304"] = object{"description": "It is as If-None-Match says.", "headers": etag}
	responses["412"] = object{"description": "It is not as If-Match says."}
	responses["416"] = object{"description": "There are no such bytes.", "content": object{"text/plain": object{}}}
}

// madeAnswers describes those of a route that takes bytes.
func madeAnswers(d *describer, r *Route, responses object) {
	status := "200"
	if r.Method == http.MethodPost {
		status = "201"
	}
	d.ok(r, responses)
	a := responses["200"].(object)
	delete(responses, "200")
	a["headers"] = uploadHeaders
	responses[status] = a
}

var bytesRoutes = map[string]bytesRoute{
	"GET /v1/files/{path=**}": {params: []any{
		query("at", "The time, as in Files.", false, text), header("Range", "Which bytes.", false), header("If-Range", "Ranges only of this ETag.", false), ifMatch, ifNoneMatch,
	}, answers: fileAnswers},
	"HEAD /v1/files/{path=**}": {params: []any{query("at", "The time, as in Files.", false, text), ifMatch, ifNoneMatch}, answers: fileAnswers},
	"PUT /v1/files/{path=**}": {
		params: []any{ifMatch, ifNoneMatch, header("Repr-Digest", "sha-256=:BASE64: — with other bytes it fails (RFC 9530).", false)},
		body:   "The file.", answers: madeAnswers,
	},
	"DELETE /v1/files/{path=**}": {params: []any{
		query("recursive", "A directory with all that is in it.", false, flag), query("force", "A path that is not there is no error.", false, flag), ifMatch, ifNoneMatch,
	}, answers: func(d *describer, r *Route, responses object) { d.ok(r, responses) }},
	"POST /v1/uploads":           {params: uploadParams, body: "The first bytes, or none.", answers: madeAnswers},
	"PATCH /v1/uploads/{upload}": {params: append([]any{header("Upload-Offset", "At which byte the body begins.", true)}, uploadParams...), body: "The next bytes.", answers: madeAnswers},
	"GET /v1/uploads/{upload}":   {params: uploadAsked, answers: madeAnswers},
	"HEAD /v1/uploads/{upload}":  {params: uploadAsked, answers: madeAnswers},
}
