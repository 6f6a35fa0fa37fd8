package pvesim

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// method is one entry of the API table.
type method struct {
	verb, path string
	segments   []string
	// protected methods run in pvedaemon; the others in pveproxy itself.
	protected bool
	// open methods need no credentials.
	open bool
	// perm says why the caller may not, or "". It runs before the parameters
	// are checked, and again on every hop. Without it whatever is checked the
	// handler checks, and calls letIn before it changes anything; starting a task
	// does.
	perm func(g *grant) string
	// params are the parameters besides those in the path.
	params map[string]param
	// also admits further names, for configs with their numbered keys.
	also   func(name string) (param, bool)
	handle func(c *call)
}

// param is the schema of one parameter.
type param struct {
	kind     string // string, boolean, integer
	required bool
	min, max *int
	maxLen   int // characters; 0: no limit
	enum     []string
	list     bool                     // JSON arrays are welcome
	requires string                   // another parameter that must be there too
	check    func(text string) string // complaint, or ""
}

const (
	unknownParam = "property is not defined in schema and the schema does not allow additional properties"
	missingParam = "property is missing and it is not optional"
)

var (
	str     = param{kind: "string"}
	boolean = param{kind: "boolean"}
	integer = param{kind: "integer"}
	natural = param{kind: "integer", min: new(0)}
	strList = param{kind: "string", list: true}
)

// configID names snapshots.
var configID = param{kind: "string", maxLen: 40, check: func(s string) string {
	if configIDPattern.MatchString(s) {
		return ""
	}
	return "invalid format - invalid configuration ID '" + s + "'\n"
}}

var configIDPattern = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_-]+$`)

func enum(values ...string) param { return param{kind: "string", enum: values} }

func need(p param) param {
	p.required = true
	return p
}

const minVMID, maxVMID = 100, 999999999

// pathParams are the schemas of variables in paths.
var pathParams = map[string]param{
	"node":     {kind: "string", check: format(nodeName, "value does not look like a valid node name")},
	"vmid":     {kind: "integer", check: checkVMID},
	"upid":     str,
	"userid":   {kind: "string", check: format(regexp.MustCompile(`^[^\s:/]+@[A-Za-z][A-Za-z0-9.\-_]+$`), "value does not look like a valid user name")},
	"tokenid":  {kind: "string", check: pattern(regexp.MustCompile(`^[A-Za-z][A-Za-z0-9.\-_]+$`), `(?^:[A-Za-z][A-Za-z0-9\.\-_]+)`)},
	"storage":  {kind: "string", check: format(regexp.MustCompile(`^[a-zA-Z][a-zA-Z0-9\-_.]*[a-zA-Z0-9]$`), "storage ID contains illegal characters")},
	"sid":      {kind: "string", check: checkSID},
	"id":       str,
	"volume":   str,
	"snapname": configID,
}

var nodeName = regexp.MustCompile(`^[a-zA-Z0-9]([a-zA-Z0-9\-]*[a-zA-Z0-9])?$`)

func checkVMID(text string) string {
	if n, err := strconv.Atoi(text); err != nil || n < minVMID || n > maxVMID || text[0] == '0' {
		return "invalid format - value does not look like a valid VM ID\n"
	}
	return ""
}

func format(re *regexp.Regexp, text string) func(string) string {
	return func(s string) string {
		if re.MatchString(s) {
			return ""
		}
		return "invalid format - " + text + "\n"
	}
}

func pattern(re *regexp.Regexp, shown string) func(string) string {
	return func(s string) string {
		if re.MatchString(s) {
			return ""
		}
		return "value does not match the regex pattern '" + shown + "'"
	}
}

// validate merges path variables and parameters and checks them all, so that
// every complaint is given at once. fatal is an exception instead.
func (m *method) validate(vars map[string]string, raw map[string]value) (params, errs map[string]string, fatal string) {
	params, errs = map[string]string{}, map[string]string{}
	for name, text := range vars {
		if v, twice := raw[name]; twice && v.text != text {
			errs[name] = "duplicate parameter (already defined in URI) with conflicting values!"
			continue
		}
		if e := pathParams[name].complain(value{text: text}); e != "" {
			errs[name] = e
		}
		params[name] = text
	}
	if len(errs) > 0 {
		return nil, errs, ""
	}
	for _, name := range slices.Sorted(maps.Keys(raw)) {
		v := raw[name]
		if _, inPath := vars[name]; inPath {
			continue
		}
		p, known := m.params[name]
		if !known && m.also != nil {
			p, known = m.also(name)
		}
		switch {
		case !known:
			errs[name] = unknownParam
			continue
		case v.form == "null":
			return nil, nil, "unable to parse value of '" + name + "' - got undefined value"
		case v.form == "ARRAY" && p.list:
			v = value{text: strings.Join(v.list, ",")}
		}
		if e := p.complain(v); e != "" {
			errs[name] = e
		}
		if _, there := raw[p.requires]; p.requires != "" && !there {
			errs[p.requires] = "missing property required by '" + name + "'"
		}
		params[name] = v.text
	}
	for name, p := range m.params {
		if _, there := raw[name]; p.required && !there {
			errs[name] = missingParam
		}
	}
	return params, errs, ""
}

func (p param) complain(v value) string {
	got := v.text
	if v.form != "" {
		got = v.form
	}
	switch p.kind {
	case "boolean":
		if v.form != "" || got != "0" && got != "1" {
			return "type check ('boolean') failed - got '" + got + "'"
		}
	case "integer":
		n, err := strconv.Atoi(got)
		if err != nil || v.form != "" || !isDigits(got) {
			if v.form != "" {
				return "type check ('integer') failed - got " + got
			}
			return "type check ('integer') failed - got '" + got + "'"
		}
		if p.min != nil && n < *p.min {
			return fmt.Sprintf("value must have a minimum value of %d", *p.min)
		}
		if p.max != nil && n > *p.max {
			return fmt.Sprintf("value must have a maximum value of %d", *p.max)
		}
	default:
		if v.form != "" {
			return "type check ('string') failed - got " + got
		}
	}
	if p.enum != nil && !slices.Contains(p.enum, got) {
		return "value '" + got + "' does not have a value in the enumeration '" + strings.Join(p.enum, ", ") + "'"
	}
	if p.check != nil {
		if complaint := p.check(got); complaint != "" {
			return complaint
		}
	}
	if p.maxLen > 0 && utf8.RuneCountInString(got) > p.maxLen {
		return fmt.Sprintf("value may only be %d characters long", p.maxLen)
	}
	return ""
}

func isDigits(s string) bool {
	s = strings.TrimPrefix(s, "-")
	for _, r := range s {
		if r < '0' || r > '9' {
			return false
		}
	}
	return s != ""
}

// The accessors below are for parameters that validate has passed.

func (c *call) has(name string) bool { _, ok := c.params[name]; return ok }

func (c *call) on(name string) bool { return c.params[name] == "1" }

func (c *call) int(name string, absent int) int {
	if n, err := strconv.Atoi(c.params[name]); err == nil {
		return n
	}
	return absent
}

func (c *call) vmid() int { return c.int("vmid", 0) }
