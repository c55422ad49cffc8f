package main

import (
	"encoding/json"
	"maps"
	"reflect"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	contract "github.com/sheaf-drive/sheaf/api/proto"
	"github.com/sheaf-drive/sheaf/api/proto/sheafv1"
)

// An output is one shape of what --json prints: a message of the contract, with the kind that its line gives; "" is the answer of a
// command that gives one object and no kind.
type output struct {
	kind string
	m    proto.Message
}

// outputs is every shape that a command prints by app.object. A test holds it against all calls.
var outputs = []output{
	{"", &sheafv1.CertifyKeyResponse{}},
	{"", &sheafv1.ConflictsKeepResponse{}},
	{"", &sheafv1.ConflictsListResponse{}},
	{"", &sheafv1.Device{}},
	{"", &sheafv1.DevicesListResponse{}},
	{"", &sheafv1.DevicesRevokeResponse{}},
	{"", &sheafv1.DevicesTrustResponse{}},
	{"", &sheafv1.DropResponse{}},
	{"", &sheafv1.ExportKeyResponse{}},
	{"", &sheafv1.FindKeysResponse{}},
	{"", &sheafv1.FoldersRemoveResponse{}},
	{"", &sheafv1.ForgetKeyResponse{}},
	{"", &sheafv1.ImportKeysResponse{}},
	{"", &sheafv1.InitResponse{}},
	{"", &sheafv1.KindsResponse{}},
	{"", &sheafv1.ListKeysResponse{}},
	{"", &sheafv1.ListPeersResponse{}},
	{"", &sheafv1.MakeKeyResponse{}},
	{"", &sheafv1.NewRecoveryResponse{}},
	{"", &sheafv1.PinsResponse{}},
	{"", &sheafv1.PlacesRemoveResponse{}},
	{"", &sheafv1.Remote{}},
	{"", &sheafv1.RemotesImportResponse{}},
	{"", &sheafv1.RemotesListResponse{}},
	{"", &sheafv1.RemotesTestResponse{}},
	{"", &sheafv1.RemotesRemoveResponse{}},
	{"", &sheafv1.RemoveResponse{}},
	{"", &sheafv1.Replica{}},
	{"", &sheafv1.ReplicasListResponse{}},
	{"", &sheafv1.ReplicasRemoveResponse{}},
	{"", &sheafv1.RevokeAppPasswordResponse{}},
	{"", &sheafv1.RevokeKeyResponse{}},
	{"", &sheafv1.RulesConvertIgnoreResponse{}},
	{"", &sheafv1.RulesExplainResponse{}},
	{"", &sheafv1.RulesRemoveResponse{}},
	{"", &sheafv1.SetPassphraseResponse{}},
	{"", &sheafv1.Setting{}},
	{"", &sheafv1.SettingsListResponse{}},
	{"", &sheafv1.Snapshot{}},
	{"", &sheafv1.StatsResponse{}},
	{"", &sheafv1.StatusResponse{}},
	{"", &sheafv1.StopResponse{}},
	{"", &sheafv1.StopServingResponse{}},
	{"", &sheafv1.TokensCreateResponse{}},
	{"", &sheafv1.TokensListResponse{}},
	{"", &sheafv1.TokensRevokeResponse{}},
	{"", &sheafv1.TrustKeyResponse{}},
	{"", &sheafv1.UnmountResponse{}},
	{"", &sheafv1.UnpinResponse{}},
	{"", &sheafv1.VerifyKeyResponse{}},
	{"", &sheafv1.VerifySignatureResponse{}},
	{"", &sheafv1.VersionResponse{}},
	{"", &sheafv1.WaitResponse{}},
	{"app_password", &sheafv1.AppPassword{}},
	{"app_password", &sheafv1.CreateAppPasswordResponse{}},
	{"check", &sheafv1.Check{}},
	{"conflict", &sheafv1.RuleConflict{}},
	{"copied", &sheafv1.PlacesCopyResponse{}},
	{"custody", &sheafv1.WhereResponse{}},
	{"difference", &sheafv1.DiffResponse{}},
	{"difference", &sheafv1.PlacesCheckResponse{}},
	{"event", &sheafv1.Event{}},
	{"file", &sheafv1.RuleFile{}},
	{"folder", &sheafv1.Folder{}},
	{"folder", &sheafv1.SyncthingFolder{}},
	{"found", &sheafv1.JoinResponse{}},
	{"init", &sheafv1.InitResponse{}},
	{"invite", &sheafv1.InviteResponse{}},
	{"item", &sheafv1.PlaceItem{}},
	{"job", &sheafv1.Job{}},
	{"joined", &sheafv1.AcceptJoinResponse{}},
	{"joined", &sheafv1.WaitInviteResponse{}},
	{"mount", &sheafv1.Mount{}},
	{"node", &sheafv1.Node{}},
	{"progress", &sheafv1.Job{}},
	{"rendezvous", &sheafv1.MeetServer{}},
	{"rule", &sheafv1.Rule{}},
	{"serving", &sheafv1.ServeResponse{}},
	{"serving", &sheafv1.Serving{}},
	{"snapshot", &sheafv1.Snapshot{}},
	{"step", &sheafv1.RuleStep{}},
	{"summary", &sheafv1.PlacesCheckResponse{}},
	{"summary", &sheafv1.PlacesCopyResponse{}},
	{"summary", &sheafv1.RuleSummary{}},
	{"usage", &sheafv1.DiskUsageResponse{}},
	{"verdict", &sheafv1.RuleVerdict{}},
	{"version", &sheafv1.HistoryResponse{}},
}

