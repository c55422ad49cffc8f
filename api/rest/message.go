package rest

import (
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/dynamicpb"
)

// maxBody is the longest body of JSON that is taken in, in bytes.
const maxBody = 1 << 20

// errRequest is wrapped by the error for a request that makes no message.
var errRequest = errors.New("malformed request")

// fill makes the message of a call from the path, the query and the body of a request.
func (r *Route) fill(w http.ResponseWriter, req *http.Request, fields map[string]string) (*dynamicpb.Message, error) {
	m := dynamicpb.NewMessage(r.rpc.Input())
	if r.body {
		b, err := io.ReadAll(http.MaxBytesReader(w, req.Body, maxBody))
		if err != nil {
			return nil, err
		}
		if len(b) > 0 { // no body is a message in which nothing is set
			if err := protojson.Unmarshal(b, m); err != nil {
				return nil, fmt.Errorf("%w: the body is not what is expected: %s", errRequest, plain(err))
			}
		}
	}
	query, err := url.ParseQuery(req.URL.RawQuery)
	if err != nil {
		return nil, fmt.Errorf("%w: the query is malformed", errRequest)
	}
	for name, values := range query {
		f := m.Descriptor().Fields().ByName(protoreflect.Name(name))
		if r.body || f == nil || !scalar(f) || inPath(r, name) {
			return nil, fmt.Errorf("%w: there is no parameter %q", errRequest, name)
		}
		if len(values) > 1 && !f.IsList() {
			return nil, fmt.Errorf("%w: parameter %q is given more than once", errRequest, name)
		}
		for _, v := range values {
			if err := set(m, f, v); err != nil {
				return nil, err
			}
		}
	}
	for name, v := range fields {
		if err := set(m, m.Descriptor().Fields().ByName(protoreflect.Name(name)), v); err != nil {
			return nil, err
		}
	}
	return m, nil
}

func inPath(r *Route, name string) bool {
	return slices.ContainsFunc(r.elems, func(e elem) bool { return e.field == name })
}

// plain returns what protojson says, always with the same blanks: it varies them by build, so that nobody relies on them.
func plain(err error) string { return strings.ReplaceAll(err.Error(), "\u00a0", " ") }

// scalar reports whether a field can be a parameter.
func scalar(f protoreflect.FieldDescriptor) bool {
	return f.Kind() != protoreflect.MessageKind && f.Kind() != protoreflect.GroupKind && !f.IsMap()
}

// set sets a field, or adds to a list, by its text.
func set(m protoreflect.Message, f protoreflect.FieldDescriptor, text string) error {
	v, err := parse(f, text)
	if err != nil || !utf8.ValidString(text) {
		return fmt.Errorf("%w: parameter %q cannot be %q", errRequest, f.Name(), text)
	}
	if f.IsList() {
		m.Mutable(f).List().Append(v)
	} else {
		m.Set(f, v)
	}
	return nil
}

func parse(f protoreflect.FieldDescriptor, text string) (protoreflect.Value, error) {
	switch f.Kind() {
	case protoreflect.StringKind:
		return protoreflect.ValueOfString(text), nil
	case protoreflect.BoolKind:
		if text != "true" && text != "false" {
			return protoreflect.Value{}, errRequest
		}
		return protoreflect.ValueOfBool(text == "true"), nil
	case protoreflect.Int32Kind, protoreflect.Sint32Kind, protoreflect.Sfixed32Kind:
		n, err := strconv.ParseInt(text, 10, 32)
		return protoreflect.ValueOfInt32(int32(n)), err
	case protoreflect.Int64Kind, protoreflect.Sint64Kind, protoreflect.Sfixed64Kind:
		n, err := strconv.ParseInt(text, 10, 64)
		return protoreflect.ValueOfInt64(n), err
	case protoreflect.Uint32Kind, protoreflect.Fixed32Kind:
		n, err := strconv.ParseUint(text, 10, 32)
		return protoreflect.ValueOfUint32(uint32(n)), err
	case protoreflect.Uint64Kind, protoreflect.Fixed64Kind:
		n, err := strconv.ParseUint(text, 10, 64)
		return protoreflect.ValueOfUint64(n), err
	case protoreflect.BytesKind:
		b, err := base64.StdEncoding.DecodeString(text)
		return protoreflect.ValueOfBytes(b), err
	case protoreflect.EnumKind:
		v := f.Enum().Values().ByName(protoreflect.Name(text))
		if v == nil {
			return protoreflect.Value{}, errRequest
		}
		return protoreflect.ValueOfEnum(v.Number()), nil
	}
	return protoreflect.Value{}, errRequest // no such field is in the contract
}
