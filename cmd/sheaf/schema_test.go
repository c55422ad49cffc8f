package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"go/ast"
	"go/constant"
	"go/types"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"golang.org/x/tools/go/packages"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// schemaFile is what scripts of others are written by.
const schemaFile = "../../docs/output.schema.json"

// compiledSchema returns the schema with nothing beside what it names.
func compiledSchema() (*jsonschema.Schema, error) {
	s, err := outputSchema(true)
	if err != nil {
		return nil, err
	}
	b, err := json.Marshal(s)
	if err != nil {
		return nil, err
	}
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(b))
	if err != nil {
		return nil, err
	}
	c := jsonschema.NewCompiler()
	c.AssertFormat()
	if err := c.AddResource("output.json", doc); err != nil {
		return nil, err
	}
	return c.Compile("output.json")
}

// holdToSchema ends this process at the first object that the schema does not allow.
func holdToSchema() {
	var s *jsonschema.Schema
	onObject = func(object []byte) {
		if s == nil { // it takes a while, and not every command prints one
			var err error
			if s, err = compiledSchema(); err != nil {
				panic(err)
			}
		}
		v, err := jsonschema.UnmarshalJSON(bytes.NewReader(object))
		if err == nil {
			err = s.Validate(v)
		}
		if err != nil {
			fmt.Fprintf(os.Stderr, "not by the schema of outputs: %s: %.2000s\n", object, err)
			os.Exit(99)
		}
	}
}

func TestSchema_AllowsWhatItNamesAndNothingElse(t *testing.T) {
	s, err := compiledSchema()
	if err != nil {
		t.Fatal(err)
	}
	try := func(object string) error {
		v, err := jsonschema.UnmarshalJSON(strings.NewReader(object))
		if err != nil {
			t.Fatal(err)
		}
		return s.Validate(v)
	}
	for _, o := range outputs {
		var b bytes.Buffer
		writeMessage(&b, o.kind, o.m.ProtoReflect())
		if err := try(b.String()); err != nil {
			t.Errorf("%s: %v", b.String(), err)
		}
		if more := strings.TrimSuffix(b.String(), "}") + `,"more":1}`; !strings.Contains(more, "{,") && try(more) == nil {
			t.Errorf("a field that the schema does not name is let through: %s", more)
		}
		if o.kind != "" && try(strings.Replace(b.String(), o.kind, "elephant", 1)) == nil {
			t.Errorf("a kind that the schema does not name is let through: %s", b.String())
		}
	}
	for kind, r := range records {
		b, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		line := strings.Replace(string(b), `"kind":""`, `"kind":"`+kind+`"`, 1)
		line = strings.ReplaceAll(line, "null", "[]")
		if err := try(line); err != nil {
			t.Errorf("%s: %v", line, err)
		}
		if try(strings.Replace(line, `,"`, `,"x`, 1)) == nil {
			t.Errorf("a field that is missing is let through: %s", line)
		}
	}
}

// What no script of testdata prints is held to the schema by its type.
func TestOutputs_AreAllThatCommandsPrint(t *testing.T) {
	pkgs, err := packages.Load(&packages.Config{Mode: packages.NeedName | packages.NeedImports | packages.NeedSyntax | packages.NeedTypes | packages.NeedTypesInfo}, ".")
	if err != nil {
		t.Fatal(err)
	}
	have := map[string]bool{}
	for _, o := range outputs {
		have[o.kind+" "+string(o.m.ProtoReflect().Descriptor().Name())] = false
	}
	for kind := range records {
		have["record "+strings.TrimPrefix(fmt.Sprintf("%T", records[kind]), "main.")] = false
	}
	have["record errorRecord"] = true // when it fails
	for _, p := range pkgs {
		if len(p.Errors) > 0 {
			t.Fatal(p.Errors)
		}
		for _, f := range p.Syntax {
			ast.Inspect(f, func(n ast.Node) bool {
				call, ok := n.(*ast.CallExpr)
				if !ok {
					return true
				}
				sel, ok := call.Fun.(*ast.SelectorExpr)
				if !ok || p.TypesInfo.Selections[sel] == nil || strings.TrimPrefix(types.TypeString(p.TypesInfo.Selections[sel].Recv(), func(*types.Package) string { return "" }), "*") != "app" {
					return true
				}
				named := func(e ast.Expr) string {
					return types.TypeString(p.TypesInfo.TypeOf(e), func(*types.Package) string { return "" })
				}
				key := ""
				switch {
				case sel.Sel.Name == "object" && p.TypesInfo.Types[call.Args[0]].Value != nil:
					key = constant.StringVal(p.TypesInfo.Types[call.Args[0]].Value) + " " + strings.TrimPrefix(named(call.Args[1]), "*")
				case sel.Sel.Name == "record":
					key = "record " + named(call.Args[0])
				default:
					if sel.Sel.Name == "object" {
						t.Errorf("%s: the kind is no constant", p.Fset.Position(call.Pos()))
					}
					return true
				}
				if _, ok := have[key]; !ok {
					t.Errorf("%s: %q is printed and not in outputs or records", p.Fset.Position(call.Pos()), key)
				}
				have[key] = true
				return true
			})
		}
	}
	for key, used := range have {
		if !used {
			t.Errorf("%q is described and never printed", key)
		}
	}
}

