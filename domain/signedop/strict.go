package signedop

import (
	"bytes"
	"errors"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// maxDepth bounds the nesting of what is signed and of an envelope; the
// deepest any has is three.
const maxDepth = 4

// decodeStrict reads a JSON object into v and refuses whatever is not the one
// canonical form of it. what names the whole in errors; required are the
// members it must have.
func decodeStrict(what string, data []byte, required []string, v any) error {
	names, err := scan(what, data)
	if err != nil {
		return err
	}
	for _, name := range required {
		if !names[name] {
			return malformed(name, "missing from the %s", what)
		}
	}
	if err := json.Unmarshal(data, v, strictly); err != nil {
		return explain(what, err)
	}
	// Only now, because whoever wrote a member in another case is helped more
	// by its name than by a byte that sorts wrongly.
	canonical, err := canonicalize(data)
	if err != nil {
		return malformed(what, "%v", err)
	}
	return sameForm(what, data, canonical)
}

// strictly are the options by which all JSON is read here.
var strictly = json.JoinOptions(json.RejectUnknownMembers(true), json.WithUnmarshalers(json.UnmarshalFunc(unmarshalTime)))

// An encoder has one sequence of bytes.
type encoder interface {
	Encode() ([]byte, error)
	// again gives the same, if it gives anything, for whoever only compares.
	again() ([]byte, error)
}

// parsePayload reads what was signed, of whatever kind, from its exact bytes.
func parsePayload[T encoder](what string, payload []byte, required []string) (T, error) {
	if v, ok := readBack[T](payload); ok {
		return v, nil
	}
	return parseClosely[T](what, payload, required)
}

// readBack reads a payload that is, byte for byte, what Encode gives for the
// value read from it. No closer look at such bytes could find anything: Encode
// writes every required member, each once, no null, plain integers alone, and
// all in the canonical form. Nearly every payload is of this kind.
func readBack[T encoder](payload []byte) (v T, ok bool) {
	if json.Unmarshal(payload, &v, strictly) != nil {
		return v, false
	}
	again, err := v.again()
	return v, err == nil && bytes.Equal(payload, again)
}

// parseClosely takes every rule one after the other, to say which one a
// payload breaks. What it lets through is what readBack does.
func parseClosely[T encoder](what string, payload []byte, required []string) (T, error) {
	var v, none T
	if err := decodeStrict(what, payload, required, &v); err != nil {
		return none, err
	}
	again, err := v.Encode()
	if err != nil {
		return none, err
	}
	// What could be read in two ways, or left out without loss, would give
	// other bytes here.
	if err := sameForm(what, payload, again); err != nil {
		return none, err
	}
	return v, nil
}

// scan goes through the tokens once, in bounded space, and gives the names of
// the object's members. It refuses what is not one well-formed JSON object in
// valid UTF-8 without repeated names, and any null or any number that is not
// a plain integer in it.
func scan(what string, data []byte) (map[string]bool, error) {
	dec := jsontext.NewDecoder(bytes.NewBuffer(data))
	names := make(map[string]bool)
	if k := dec.PeekKind(); k != jsontext.KindBeginObject {
		return nil, malformed(what, "byte 0: a JSON object is required")
	}
	for {
		tok, err := dec.ReadToken()
		if err != nil {
			return nil, explain(what, err)
		}
		depth := dec.StackDepth()
		if depth == 0 {
			break
		}
		if depth > maxDepth {
			return nil, malformed(what, "byte %d: nested deeper than %d", dec.InputOffset()-1, maxDepth)
		}
		kind, n := dec.StackIndex(depth)
		switch k := tok.Kind(); {
		case k == jsontext.KindNull:
			return nil, malformed(fieldOf(what, dec.StackPointer()), "null is never allowed: a member without value is left out")
		case k == jsontext.KindNumber && strings.ContainsAny(tok.String(), ".eE"):
			return nil, malformed(fieldOf(what, dec.StackPointer()), "%s is not a plain integer", quote(tok.String()))
		case depth == 1 && kind == jsontext.KindBeginObject && n%2 == 1: // after a name, before its value
			names[tok.String()] = true
		}
	}
	if end := dec.InputOffset(); end != int64(len(data)) {
		return nil, malformed(what, "byte %d: %d more bytes after the end (a line end is one too many)", end, int64(len(data))-end)
	}
	return names, nil
}

// canonicalize gives the form of RFC 8785.
func canonicalize(data []byte) ([]byte, error) {
	v := jsontext.Value(bytes.Clone(data))
	if err := v.Canonicalize(); err != nil {
		return nil, err
	}
	return v, nil
}

// sameForm refuses data that differ from their canonical form.
func sameForm(what string, data, canonical []byte) error {
	if bytes.Equal(data, canonical) {
		return nil
	}
	at := 0
	for at < len(data) && at < len(canonical) && data[at] == canonical[at] {
		at++
	}
	return malformed(what, "byte %d: not in the canonical form of RFC 8785 (sorted members, no white space, shortest strings and numbers, nothing empty that may be left out)", at)
}

// errTimeForm says how a time must be written.
var errTimeForm = errors.New("not a time in UTC and whole seconds, such as " + timeExample)

const (
	timeLayout  = "2006-01-02T15:04:05Z"
	timeExample = "2026-11-23T09:00:00Z"
)

// unmarshalTime reads a time in the one form that is allowed: RFC 3339 lets
// the same time be written in many.
func unmarshalTime(data []byte, t *time.Time) error {
	s, err := strconv.Unquote(string(data))
	if err != nil {
		return errTimeForm
	}
	parsed, err := time.Parse(timeLayout, s)
	if err != nil || parsed.Format(timeLayout) != s {
		return errTimeForm
	}
	*t = parsed
	return nil
}

// explain turns an error of the JSON library into ours.
func explain(what string, err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return malformed(what, "ends too early")
	}
	if e, ok := errors.AsType[*jsontext.SyntacticError](err); ok {
		return malformed(fieldOf(what, e.JSONPointer), "byte %d: %s", e.ByteOffset, printable(e.Err.Error()))
	}
	e, ok := errors.AsType[*json.SemanticError](err)
	if !ok {
		return malformed(what, "%s", printable(err.Error()))
	}
	field := fieldOf(what, e.JSONPointer)
	switch {
	case errors.Is(e.Err, json.ErrUnknownName):
		return malformed(field, "byte %d: no such member (names are compared byte for byte)", e.ByteOffset)
	case errors.Is(e.Err, errTimeForm):
		return malformed(field, "byte %d: %v", e.ByteOffset, errTimeForm)
	case e.GoType != nil:
		return malformed(field, "byte %d: %s does not fit, %s is required", e.ByteOffset, kindName(e.JSONKind), goKindName(e.GoType.Kind().String()))
	}
	return malformed(field, "byte %d: wrong value", e.ByteOffset)
}

