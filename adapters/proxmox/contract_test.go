package proxmox_test

import (
	"bytes"
	"fmt"
	"maps"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/go-json-experiment/json"
)

// A contract is what one version of Proxmox VE accepts, as far as writ asks for it.
type contract struct {
	version string
	methods []method
}

// A method is one call of the API with its parameters, those of the path among them.
type method struct {
	Method     string               `json:"method"`
	Path       string               `json:"path"`
	AllowToken bool                 `json:"allow_token"`
	Parameters map[string]parameter `json:"parameters"`
	Pruned     bool                 `json:"pruned"`
}

// A parameter is what the host checks of one (pve-common JSONSchema.pm#check_prop).
type parameter struct {
	Type     string   `json:"type"`
	Optional bool     `json:"optional"`
	Format   string   `json:"format"`
	Pattern  string   `json:"pattern"`
	Enum     []string `json:"enum"`
	Minimum  *float64 `json:"minimum"`
	Maximum  *float64 `json:"maximum"`
	MinLen   int      `json:"min_length"`
	MaxLen   int      `json:"max_length"`
	Requires string   `json:"requires"`
}

// contracts are those that every request is held against.
var contracts = sync.OnceValues(func() ([]contract, error) {
	var all []contract
	for _, version := range []string{"8.4.5", "9.2.3"} {
		c := contract{version: version}
		for _, file := range []string{"pve-" + version, "acl"} {
			text, err := os.ReadFile(filepath.Join("testdata", "contract", file+".ndjson"))
			if err != nil {
				return nil, err
			}
			for line := range bytes.Lines(text) {
				var m method
				if err := json.Unmarshal(line, &m, json.RejectUnknownMembers(true)); err != nil {
					return nil, fmt.Errorf("%s: %w", file, err)
				}
				c.methods = append(c.methods, m)
			}
		}
		all = append(all, c)
	}
	return all, nil
})

// complain tells why the host would not accept a call; empty if it would.
func (c contract) complain(got call) string {
	for _, m := range c.methods {
		if inPath, fits := m.match(got); fits {
			if why := m.complain(got, inPath); why != "" {
				return fmt.Sprintf("PVE %s: %s: %s", c.version, got, why)
			}
			return ""
		}
	}
	return fmt.Sprintf("PVE %s: %s: no such call in testdata/contract", c.version, got)
}

// match compares a path with the method's, and gives the parameters in it. Only a
// volume may have slashes in its name.
func (m method) match(got call) (inPath map[string]string, fits bool) {
	want, have := strings.Split(m.Path, "/"), strings.Split(got.path, "/")
	inPath = make(map[string]string)
	if m.Method != got.method || len(have) < len(want) {
		return nil, false
	}
	for i, w := range want {
		name, variable := strings.CutPrefix(w, "{")
		text := have[i]
		switch {
		case w == "{volume}":
			text, have = strings.Join(have[i:], "/"), have[:i+1]
		case !variable && w != text:
			return nil, false
		case !variable:
			continue
		}
		plain, err := url.PathUnescape(text)
		if err != nil || plain == "" {
			return nil, false
		}
		inPath[strings.TrimSuffix(name, "}")] = plain
	}
	return inPath, len(have) == len(want)
}

func (m method) complain(got call, inPath map[string]string) string {
	if got.token && !m.AllowToken {
		return "it takes no API token"
	}
	if got.body && (m.Method == "GET" || m.Method == "DELETE") {
		return "it has a body"
	}
	given := maps.Clone(inPath)
	for name, values := range got.params {
		if _, twice := given[name]; twice || len(values) != 1 {
			return fmt.Sprintf("parameter %s is given twice", name)
		}
		given[name] = values[0]
	}
	for _, name := range slices.Sorted(maps.Keys(given)) {
		p, known := m.Parameters[name]
		if !known {
			return fmt.Sprintf("parameter %s is unknown", name)
		}
		if why := p.complain(given[name]); why != "" {
			return fmt.Sprintf("parameter %s: %q %s", name, given[name], why)
		}
		if _, with := given[p.Requires]; p.Requires != "" && !with {
			return fmt.Sprintf("parameter %s requires %s", name, p.Requires)
		}
	}
	for name, p := range m.Parameters {
		if _, there := given[name]; !there && !p.Optional {
			return fmt.Sprintf("parameter %s is missing", name)
		}
	}
	return ""
}

// formats are those of the API's own that writ's parameters have.
var formats = map[string]*regexp.Regexp{
	"pve-node":         regexp.MustCompile(`^[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?$`),
	"pve-vmid":         regexp.MustCompile(`^[1-9][0-9]{2,8}$`),
	"pve-vmid-list":    regexp.MustCompile(`^[1-9][0-9]{2,8}(?:,[1-9][0-9]{2,8})*$`),
	"pve-configid":     regexp.MustCompile(`^[a-zA-Z][a-zA-Z0-9_-]+$`),
	"pve-storage-id":   regexp.MustCompile(`^[a-zA-Z][a-zA-Z0-9._-]*[a-zA-Z0-9]$`),
	"pve-userid":       regexp.MustCompile(`^[^\s:/]+@[A-Za-z][A-Za-z0-9._-]+$`),
	"pve-poolid":       regexp.MustCompile(`^[A-Za-z0-9._-]+(?:/[A-Za-z0-9._-]+){0,2}$`),
	"pve-roleid-list":  regexp.MustCompile(`^[A-Za-z0-9._-]+$`),
	"pve-tokenid-list": regexp.MustCompile(`^[^\s:/]+@[A-Za-z][A-Za-z0-9._-]+![A-Za-z][A-Za-z0-9._-]+$`),
}

func (p parameter) complain(text string) string {
	switch p.Type {
	case "boolean":
		if text != "0" && text != "1" {
			return "is no boolean: it must be 0 or 1"
		}
	case "integer":
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil || strconv.FormatInt(n, 10) != text {
			return "is no integer"
		}
		if p.Minimum != nil && float64(n) < *p.Minimum || p.Maximum != nil && float64(n) > *p.Maximum {
			return "is out of bounds"
		}
	case "string":
		if len(text) < p.MinLen || p.MaxLen > 0 && len(text) > p.MaxLen {
			return "is too short or too long"
		}
	default:
		return "is of type " + p.Type + ", which this test does not know"
	}
	if len(p.Enum) > 0 && !slices.Contains(p.Enum, text) {
		return fmt.Sprintf("is none of %q", p.Enum)
	}
	if p.Pattern != "" && !perl(p.Pattern).MatchString(text) {
		return "does not match " + p.Pattern
	}
	if p.Format != "" {
		form := formats[p.Format]
		switch {
		case form == nil:
			return "is of format " + p.Format + ", which this test does not know"
		case !form.MatchString(text):
			return "is not of format " + p.Format
		}
	}
	return ""
}

// perl compiles a pattern as the host matches it: from end to end.
func perl(pattern string) *regexp.Regexp {
	return regexp.MustCompile(`^(?:` + strings.ReplaceAll(pattern, "(?^:", "(?:") + `)$`)
}
