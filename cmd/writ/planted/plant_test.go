package planted_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"writ/cmd/writ/planted"
)

const anExample = `The claim is not drawn.

Two claimants would share
an event id.

suite: ./domain/op ^TestClaim$
suite: ./domain/op
-- a.go old --
claim := draw()
-- a.go new --
claim := zero
-- a.go old --
	use(claim)
-- a.go new --
`

func TestParse(t *testing.T) {
	p, err := planted.Parse("claim-not-drawn", []byte(anExample))
	if err != nil {
		t.Fatal(err)
	}
	if p.Title != "The claim is not drawn." || p.Cost != "Two claimants would share an event id." {
		t.Errorf("got title %q and cost %q", p.Title, p.Cost)
	}
	if len(p.Suites) != 2 || p.Suites[0] != (planted.Suite{Package: "./domain/op", Run: "^TestClaim$"}) || p.Suites[1].String() != "./domain/op" {
		t.Errorf("suites: got %q", p.Suites)
	}
	if want := (planted.Edit{File: "a.go", Old: "\tuse(claim)"}); len(p.Edits) != 2 || p.Edits[1] != want {
		t.Errorf("edits: got %q, want the second to be %q", p.Edits, want)
	}
}

func TestSuiteOfOneTest(t *testing.T) {
	s := planted.Suite{Package: "./domain/op"}.Alone("domain/op.TestFold/an_end.and/more")
	if want := (planted.Suite{Package: "./domain/op", Run: "^TestFold$"}); s != want {
		t.Errorf("got %+v, want %+v", s, want)
	}
}

func TestParseRefuses(t *testing.T) {
	change := func(old, is string) string { return strings.Replace(anExample, old, is, 1) }
	for name, tt := range map[string]struct{ file, data, want string }{
		"another name":           {"Claim_1", anExample, "name"},
		"no cost":                {"x", change("Two claimants would share\nan event id.\n", ""), "what it would cost"},
		"no suite":               {"x", strings.ReplaceAll(anExample, "suite: ", "suites: "), "at least one line"},
		"no change":              {"x", anExample[:strings.Index(anExample, "-- a.go")], "0 sections"},
		"one half of a change":   {"x", strings.TrimSuffix(anExample, "-- a.go new --\n"), "3 sections"},
		"the order turned":       {"x", change("a.go old", "a.go new"), "of one Go file"},
		"two files in one":       {"x", change("a.go new", "b.go new"), "of one Go file"},
		"what is no source file": {"x", strings.ReplaceAll(anExample, "a.go", "a.txt"), "of one Go file"},
		"nothing is replaced":    {"x", change("claim := zero", "claim := draw()"), "nothing is changed"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := planted.Parse(tt.file, []byte(tt.data))
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want an error that says %q", err, tt.want)
			}
		})
	}
}

// What is replaced must stand there exactly once: else nobody knows what was
// changed.
func TestFiles(t *testing.T) {
	for name, tt := range map[string]struct{ src, want, err string }{
		"once":                  {"claim := draw()\n\tuse(claim)\n", "claim := zero\n\n", ""},
		"the code has gone":     {"c := draw()\n", "", "0 times"},
		"it stands there twice": {"claim := draw()\nclaim := draw()\n\tuse(claim)\n", "", "2 times"},
	} {
		t.Run(name, func(t *testing.T) {
			p, err := planted.Parse("x", []byte(anExample))
			if err != nil {
				t.Fatal(err)
			}
			root := t.TempDir()
			if err := os.WriteFile(filepath.Join(root, "a.go"), []byte(tt.src), 0o600); err != nil {
				t.Fatal(err)
			}
			files, err := p.Files(root)
			if (err == nil) != (tt.err == "") || err != nil && !strings.Contains(err.Error(), tt.err) {
				t.Fatalf("got %v, want an error that says %q", err, tt.err)
			}
			if files["a.go"] != tt.want {
				t.Errorf("got %q, want %q", files["a.go"], tt.want)
			}
		})
	}
}