// kindName says in words what stands in the JSON.
func kindName(k jsontext.Kind) string {
	names := map[jsontext.Kind]string{
		jsontext.KindTrue: "a boolean", jsontext.KindFalse: "a boolean", jsontext.KindString: "a string",
		jsontext.KindNumber: "this number", jsontext.KindBeginObject: "an object", jsontext.KindBeginArray: "an array",
	}
	if name, ok := names[k]; ok {
		return name
	}
	return "this value"
}

// goKindName says in words what would fit, by the kind of the Go type.
func goKindName(kind string) string {
	switch kind {
	case "bool":
		return "a boolean"
	case "string":
		return "a string"
	case "int", "int64":
		return "an integer of at most 64 bits"
	case "uint64":
		return "an integer of at most 64 bits that is not negative"
	case "slice":
		return "an array"
	}
	return "an object"
}

// fieldOf writes a JSON pointer the way people name members.
func fieldOf(what string, p jsontext.Pointer) string {
	var b strings.Builder
	for tok := range p.Tokens() {
		_, err := strconv.ParseUint(tok, 10, 16)
		switch {
		case err == nil:
			b.WriteString("[" + tok + "]")
			continue
		case b.Len() > 0:
			b.WriteByte('.')
		}
		b.WriteString(memberName(tok))
	}
	if b.Len() == 0 {
		return what
	}
	return b.String()
}

// memberName shows the name of a member, quoted and clipped unless it is a
// short plain one. A long one is cut well below the length of a nonce.
func memberName(s string) string {
	const limit = 16
	plain := s != ""
	for i := range len(s) {
		c := s[i]
		plain = plain && (c == '_' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9')
	}
	switch {
	case len(s) > limit:
		return strconv.QuoteToASCII(s[:limit]) + "…"
	case plain:
		return s
	}
	return strconv.QuoteToASCII(s)
}

// printable clips a library's message and escapes what a terminal obeys.
func printable(s string) string {
	s = strconv.QuoteToASCII(s[:min(len(s), 2*clipBytes)])
	return s[1 : len(s)-1]
}
