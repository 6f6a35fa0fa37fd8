package main

import (
	"bytes"
	"encoding"
	"errors"
	"fmt"
	"io"
	"os"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v4"
)

// maxYAMLBytes bounds a file of configuration or policy.
const maxYAMLBytes = 1 << 20

// A yamlFile is a YAML file that was read whole and is in form: one document,
// no key twice, none unknown, nothing empty, no anchors. It remembers where
// everything stands, so that whatever is found wrong later can name a line.
type yamlFile struct {
	path string
	data []byte
	root *yaml.Node
}

// A lineError says what is wrong in a file, where, and what to do about it.
type lineError struct {
	Path string
	Line int // from 1; 0 if it is not one line's matter
	Why  string
	Hint string // what to do; may be empty
}

func (e *lineError) Error() string {
	var b strings.Builder
	b.WriteString(e.Path)
	if e.Line > 0 {
		b.WriteString(":" + strconv.Itoa(e.Line))
	}
	b.WriteString(": " + e.Why)
	if e.Hint != "" {
		b.WriteString(" (" + e.Hint + ")")
	}
	return b.String()
}

// readYAML reads a file into out, strictly. After an error nothing in out is
// to be used.
func readYAML(path string, out any) (*yamlFile, error) {
	f, err := os.Open(path) //nolint:gosec // the path is the operator's
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxYAMLBytes+1))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	return parseYAML(path, data, out)
}

// parseYAML reads bytes into out, strictly; path is for messages.
func parseYAML(path string, data []byte, out any) (*yamlFile, error) {
	y := &yamlFile{path: path, data: data}
	if len(data) > maxYAMLBytes {
		return nil, &lineError{Path: path, Why: fmt.Sprintf("larger than %d bytes", maxYAMLBytes), Hint: "is this the right file?"}
	}
	var root yaml.Node
	if err := yaml.Load(data, &root); err != nil {
		return nil, y.syntaxError(err)
	}
	if root.Kind != yaml.DocumentNode || len(root.Content) != 1 {
		return nil, &lineError{Path: path, Why: "holds nothing", Hint: "at least one key is required"}
	}
	y.root = root.Content[0]
	if err := y.check(y.root, reflect.TypeOf(out).Elem(), ""); err != nil {
		return nil, err
	}
	if err := yaml.Load(data, out, yaml.WithKnownFields()); err != nil {
		return nil, y.syntaxError(err)
	}
	return y, nil
}

// syntaxError puts the library's error in terms of the file.
func (y *yamlFile) syntaxError(err error) error {
	var one *yaml.LoadError
	var many *yaml.LoadErrors
	if errors.As(err, &many) && len(many.Errors) > 0 {
		one = many.Errors[0]
	}
	if one == nil && !errors.As(err, &one) {
		return &lineError{Path: y.path, Why: err.Error()}
	}
	why := strings.TrimPrefix(one.Message, "yaml: ")
	switch {
	case strings.HasPrefix(why, "no documents"):
		return &lineError{Path: y.path, Why: "holds nothing", Hint: "at least one key is required"}
	case strings.Contains(why, "found multiple"):
		return &lineError{Path: y.path, Why: "holds more than one document", Hint: "remove the line with ---"}
	}
	e := &lineError{Path: y.path, Line: one.Mark.Line, Why: why}
	if line := y.line(one.Mark.Line); strings.Contains(indentOf(line), "\t") {
		e.Why, e.Hint = "a tab where YAML wants spaces", "indent with two spaces"
	}
	return e
}

func (y *yamlFile) line(n int) string {
	lines := bytes.Split(y.data, []byte("\n"))
	if n < 1 || n > len(lines) {
		return ""
	}
	return string(lines[n-1])
}

func indentOf(line string) string {
	return line[:len(line)-len(strings.TrimLeft(line, " \t"))]
}

// check walks the document beside the type it is for. What a lenient reader
// would pass over (a key that nobody reads, an empty value) is refused: it is
// a mistake of whoever wrote it, and the default it would mean may be the
// dangerous one.
func (y *yamlFile) check(n *yaml.Node, t reflect.Type, path string) error {
	wrong := func(hint, format string, args ...any) error {
		return &lineError{Path: y.path, Line: n.Line, Why: fmt.Sprintf(format, args...), Hint: hint}
	}
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	named := path
	if named == "" {
		named = "the file"
	}
	switch {
	case n.Kind == yaml.AliasNode || n.Anchor != "":
		return wrong("write the value out", "%s: anchors and aliases are not allowed", named)
	case n.Kind == yaml.ScalarNode && n.Tag == "!!null":
		return wrong("give a value, or remove the key", "%s: empty", named)
	case n.Kind == yaml.MappingNode && t.Kind() == reflect.Struct:
		return y.checkFields(n, t, path)
	case n.Kind == yaml.MappingNode && t.Kind() == reflect.Map:
		for key, value := range pairs(n) {
			if key.Kind != yaml.ScalarNode || key.Tag == "!!merge" || key.Tag == "!!null" {
				return &lineError{Path: y.path, Line: key.Line, Why: named + ": a key must be a plain name"}
			}
			if err := y.check(value, t.Elem(), join(path, key.Value)); err != nil {
				return err
			}
		}
	case n.Kind == yaml.SequenceNode && t.Kind() == reflect.Slice:
		for i, item := range n.Content {
			if err := y.check(item, t.Elem(), fmt.Sprintf("%s[%d]", path, i)); err != nil {
				return err
			}
		}
	case n.Kind == yaml.ScalarNode && t.Kind() == reflect.Slice:
		return wrong("write ["+n.Value+"]", "%s: a list is required", named)
	case n.Kind == yaml.ScalarNode && !readsText(t) && (t.Kind() == reflect.Map || t.Kind() == reflect.Struct):
		return wrong("put its keys on lines of their own, indented", "%s: keys are required, not the one value %q", named, n.Value)
	case n.Kind != yaml.ScalarNode:
		return wrong("", "%s: one value is required, not a list or keys", named)
	case readsText(t):
		if err := checkText(t, n.Value); err != nil {
			return wrong("", "%s: %v", named, err)
		}
	case t.Kind() == reflect.Int && n.Tag != "!!int":
		return wrong("", "%s: a whole number is required, not %q", named, n.Value)
	case t.Kind() == reflect.Bool && n.Tag != "!!bool":
		return wrong("", "%s: true or false is required, not %q", named, n.Value)
	}
	return nil
}