type schema = map[string]any

// The objects that are of this machine and not of the contract: no daemon can tell them. Each field says what it is about.

type apiRecord struct {
	Kind string `json:"kind"`
	URL  string `json:"url" about:"Where the network door of the daemon is."`
}

type coverageRecord struct {
	Kind        string   `json:"kind"`
	Calls       int      `json:"calls" about:"How many calls the API has."`
	Missing     []string `json:"missing" about:"Those that no verb makes."`
	ForPrograms []string `json:"for_programs" about:"Those that are for programs, so that no verb has to."`
}

type errorRecord struct {
	Kind  string `json:"kind"`
	Code  string `json:"code" about:"What kind of error it is; it goes with the exit code."`
	Exit  int    `json:"exit" about:"The exit code of the command."`
	Error string `json:"error" about:"What went wrong, for people."`
	Hint  string `json:"hint" about:"What to try; may be empty."`
}

type manualRecord struct {
	Kind   string `json:"kind"`
	Folder string `json:"folder" about:"Where the pages are."`
	Pages  int    `json:"pages" about:"How many were written."`
}

type serviceState struct {
	Kind      string `json:"kind"`
	Name      string `json:"name"`
	Path      string `json:"path" about:"The file that describes it; empty where there is none."`
	Installed bool   `json:"installed"`
	Running   bool   `json:"running"`
	Detail    string `json:"detail" about:"What the manager of services says of it."`
}

// records is every shape that a command prints by app.record or when it fails, by its kind.
var records = map[string]any{
	"api": apiRecord{}, "coverage": coverageRecord{}, "error": errorRecord{}, "manual": manualRecord{}, "service": serviceState{},
}

