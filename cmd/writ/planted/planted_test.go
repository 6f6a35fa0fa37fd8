package planted_test

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"writ/cmd/writ/planted"
)

var (
	plant  = flag.Bool("plant", false, "plant each mistake and see which test fails")
	resume = flag.String("resume", "", "a `file` that keeps what was caught, so that it is not run again")
	update = flag.Bool("update", false, "with -plant: write the table of docs/robustness.md anew")
)

const page = "docs/robustness.md"

func moduleRoot(t *testing.T) string {
	t.Helper()
	root, err := filepath.Abs("../../..")
	if err != nil {
		t.Fatal(err)
	}
	return root
}

func load(t *testing.T) []planted.Plant {
	t.Helper()
	plants, err := planted.Load("testdata")
	if err != nil {
		t.Fatal(err)
	}
	return plants
}

// Whoever changes the code that a mistake is made in carries the mistake along.
func TestEveryMistakeCanBePlanted(t *testing.T) {
	root := moduleRoot(t)
	titles := make(map[string]string)
	plants := load(t)
	if len(plants) < 36 {
		t.Errorf("mistakes: got %d, want at least 36", len(plants))
	}
	for _, p := range plants {
		if other, ok := titles[p.Title]; ok {
			t.Errorf("%s: has the title of %s", p.Name, other)
		}
		titles[p.Title] = p.Name
		files, err := p.Files(root)
		if err != nil {
			t.Errorf("%s: %v", p.Name, err)
			continue
		}
		for name, src := range files {
			if strings.HasSuffix(name, "_test.go") {
				t.Errorf("%s: it changes %s: a mistake is made in the program, not in its tests", p.Name, name)
			}
			if _, err := parser.ParseFile(token.NewFileSet(), name, src, parser.SkipObjectResolution); err != nil {
				t.Errorf("%s: %v", p.Name, err)
			}
		}
		for _, s := range p.Suites {
			if err := findSuite(root, s); err != nil {
				t.Errorf("%s: suite %s: %v", p.Name, s, err)
			}
		}
	}
}

// findSuite looks for tests of the suite.
func findSuite(root string, s planted.Suite) error {
	names, err := filepath.Glob(filepath.Join(root, s.Package, "*_test.go"))
	if err != nil {
		return err
	}
	top, _, _ := strings.Cut(s.Run, "/")
	want, err := regexp.Compile(top)
	if err != nil {
		return err
	}
	form := regexp.MustCompile(`(?m)^func (Test\w+)\(`)
	for _, name := range names {
		src, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		for _, m := range form.FindAllSubmatch(src, -1) {
			if want.Match(m[1]) {
				return nil
			}
		}
	}
	return errors.New("there is no such test")
}

// TestPlanted plants each mistake and runs the suites that are to catch it.
func TestPlanted(t *testing.T) {
	if !*plant {
		t.Skip("it takes some minutes: go test ./cmd/writ/planted -plant -v -timeout 30m")
	}
	plants := load(t)
	d := &driver{root: moduleRoot(t), slots: make(chan struct{}, 2), control: make(map[planted.Suite]*control), of: len(plants)}
	d.readKept(t)
	began := time.Now()
	t.Cleanup(func() { d.report(t, plants, time.Since(began)) })
	for _, p := range plants {
		t.Run(p.Name, func(t *testing.T) {
			t.Parallel()
			d.try(t, p)
		})
	}
}

// A driver plants mistakes, two at a time.
type driver struct {
	root  string
	slots chan struct{}
	of    int

	mu      sync.Mutex // guards what follows
	control map[planted.Suite]*control
	catches []planted.Catch
	tree    string           // digest of the source
	kept    map[string]catch // what an earlier run has caught, by digest of mistake and source
}

// A control is the run of a suite without any mistake.
type control struct {
	once sync.Once
	err  error
}

// A catch is kept from one run to the next.
type catch struct {
	Key, Name, Test string
	Hung            bool
	Took            time.Duration
}

func (d *driver) try(t *testing.T, p planted.Plant) {
	t.Helper()
	d.slots <- struct{}{}
	defer func() { <-d.slots }()
	key := d.key(p)
	if c, ok := d.kept[key]; ok {
		d.note(t, planted.Catch{Plant: p, Test: c.Test, Hung: c.Hung, Took: c.Took})
		return
	}
	if end, ok := t.Deadline(); ok && time.Until(end) < time.Duration(1+len(p.Suites))*2*time.Minute {
		t.Fatal("not run, as the time is nearly up: give -timeout 30m, and -resume FILE to go on where this run ended")
	}
	files, err := p.Files(d.root)
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	for _, s := range p.Suites {
		v, err := planted.Run(t.Context(), d.root, files, s)
		if err != nil {
			t.Fatal(err)
		}
		switch v.Result {
		case planted.Passed:
			continue
		case planted.Failed, planted.Hung:
			sure, err := d.confirm(t, files, s, v)
			if err != nil {
				t.Fatal(err)
			}
			if !sure {
				t.Logf("%s failed by chance, it seems: alone it passes", v.Test)
				continue
			}
			c := planted.Catch{Plant: p, Test: v.Test, Hung: v.Result == planted.Hung, Took: time.Since(began)}
			d.note(t, c)
			d.keep(t, catch{Key: key, Name: p.Name, Test: c.Test, Hung: c.Hung, Took: c.Took})
			if testing.Verbose() {
				t.Logf("how:\n%s", v.Output)
			}
			return
		case planted.NotBuilt, planted.Broken:
		}
		t.Fatalf("%s: %s\n%s", s, v.Result, v.Output)
	}
	t.Errorf("SURVIVED: %s\nIt would cost: %s\nNo test of %v noticed", p.Title, p.Cost, p.Suites)
}