func (y *yamlFile) checkFields(n *yaml.Node, t reflect.Type, path string) error {
	fields := yamlFields(t)
	for key, value := range pairs(n) {
		i := slices.IndexFunc(fields, func(f yamlField) bool { return f.name == key.Value })
		if i < 0 || key.Kind != yaml.ScalarNode {
			e := &lineError{Path: y.path, Line: key.Line, Why: fmt.Sprintf("unknown key %q", join(path, key.Value))}
			names := make([]string, len(fields))
			for i, f := range fields {
				names[i] = f.name
			}
			e.Hint = suggest(key.Value, names)
			return e
		}
		if err := y.check(value, fields[i].typ, join(path, key.Value)); err != nil {
			return err
		}
	}
	return nil
}

// pairs gives the keys and values of a mapping.
func pairs(n *yaml.Node) func(yield func(key, value *yaml.Node) bool) {
	return func(yield func(key, value *yaml.Node) bool) {
		for i := 0; i+1 < len(n.Content); i += 2 {
			if !yield(n.Content[i], n.Content[i+1]) {
				return
			}
		}
	}
}

// A yamlField is a field of a struct under its name in YAML.
type yamlField struct {
	name  string
	typ   reflect.Type
	index int
}

// yamlFields gives the fields that YAML can set.
func yamlFields(t reflect.Type) []yamlField {
	var fields []yamlField
	for i := range t.NumField() {
		name, _, _ := strings.Cut(t.Field(i).Tag.Get("yaml"), ",")
		if name == "" || name == "-" {
			continue
		}
		fields = append(fields, yamlField{name: name, typ: t.Field(i).Type, index: i})
	}
	return fields
}

// checkText tells what is wrong with a word for a type that reads them.
func checkText(t reflect.Type, word string) error {
	v, ok := reflect.New(t).Interface().(encoding.TextUnmarshaler)
	if !ok {
		return nil
	}
	return v.UnmarshalText([]byte(word))
}

// readsText tells whether values of the type are written as one word.
func readsText(t reflect.Type) bool {
	return reflect.PointerTo(t).Implements(reflect.TypeFor[encoding.TextUnmarshaler]())
}

func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}

// suggest names the key that was probably meant, or else all there are.
func suggest(got string, known []string) string {
	best, at := "", 3
	for _, k := range known {
		if d := distance(got, k); d < at {
			best, at = k, d
		}
	}
	if best != "" {
		return fmt.Sprintf("did you mean %q?", best)
	}
	return "known here: " + strings.Join(known, ", ")
}

// distance is how many characters must be changed, added or removed.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, diagonal+1)
		}
	}
	return row[len(b)]
}

// lineOf gives the line on which the value stands that a path such as
// roles.operator.holders[2] names, or else the line of the nearest thing
// around it that does exist; 0 if there is none.
func (y *yamlFile) lineOf(path string) int {
	n, line := y.root, 0
	for path != "" && n != nil {
		var next *yaml.Node
		switch n.Kind {
		case yaml.MappingNode:
			// Names may hold dots themselves: the longest one that fits counts.
			longest := -1
			for key, value := range pairs(n) {
				rest, ok := strings.CutPrefix(path, key.Value)
				if ok && (rest == "" || rest[0] == '.' || rest[0] == '[') && len(key.Value) > longest {
					longest, next, line = len(key.Value), value, key.Line
				}
			}
			if next != nil {
				path = strings.TrimPrefix(path[longest:], ".")
			}
		case yaml.SequenceNode:
			index, rest, ok := strings.Cut(strings.TrimPrefix(path, "["), "]")
			i, err := strconv.Atoi(index)
			if ok && err == nil && i >= 0 && i < len(n.Content) {
				next = n.Content[i]
				line = next.Line
				path = strings.TrimPrefix(rest, ".")
			}
		default:
		}
		n = next
	}
	return line
}