// recordSchema describes a record: an object that has each of its fields.
func recordSchema(kind string, record any) schema {
	props := schema{}
	t := reflect.TypeOf(record)
	for i := range t.NumField() {
		f := t.Field(i)
		var p schema
		switch f.Type.Kind() {
		case reflect.Bool:
			p = schema{"type": "boolean"}
		case reflect.Int:
			p = schema{"type": "integer"}
		case reflect.Slice:
			p = schema{"type": "array", "items": schema{"type": "string"}}
		default:
			p = schema{"type": "string"}
		}
		if about := f.Tag.Get("about"); about != "" {
			p["description"] = about
		}
		props[f.Tag.Get("json")] = p
	}
	props["kind"] = schema{"const": kind}
	return schema{"type": "object", "properties": props, "required": sortedKeys(props)}
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

// outputSchema returns the schema of what --json prints (JSON Schema 2020-12): it holds for every line of the output of every command
// but "sheaf api", whose answers are described by OpenAPI. Fields may be added in later versions; with strict, none.
func outputSchema(strict bool) (schema, error) {
	about, err := contract.Comments()
	if err != nil {
		return nil, err
	}
	w := &schemaWriter{about: about, strict: strict, defs: schema{}}
	var answers, lines []any
	for _, name := range sortedKeys(records) {
		w.defs["kind."+name] = w.close(recordSchema(name, records[name]))
		lines = append(lines, w.ref("kind."+name))
	}
	kinds := map[string][]any{}
	for _, o := range outputs {
		m := w.message(o.m.ProtoReflect().Descriptor(), o.kind)
		if o.kind == "" {
			answers = append(answers, m)
			continue
		}
		kinds[o.kind] = append(kinds[o.kind], m)
	}
	for _, kind := range sortedKeys(kinds) {
		w.defs["kind."+kind] = w.close(schema{
			"type": "object", "required": []string{"kind"}, "properties": schema{"kind": schema{"const": kind}}, "anyOf": kinds[kind],
		})
		lines = append(lines, w.ref("kind."+kind))
	}
	w.defs["answer"] = w.close(schema{"description": "One object, of a command that gives no more.", "type": "object", "anyOf": answers})
	return schema{
		"$schema": "https://json-schema.org/draft/2020-12/schema",
		"title":   "What sheaf prints with --json",
		"description": "One line of the standard output of a command, or the last one of its standard error if it failed. " +
			"Where a command prints several lines, each has a kind. Later versions may add fields, words and kinds, and take none away.",
		"anyOf": append(lines, w.ref("answer")),
		"$defs": w.defs,
	}, nil
}

// A schemaWriter describes messages as writeMessage prints them.
type schemaWriter struct {
	about  map[string]string // the comments of the contract
	strict bool
	defs   schema
}

func (*schemaWriter) ref(name string) schema { return schema{"$ref": "#/$defs/" + name} }

// message returns a reference to a message in a line of a kind, which is described if it was not yet.
func (w *schemaWriter) message(m protoreflect.MessageDescriptor, kind string) schema {
	name := strings.TrimPrefix(string(m.FullName()), "sheaf.v1.")
	if kind != "" && m.Fields().ByName("kind") != nil {
		name += "." + kind
	}
	if _, ok := w.defs[name]; ok {
		return w.ref(name)
	}
	s := schema{"type": "object", "description": w.about[string(m.FullName())]}
	w.defs[name] = s // before its fields: it may be in itself
	props, required := schema{}, []string{}
	for i := range m.Fields().Len() {
		f := m.Fields().Get(i)
		v := w.field(f)
		v["description"] = w.about[string(f.FullName())]
		props[fieldName(f, kind)] = v
		if o := f.ContainingOneof(); o == nil || o.IsSynthetic() {
			required = append(required, fieldName(f, kind))
		}
	}
	s["properties"], s["required"] = props, required
	return w.ref(name)
}

func (w *schemaWriter) field(f protoreflect.FieldDescriptor) schema {
	switch {
	case f.IsList():
		return schema{"type": "array", "items": w.value(f)}
	case f.HasPresence() && (f.ContainingOneof() == nil || f.ContainingOneof().IsSynthetic()):
		return schema{"anyOf": []any{w.value(f), schema{"type": "null"}}}
	}
	return w.value(f)
}

// value describes one value of a field.
func (w *schemaWriter) value(f protoreflect.FieldDescriptor) schema {
	switch f.Kind() {
	case protoreflect.MessageKind:
		if f.Message().FullName() == "google.protobuf.Timestamp" {
			return schema{"type": "string", "format": "date-time"}
		}
		return w.close(w.message(f.Message(), ""))
	case protoreflect.EnumKind:
		return w.enum(f.Enum())
	case protoreflect.StringKind:
		return schema{"type": "string"}
	case protoreflect.BytesKind:
		return schema{"type": "string", "contentEncoding": "base64"}
	case protoreflect.BoolKind:
		return schema{"type": "boolean"}
	case protoreflect.DoubleKind, protoreflect.FloatKind:
		return schema{"type": "number"}
	}
	return schema{"type": "integer"}
}

// enum describes the words of an enumeration: each with what it means.
func (w *schemaWriter) enum(e protoreflect.EnumDescriptor) schema {
	name := strings.TrimPrefix(string(e.FullName()), "sheaf.v1.")
	if _, ok := w.defs[name]; !ok {
		words := []any{}
		for i := range e.Values().Len() {
			v := e.Values().Get(i)
			words = append(words, schema{"const": enumWord(e, v.Number()), "description": w.about[string(e.FullName())+"."+string(v.Name())]})
		}
		w.defs[name] = schema{"description": w.about[string(e.FullName())], "oneOf": words}
	}
	return w.ref(name)
}

// close lets nothing be in an object that s does not name, if that is asked for. A message is closed where it stands and not where it is
// described: beside its fields may be a kind.
func (w *schemaWriter) close(s schema) schema {
	if w.strict {
		s["unevaluatedProperties"] = false
	}
	return s
}

func (a *app) apiSchemaCmd() *cobra.Command {
	return &cobra.Command{
		Use: "schema", Short: "Print the schema of what --json prints, by JSON Schema 2020-12", Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			s, err := outputSchema(false)
			if err != nil {
				return err
			}
			e := json.NewEncoder(a.out)
			e.SetEscapeHTML(false)
			e.SetIndent("", "  ")
			return e.Encode(s)
		},
	}
}
