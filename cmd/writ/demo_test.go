package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"writ/adapters/pvesim"
	"writ/domain/op"
)

// runDemo runs the program's demo and checks that it leaves nothing behind.
func runDemo(t *testing.T, args ...string) (code int, out, errs string) {
	t.Helper()
	t.Setenv("TMPDIR", t.TempDir())
	var stdout, stderr bytes.Buffer
	code = run(t.Context(), append([]string{"demo"}, args...), strings.NewReader(""), &stdout, &stderr)
	leftNothing(t)
	return code, stdout.String(), stderr.String()
}

func leftNothing(t *testing.T) {
	t.Helper()
	left, err := os.ReadDir(os.Getenv("TMPDIR"))
	if err != nil {
		t.Fatal(err)
	}
	if len(left) != 0 {
		t.Errorf("the demo left %v behind, want nothing", left)
	}
}

// variable is what differs from run to run, and what stands for it.
var variable = []struct {
	what *regexp.Regexp
	mark string
}{
	{regexp.MustCompile(`UPID:\S+`), "UPID"},
	{regexp.MustCompile(`127\.0\.0\.1:\d+`), "127.0.0.1:PORT"},
	{regexp.MustCompile(` +\d+\.\d\ds `), " TIME "},
	{regexp.MustCompile(`SHA256:[A-Za-z0-9+/]{43}`), "FINGERPRINT"},
	{regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}`), "UUID"},
	{regexp.MustCompile(`demo/0123456789abcdef`), "demo/OTHER"},
	{regexp.MustCompile(`\b[0-9a-f]{16}\b`), "LEDGER"},
	{regexp.MustCompile(`\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ`), "DATE"},
	{regexp.MustCompile(`\b1\d{9}\b`), "UNIXTIME"},
}

func TestDemoShowsWhatItClaims(t *testing.T) {
	code, got, errs := runDemo(t)
	if code != exitOK || errs != "" {
		t.Errorf("exit code %d and %q on standard error, want 0 and nothing", code, errs)
	}
	for _, v := range variable {
		got = v.what.ReplaceAllString(got, v.mark)
	}
	golden(t, "demo.txt", got)
}

func TestDemoJSONIsOneObjectALine(t *testing.T) {
	code, out, errs := runDemo(t, "--json")
	if code != exitOK || errs != "" {
		t.Errorf("exit code %d and %q on standard error, want 0 and nothing", code, errs)
	}
	kinds := make(map[string]int)
	var last map[string]any
	for line := range strings.Lines(out) {
		last = nil
		if err := json.Unmarshal([]byte(line), &last); err != nil {
			t.Fatalf("line %q: %v", line, err)
		}
		kind, _ := last["type"].(string)
		kinds[kind]++
	}
	if last["type"] != "summary" || last["ok"] != true {
		t.Errorf("the last object is %v, want a summary that is ok", last)
	}
	if kinds["scene"] != len(demoScenes()) || kinds["event"] != 8 || kinds["claim"] < 25 {
		t.Errorf("%v objects, want all scenes, the four events of each op that is followed and at least 25 claims", kinds)
	}
}

// A demo whose claims can't fail would show nothing. Each case lets something
// happen behind the service's back that must not, and names the claim that has
// to notice.
func TestDemoClaimsCanFail(t *testing.T) {
	last := len(demoScenes()) - 1
	cases := []struct {
		name     string
		scene    int // from 0; only this one is played
		sabotage func(ctx context.Context, w *demoWorld) error
		claim    string
	}{
		{"a guest dies though the order was unsigned", 0, destroyBehind(105), "VM 105 is there as before"},
		{"an unsigned order reaches the host", 0, deleteBehind("/nodes/pve2/qemu/105"), "the host was not asked to change anything"},
		{"the request is sent twice", 1, deleteBehind("/nodes/pve2/qemu/105"), "the host was asked to destroy VM 105 once"},
		{"a redelivery reaches the host", 2, deleteBehind("/nodes/pve1/qemu/106"), "the host was asked to destroy VM 106 once"},
		{"a forgery kills", 3, destroyBehind(108), "VM 108 is there as before"},
		{"the retry kills the new machine", 4, destroyBehind(107), "THE NEW MACHINE LIVES, and nothing ever touched it"},
		{"the retry takes only a disk of the new machine", 4, editBehind(107), "THE NEW MACHINE LIVES, and nothing ever touched it"},
		{"a stranger acts on the host", last, destroyBehind(104), "no effect on the host came from anything but an op on record"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Setenv("TMPDIR", t.TempDir())
			s := demoScenes()[c.scene]
			play := s.play
			s.play = func(ctx context.Context, w *demoWorld) error {
				if err := play(ctx, w); err != nil {
					return err
				}
				return c.sabotage(ctx, w)
			}
			scenes := []scene{s}
			if c.scene == last { // it needs what scene 2 did
				scenes = []scene{demoScenes()[1], s}
			}
			var out, errs bytes.Buffer
			a := &app{in: strings.NewReader(""), out: &out, err: &errs, now: time.Now}
			err := a.demo(t.Context(), scenes, false)
			var told *toldError
			if !errors.As(err, &told) || told.code != exitFailed {
				t.Errorf("the demo ended with %v, want exit code %d", err, exitFailed)
			}
			if want := "NOT TRUE: " + c.claim; !strings.Contains(out.String(), want) {
				t.Errorf("got:\n%s\nwant it to hold %q", out.String(), want)
			}
			if !strings.Contains(out.String(), "DID NOT HOLD") {
				t.Errorf("got:\n%s\nwant the end to say that claims did not hold", out.String())
			}
			leftNothing(t)
		})
	}
}

// destroyBehind destroys a guest as another administrator would.
func destroyBehind(vmid int) func(context.Context, *demoWorld) error {
	return func(_ context.Context, w *demoWorld) error {
		if !w.sim.DestroyGuest(vmid) {
			return errors.New("no such guest to sabotage")
		}
		return nil
	}
}

// deleteBehind sends a request to destroy past the service.
func deleteBehind(path string) func(context.Context, *demoWorld) error {
	return func(ctx context.Context, w *demoWorld) error {
		secret, err := readSecretFile(w.path("pve-token-secret"))
		if err != nil {
			return err
		}
		w.sim.Do(ctx, pvesim.Request{
			Method: http.MethodDelete, Path: "/api2/json" + path,
			Header: http.Header{"Authorization": {"PVEAPIToken=" + simToken + "=" + string(secret)}},
		})
		return nil
	}
}

// editBehind takes the disk out of a guest's configuration.
func editBehind(vmid int) func(context.Context, *demoWorld) error {
	return func(_ context.Context, w *demoWorld) error {
		if !w.sim.EditGuest(vmid, map[string]string{"scsi0": ""}) {
			return errors.New("no such guest to sabotage")
		}
		return nil
	}
}

func TestDemoEndsWithAnErrorIfASceneCannotBePlayed(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	for name, s := range map[string]scene{
		"play fails": {play: func(context.Context, *demoWorld) error { return errors.New("no stage") }},
		"claims can't be checked": {
			play:   func(context.Context, *demoWorld) error { return nil },
			claims: func(context.Context, *demoWorld) ([]claim, error) { return nil, errors.New("no witness") },
		},
		"nothing is claimed": {
			play:   func(context.Context, *demoWorld) error { return nil },
			claims: func(context.Context, *demoWorld) ([]claim, error) { return nil, nil },
		},
	} {
		t.Run(name, func(t *testing.T) {
			a := &app{in: strings.NewReader(""), out: io.Discard, err: io.Discard, now: time.Now}
			if err := a.demo(t.Context(), []scene{s}, false); err == nil {
				t.Error("the demo ended well, want an error")
			}
			leftNothing(t)
		})
	}
}

// Whoever interrupts the demo gets a prompt back and no leftovers.
func TestDemoCanBeInterrupted(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	ctx, interrupt := context.WithCancel(t.Context())
	defer interrupt()
	r, w := io.Pipe()
	ended := make(chan int, 1)
	go func() {
		ended <- run(ctx, []string{"demo", "--json"}, strings.NewReader(""), w, io.Discard)
		_ = w.Close()
	}()
	dec := json.NewDecoder(r)
	for {
		var said struct {
			Event string `json:"event"`
		}
		if err := dec.Decode(&said); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		if said.Event == op.TypeLaunching { // a request is on its way right now
			interrupt()
		}
	}
	if code := <-ended; code != exitFailed {
		t.Errorf("exit code %d, want %d: not everything was shown", code, exitFailed)
	}
	leftNothing(t)
}

// With --keep everything stays until the interrupt, and then goes.
func TestDemoKeepRunsUntilInterrupted(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	ctx, interrupt := context.WithCancel(t.Context())
	defer interrupt()
	r, w := io.Pipe()
	ended := make(chan int, 1)
	go func() {
		ended <- run(ctx, []string{"demo", "--keep", "--json"}, strings.NewReader(""), w, io.Discard)
		_ = w.Close()
	}()
	var kept struct {
		Type string `json:"type"`
		URL  string `json:"url"`
	}
	for dec := json.NewDecoder(r); kept.Type != "keeping"; {
		if err := dec.Decode(&kept); err != nil {
			t.Fatalf("read what the demo says: %v", err)
		}
	}
	resp, err := http.Get(kept.URL + "/healthz") //nolint:noctx // the server ends with the test
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		t.Errorf("the kept service answers %d, want 200", resp.StatusCode)
	}
	interrupt()
	if code := <-ended; code != exitOK {
		t.Errorf("exit code %d, want 0", code)
	}
	leftNothing(t)
}
