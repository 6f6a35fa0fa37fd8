package planted

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"
)

// A Result is what became of a suite.
type Result uint8

// The results.
const (
	// Passed: no test failed.
	Passed Result = iota + 1
	// Failed: a test did, and is named.
	Failed
	// Hung: the time was up, and the test that was running is named.
	Hung
	// NotBuilt: the source does not compile, so nothing was tested.
	NotBuilt
	// Broken: it failed, and no test is known to have.
	Broken
)

// String is the result in words.
func (r Result) String() string {
	switch r {
	case Passed:
		return "passed"
	case Failed:
		return "failed"
	case Hung:
		return "hung"
	case NotBuilt:
		return "not built"
	case Broken:
		return "failed without a test that did"
	}
	return "invalid result"
}

// A Verdict tells how a suite ended.
type Verdict struct {
	Result Result
	Test   string // of Failed and Hung, such as domain/op.TestFold/empty
	Output string // what was printed last, for people
}

// suiteTime bounds one suite. The slowest takes some 20 seconds on two idle cores.
const suiteTime = 2 * time.Minute

// Run runs a suite over the tree at root, with files of it replaced as changed
// tells, up to the first test that fails. With nothing changed an earlier success
// may be taken from go's own cache. After an error nothing is known.
func Run(ctx context.Context, root string, changed map[string]string, s Suite) (Verdict, error) {
	args := []string{"test", "-json", "-vet=off", "-failfast", "-timeout=" + suiteTime.String()}
	if len(changed) > 0 {
		dir, err := os.MkdirTemp("", "writ-planted-")
		if err != nil {
			return Verdict{}, err
		}
		defer func() { _ = os.RemoveAll(dir) }()
		overlay, err := writeOverlay(dir, root, changed)
		if err != nil {
			return Verdict{}, err
		}
		args = append(args, "-overlay="+overlay)
	}
	if s.Run != "" {
		args = append(args, "-run="+s.Run)
	}
	cmd := exec.CommandContext(ctx, "go", append(args, s.Package)...) //nolint:gosec // plants are part of the program's source
	cmd.Dir = root
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 5 * time.Second
	var out, complaints bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &complaints
	err := cmd.Run()
	if ctx.Err() != nil {
		return Verdict{}, ctx.Err()
	}
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		return Verdict{}, err
	}
	v, readErr := ReadVerdict(&out)
	if readErr != nil {
		return Verdict{}, fmt.Errorf("go test %s: %w; %s", s, readErr, complaints.String())
	}
	if (err == nil) != (v.Result == Passed) {
		return Verdict{}, fmt.Errorf("go test %s: it ended with %v, yet by its own account it %s; %s", s, err, v.Result, complaints.String())
	}
	return v, nil
}

// writeOverlay puts the changed files into dir, and beside them the file that tells
// go to take them instead of those at root.
func writeOverlay(dir, root string, changed map[string]string) (string, error) {
	replace := make(map[string]string)
	for file, src := range changed {
		at := filepath.Join(dir, fmt.Sprintf("%d.go", len(replace)))
		if err := os.WriteFile(at, []byte(src), 0o600); err != nil {
			return "", err
		}
		replace[filepath.Join(root, file)] = at
	}
	data, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		return "", err
	}
	overlay := filepath.Join(dir, "overlay.json")
	return overlay, os.WriteFile(overlay, data, 0o600)
}

// An event is one line of go test -json (go doc test2json).
type event struct {
	Action, Package, Test, Output, FailedBuild string
}

// outputLines is how much of what was printed last is kept.
const outputLines = 40

var runningForm = regexp.MustCompile(`^\s+(Test\S+) \([0-9.msh]+\)$`)

// ReadVerdict reads the events of one package's tests, as go test -json prints
// them.
func ReadVerdict(r io.Reader) (Verdict, error) {
	var (
		ended             string // how the package did
		failed            string // the first test that did
		running, listed   []string
		tail              []string
		timedOut, compile bool
	)
	in := bufio.NewScanner(r)
	in.Buffer(nil, 16<<20)
	for in.Scan() {
		var e event
		if err := json.Unmarshal(in.Bytes(), &e); err != nil {
			return Verdict{}, fmt.Errorf("%q is no event: %w", in.Text(), err)
		}
		name := strings.TrimPrefix(e.Package, "writ/") + "." + e.Test
		switch {
		case e.Action == "output" || e.Action == "build-output":
			line := strings.TrimSuffix(e.Output, "\n")
			tail = append(tail, line)
			tail = tail[max(0, len(tail)-outputLines):]
			timedOut = timedOut || strings.HasPrefix(line, "panic: test timed out after ")
			if m := runningForm.FindStringSubmatch(line); timedOut && m != nil {
				listed = append(listed, strings.TrimPrefix(e.Package, "writ/")+"."+m[1])
			}
		case e.Action == "build-fail" || e.FailedBuild != "":
			compile, ended = true, "fail"
		case e.Action == "run":
			running = append(running, name)
		case e.Action == "fail" && e.Test != "":
			// Of a test and its parts, all failed, the innermost says most.
			if failed == "" || strings.HasPrefix(name, failed+"/") {
				failed = name
			}
			fallthrough
		case e.Test != "" && (e.Action == "pass" || e.Action == "skip"):
			running = slices.DeleteFunc(running, func(n string) bool { return n == name })
		case e.Test == "" && (e.Action == "pass" || e.Action == "fail" || e.Action == "skip"):
			ended = e.Action
		}
	}
	if err := in.Err(); err != nil {
		return Verdict{}, err
	}
	v := Verdict{Output: strings.Join(tail, "\n")}
	switch {
	case ended == "":
		return v, errors.New("the events break off")
	case compile:
		v.Result = NotBuilt
	case ended != "fail":
		v.Result = Passed
	case timedOut && len(listed) > 0:
		v.Result, v.Test = Hung, innermost(listed)
	case timedOut:
		v.Result = Broken
	case failed != "":
		v.Result, v.Test = Failed, failed
	case len(running) > 0:
		// A panic outside of a test's own goroutine ends the process without a
		// word about the test.
		v.Result, v.Test = Failed, innermost(running)
	default:
		v.Result = Broken
	}
	return v, nil
}

// innermost gives the name with the most parts, of several the last.
func innermost(names []string) string {
	best := ""
	for _, n := range names {
		if strings.Count(n, "/") >= strings.Count(best, "/") || best == "" {
			best = n
		}
	}
	return best
}