// confirm makes sure that it is the mistake that a suite has noticed. Of a whole
// package the test that failed must fail again, alone: on a busy machine one may
// fail by chance. And without the mistake it must pass.
func (d *driver) confirm(t *testing.T, files map[string]string, s planted.Suite, v planted.Verdict) (bool, error) {
	t.Helper()
	if s.Run == "" {
		s = s.Alone(v.Test)
		again, err := planted.Run(t.Context(), d.root, files, s)
		if err != nil || again.Result == planted.Passed {
			return false, err
		}
	}
	return true, d.sound(t, s)
}

// sound tells whether a suite passes without any mistake: only then does it mean
// anything that it fails with one.
func (d *driver) sound(t *testing.T, s planted.Suite) error {
	t.Helper()
	d.mu.Lock()
	c := d.control[s]
	if c == nil {
		c = new(control)
		d.control[s] = c
	}
	d.mu.Unlock()
	c.once.Do(func() {
		v, err := planted.Run(t.Context(), d.root, nil, s)
		if err == nil && v.Result != planted.Passed {
			err = fmt.Errorf("%s without any mistake: %s %s\n%s", s, v.Test, v.Result, v.Output)
		}
		c.err = err
	})
	return c.err
}

func (d *driver) note(t *testing.T, c planted.Catch) {
	t.Helper()
	d.mu.Lock()
	d.catches = append(d.catches, c)
	n := len(d.catches)
	d.mu.Unlock()
	t.Logf("%d of %d: caught by %s in %.1f s", n, d.of, c.Test, c.Took.Seconds())
}

// report prints the table, and puts it into the page if all mistakes were caught.
func (d *driver) report(t *testing.T, plants []planted.Plant, took time.Duration) {
	t.Helper()
	slices.SortFunc(d.catches, func(a, b planted.Catch) int { return strings.Compare(a.Plant.Name, b.Plant.Name) })
	for _, c := range d.catches {
		t.Logf("%-44s %5.1f s  %s", c.Plant.Name, c.Took.Seconds(), c.Test)
	}
	t.Logf("%d of %d mistakes caught in %s", len(d.catches), len(plants), took.Round(time.Second))
	if !*update {
		return
	}
	if len(d.catches) != len(plants) {
		t.Errorf("%s is left as it is: not all mistakes were caught, or not all were planted", page)
		return
	}
	file := filepath.Join(d.root, page)
	was, err := os.ReadFile(file)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
		return
	}
	is, err := planted.InPage(string(was), planted.Table(d.catches))
	if err == nil {
		err = os.WriteFile(file, []byte(is), 0o644)
	}
	if err != nil {
		t.Errorf("%s: %v", page, err)
	}
}

func (d *driver) key(p planted.Plant) string {
	return fmt.Sprintf("%x", sha256.Sum256(fmt.Appendf(nil, "%s\n%+v", d.tree, p)))
}

// readKept reads what earlier runs have caught.
func (d *driver) readKept(t *testing.T) {
	t.Helper()
	d.kept = make(map[string]catch)
	if *resume == "" {
		return
	}
	var err error
	if d.tree, err = digestOfSource(d.root); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(*resume)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(bytes.NewReader(data))
	for lines.Scan() {
		var c catch
		if err := json.Unmarshal(lines.Bytes(), &c); err != nil {
			t.Fatalf("%s: %v", *resume, err)
		}
		d.kept[c.Key] = c
	}
}

func (d *driver) keep(t *testing.T, c catch) {
	t.Helper()
	if *resume == "" {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	line, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(*resume, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.Write(append(line, '\n')); err != nil {
		t.Fatal(err)
	}
}

// digestOfSource is that of all Go files and all test data of the module but the
// mistakes themselves.
func digestOfSource(root string) (string, error) {
	h := sha256.New()
	err := filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case e.IsDir() && (strings.HasPrefix(e.Name(), ".") || strings.HasSuffix(path, "cmd/writ/planted")):
			return filepath.SkipDir
		case e.IsDir() || filepath.Ext(path) != ".go" && filepath.Dir(path) != root && !strings.Contains(path, "/testdata/"):
			return nil
		}
		data, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) {
			return nil // a file that an editor has moved meanwhile
		}
		fmt.Fprintf(h, "%s %d\n", path, len(data))
		h.Write(data)
		return err
	})
	return hex.EncodeToString(h.Sum(nil)), err
}