// The file goes with the code; with SHEAF_UPDATE it is written anew, but nothing that was in it goes: others read by it.
func TestSchemaFile_IsThatOfTheCodeAndOnlyGrows(t *testing.T) {
	var out bytes.Buffer
	if code := command(t.Context(), &app{out: &out, err: io.Discard, getenv: func(string) string { return "" }}, []string{"api", "schema"}); code != 0 {
		t.Fatal(code)
	}
	b, err := os.ReadFile(schemaFile)
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Equal(b, out.Bytes()) {
		return
	}
	var before, after struct {
		Defs map[string]struct {
			Properties map[string]any `json:"properties"`
			Required   []string       `json:"required"`
			OneOf      []struct {
				Const string `json:"const"`
			} `json:"oneOf"`
		} `json:"$defs"`
	}
	if err := json.Unmarshal(b, &before); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(out.Bytes(), &after); err != nil {
		t.Fatal(err)
	}
	for name, d := range before.Defs {
		now, ok := after.Defs[name]
		if !ok {
			t.Errorf("%s is gone: what scripts read stays", name)
			continue
		}
		for prop, was := range d.Properties {
			delete(was.(map[string]any), "description")
			is, _ := now.Properties[prop].(map[string]any)
			delete(is, "description")
			if fmt.Sprint(is) != fmt.Sprint(was) {
				t.Errorf("%s.%s was %v and is %v: what scripts read stays as it is", name, prop, was, is)
			}
		}
		for _, prop := range d.Required {
			if !slices.Contains(now.Required, prop) {
				t.Errorf("%s.%s was always there, and is not", name, prop)
			}
		}
		for _, word := range d.OneOf {
			if !slices.Contains(now.OneOf, word) {
				t.Errorf("%s has no %q any more", name, word.Const)
			}
		}
	}
	if t.Failed() || os.Getenv("SHEAF_UPDATE") == "" {
		t.Fatalf("%s is not what sheaf api schema prints: SHEAF_UPDATE=1 go test -run SchemaFile ./cmd/sheaf", schemaFile)
	}
	if err := os.WriteFile(schemaFile, out.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
}

// Fields that schemas cannot tell: none of a kind that is printed in a way that value does not describe.
func TestSchema_KnowsAllKindsOfFields(t *testing.T) {
	seen := map[protoreflect.FullName]bool{}
	var walk func(m protoreflect.MessageDescriptor)
	walk = func(m protoreflect.MessageDescriptor) {
		if seen[m.FullName()] || m.FullName() == "google.protobuf.Timestamp" {
			return
		}
		seen[m.FullName()] = true
		for i := range m.Fields().Len() {
			f := m.Fields().Get(i)
			if f.IsMap() || f.Kind() == protoreflect.GroupKind || (f.Kind() == protoreflect.MessageKind && strings.HasPrefix(string(f.Message().FullName()), "google.") && f.Message().Name() != "Timestamp") {
				t.Errorf("%s is of a kind that is not described", f.FullName())
			}
			if f.Kind() == protoreflect.MessageKind {
				walk(f.Message())
			}
		}
	}
	for _, o := range outputs {
		walk(o.m.ProtoReflect().Descriptor())
	}
	if len(seen) < len(outputs)/2 {
		t.Errorf("%v", slices.Sorted(maps.Keys(seen)))
	}
}
