package main

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/sheaf-drive/sheaf/api/proto/wirepath"
)

// say prints a line for people. With --quiet or --json it prints nothing.
func (a *app) say(format string, args ...any) {
	if !a.quiet && !a.json {
		_, _ = fmt.Fprintf(a.out, format+"\n", args...)
	}
}

// tell prints a line for a person who is asked to do something, beside what the command prints.
func (a *app) tell(format string, args ...any) {
	_, _ = fmt.Fprintf(a.err, format+"\n", args...)
}

// next prints, as the last line for people, the command that is useful next. A verb whose output is
// data prints it at a terminal only.
func (a *app) next(data bool, format string, args ...any) {
	if !data || terminal(a.out) {
		a.say("next: "+format, args...)
	}
}

// object prints m as one JSON object, with kind first if it is not "".
func (a *app) object(kind string, m proto.Message) error {
	var b bytes.Buffer
	writeMessage(&b, kind, m.ProtoReflect())
	_, err := a.out.Write(append(checked(b.Bytes()), '\n'))
	return err
}

// record prints v, which says its own kind, as one JSON object: what is of this machine and not of the contract.
func (a *app) record(v any) error {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return err
	}
	_, err := a.out.Write(append(checked(bytes.TrimSuffix(b.Bytes(), []byte{'\n'})), '\n'))
	return err
}

// onObject is told each object before it is printed. Tests hold it against the schema.
var onObject func(object []byte)

func checked(object []byte) []byte {
	if onObject != nil {
		onObject(object)
	}
	return object
}

// writeMessage writes m with all its fields, in the order of the contract: numbers as numbers,
// times as RFC 3339, kinds as words, what is not set as null.
func writeMessage(b *bytes.Buffer, kind string, m protoreflect.Message) {
	b.WriteByte('{')
	if kind != "" {
		b.WriteString(`"kind":`)
		writeText(b, kind)
	}
	fields := m.Descriptor().Fields()
	first := kind == ""
	for i := range fields.Len() {
		f := fields.Get(i)
		if o := f.ContainingOneof(); o != nil && !o.IsSynthetic() && !m.Has(f) {
			continue
		}
		if !first {
			b.WriteByte(',')
		}
		first = false
		writeText(b, fieldName(f, kind))
		b.WriteByte(':')
		switch {
		case f.IsList():
			b.WriteByte('[')
			l := m.Get(f).List()
			for j := range l.Len() {
				if j > 0 {
					b.WriteByte(',')
				}
				writeValue(b, f, l.Get(j))
			}
			b.WriteByte(']')
		case f.HasPresence() && !m.Has(f):
			b.WriteString("null")
		default:
			writeValue(b, f, m.Get(f))
		}
	}
	b.WriteByte('}')
}

// fieldName is how a field is called in a line of a kind: a kind of the message's own gives way to that of the line, and is "event_kind".
func fieldName(f protoreflect.FieldDescriptor, kind string) string {
	if f.Name() == "kind" && kind != "" {
		return kind + "_kind"
	}
	return string(f.Name())
}

// writeValue writes one value of a field.
func writeValue(b *bytes.Buffer, f protoreflect.FieldDescriptor, v protoreflect.Value) {
	switch f.Kind() {
	case protoreflect.MessageKind:
		if t, ok := v.Message().Interface().(*timestamppb.Timestamp); ok {
			writeText(b, t.AsTime().Local().Format(time.RFC3339Nano))
			return
		}
		writeMessage(b, "", v.Message())
	case protoreflect.EnumKind:
		writeText(b, enumWord(f.Enum(), v.Enum()))
	case protoreflect.StringKind:
		writeText(b, v.String())
	case protoreflect.BytesKind:
		writeText(b, base64.StdEncoding.EncodeToString(v.Bytes()))
	case protoreflect.BoolKind:
		b.WriteString(strconv.FormatBool(v.Bool()))
	default:
		b.WriteString(v.String()) // a number
	}
}

// writeText writes s as a JSON text.
func writeText(b *bytes.Buffer, s string) {
	e := json.NewEncoder(b)
	e.SetEscapeHTML(false)
	_ = e.Encode(s) // a string and a buffer cannot fail
	b.Truncate(b.Len() - 1)
}

// enumWord is how scripts call a value: its name without the name of its kind, in lower case.
func enumWord(e protoreflect.EnumDescriptor, n protoreflect.EnumNumber) string {
	v := e.Values().ByNumber(n)
	if v == nil {
		return strconv.Itoa(int(n))
	}
	zero := string(e.Values().ByNumber(0).Name())
	return strings.ToLower(strings.TrimPrefix(string(v.Name()), strings.TrimSuffix(zero, "UNSPECIFIED")))
}

// word is enumWord of a value of the contract.
func word(e protoreflect.Enum) string { return enumWord(e.Descriptor(), e.Number()) }

// size prints a number of bytes for people.
func (a *app) size(n int64) string {
	base, units := 1024.0, []string{"KiB", "MiB", "GiB", "TiB", "PiB", "EiB"}
	if a.si {
		base, units = 1000, []string{"kB", "MB", "GB", "TB", "PB", "EB"}
	}
	if n < int64(base) {
		return fmt.Sprintf("%d B", n)
	}
	v, i := float64(n)/base, 0
	for ; v >= base-0.05 && i < len(units)-1; i++ {
		v /= base
	}
	return fmt.Sprintf("%.1f %s", v, units[i])
}

// clock prints a time for people: local, with its zone.
func clock(t *timestamppb.Timestamp) string {
	if t == nil {
		return "-"
	}
	return t.AsTime().Local().Format("2006-01-02 15:04:05 MST")
}

// table prints rows with aligned columns. The cells are not wrapped.
func (a *app) table(rows [][]string) error {
	w := tabwriter.NewWriter(a.out, 0, 1, 2, ' ', 0)
	for _, r := range rows {
		if _, err := fmt.Fprintln(w, strings.Join(r, "\t")); err != nil {
			return err
		}
	}
	return w.Flush()
}

// printable returns a text, of names perhaps, in which nothing can move a terminal's cursor or
// change its colours.
func printable(s string) string {
	clean := func(r rune) bool { return !unicode.IsPrint(r) && r != '\n' }
	if strings.IndexFunc(s, clean) < 0 {
		return s
	}
	var b strings.Builder
	for _, r := range s {
		if clean(r) {
			b.WriteString(strings.Trim(strconv.QuoteRuneToASCII(r), "'"))
			continue
		}
		b.WriteRune(r)
	}
	return b.String()
}

// name returns a path of the contract for people: raw where a program reads it, printable at a terminal.
func (a *app) name(text string) string {
	p, err := wirepath.Decode(text)
	if err != nil {
		p = text
	}
	a.looked.Do(func() { a.shown = terminal(a.out) }) // it is a call of the system, and there are many names
	if a.shown {
		return printable(p)
	}
	return p
}
