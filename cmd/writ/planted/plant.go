package planted

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/rogpeppe/go-internal/txtar"
)

// A Plant is one deliberate mistake.
type Plant struct {
	Name string // of its file, without the ending
	// Title says in one sentence what the mistake is; Cost what it would cost.
	Title, Cost string
	// Suites are to catch it, the cheapest first; at least one.
	Suites []Suite
	// Edits make it; at least one. Those of one file are made one after the other.
	Edits []Edit
}

// A Suite is tests of one package: all of them, or those that Run names.
type Suite struct {
	Package string // such as ./domain/op
	Run     string // a pattern as go test takes it; empty for all
}

// String is the suite as the file of a plant names it.
func (s Suite) String() string { return strings.TrimSpace(s.Package + " " + s.Run) }

// Alone is the suite of one of its tests, named as a Verdict does.
func (s Suite) Alone(test string) Suite {
	_, name, _ := strings.Cut(test, ".")
	top, _, _ := strings.Cut(name, "/")
	return Suite{Package: s.Package, Run: "^" + top + "$"}
}

// An Edit replaces text that stands exactly once in a file.
type Edit struct {
	File     string // from the root of the module
	Old, New string
}

var (
	nameForm    = regexp.MustCompile(`^[a-z0-9]+(-[a-z0-9]+)*$`)
	sectionForm = regexp.MustCompile(`^([a-z0-9_./-]+\.go) (old|new)$`)
)

const suiteMark = "suite: "

// Load reads the plants of a folder, in the order of their names.
func Load(dir string) ([]Plant, error) {
	files, err := filepath.Glob(filepath.Join(dir, "*.txtar"))
	if err != nil {
		return nil, err
	}
	var plants []Plant
	for _, file := range files {
		data, err := os.ReadFile(file) //nolint:gosec // the folder is the caller's choice
		if err != nil {
			return nil, err
		}
		p, err := Parse(strings.TrimSuffix(filepath.Base(file), ".txtar"), data)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		plants = append(plants, p)
	}
	return plants, nil
}

// Parse reads a plant. Its form is a txtar archive. The comment holds the title,
// an empty line, the cost, and a line "suite: PACKAGE [PATTERN]" for each suite;
// the files come in pairs, "FILE old" and "FILE new", whose texts are taken
// without their last line end.
func Parse(name string, data []byte) (Plant, error) {
	p := Plant{Name: name}
	if !nameForm.MatchString(name) {
		return p, fmt.Errorf("name %q: words of small letters and digits joined by hyphens are required", name)
	}
	archive := txtar.Parse(data)
	p.comment(string(archive.Comment))
	switch {
	case p.Title == "" || p.Cost == "":
		return p, errors.New("comment: a line that says what the mistake is, an empty one, and what it would cost are required")
	case len(p.Suites) == 0:
		return p, errors.New("comment: at least one line \"suite: PACKAGE\" is required")
	case len(archive.Files) == 0 || len(archive.Files)%2 != 0:
		return p, fmt.Errorf("%d sections: pairs of \"FILE old\" and \"FILE new\" are required", len(archive.Files))
	}
	for i := 0; i < len(archive.Files); i += 2 {
		from, to := archive.Files[i], archive.Files[i+1]
		was, is := sectionForm.FindStringSubmatch(from.Name), sectionForm.FindStringSubmatch(to.Name)
		if was == nil || is == nil || was[1] != is[1] || was[2] != "old" || is[2] != "new" {
			return p, fmt.Errorf("sections %q and %q: \"FILE old\" and \"FILE new\" of one Go file are required", from.Name, to.Name)
		}
		e := Edit{File: was[1], Old: text(from.Data), New: text(to.Data)}
		if e.Old == "" || e.Old == e.New {
			return p, fmt.Errorf("section %q: it is empty, or nothing is changed by it", from.Name)
		}
		p.Edits = append(p.Edits, e)
	}
	return p, nil
}

func text(data []byte) string { return strings.TrimSuffix(string(data), "\n") }

func (p *Plant) comment(c string) {
	var words []string
	for line := range strings.Lines(c) {
		suite, ok := strings.CutPrefix(line, suiteMark)
		if !ok {
			words = append(words, line)
			continue
		}
		pkg, run, _ := strings.Cut(strings.TrimSpace(suite), " ")
		p.Suites = append(p.Suites, Suite{Package: pkg, Run: strings.TrimSpace(run)})
	}
	title, cost, _ := strings.Cut(strings.Join(words, ""), "\n\n")
	p.Title = strings.Join(strings.Fields(title), " ")
	p.Cost = strings.Join(strings.Fields(cost), " ")
}

// Files gives the files of the module at root as the mistake makes them, by their
// paths from the root. It fails if a text to be replaced does not stand exactly
// once in its file: the code has moved on, and the plant must go with it.
func (p Plant) Files(root string) (map[string]string, error) {
	changed := make(map[string]string)
	for _, e := range p.Edits {
		src, ok := changed[e.File]
		if !ok {
			data, err := os.ReadFile(filepath.Join(root, e.File)) //nolint:gosec // plants are part of the program's source
			if err != nil {
				return nil, err
			}
			src = string(data)
		}
		if n := strings.Count(src, e.Old); n != 1 {
			return nil, fmt.Errorf("%s holds the text to be replaced %d times, it must stand there once; carry the mistake along:\n%s", e.File, n, e.Old)
		}
		changed[e.File] = strings.Replace(src, e.Old, e.New, 1)
	}
	return changed, nil
}
