package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/EventStore/EventStore-Client-Go/v4/esdb"
	"github.com/google/uuid"
	"go.yaml.in/yaml/v4"
)

// examples are the programs of docs/examples that follow a ledger. Each gets
// the checkpoint's path as its last argument and the connection string from
// SUBSCRIBE_TO, follows the streams whose names begin with op-, and prints the
// same lines.
var examples = []struct {
	name    string
	command func(t *testing.T) []string
}{
	{"go", goExample},
	{"node", nodeExample},
}

func goExample(t *testing.T) []string {
	t.Helper()
	program := filepath.Join(t.TempDir(), "subscribe-go")
	if out, err := exec.Command("go", "build", "-o", program, "writ/docs/examples/subscribe-go").CombinedOutput(); err != nil {
		t.Fatalf("build the example: %v\n%s", err, out)
	}
	return []string{program, "-checkpoint"}
}

// nodeExample puts the example beside the packages that its lock file names.
func nodeExample(t *testing.T) []string {
	t.Helper()
	for _, tool := range []string{"node", "npm"} {
		if _, err := exec.LookPath(tool); err != nil {
			if os.Getenv(ciVariable) != "" {
				t.Fatal(err)
			}
			t.Skipf("the example for Node is not run: %v", err)
		}
	}
	packages := nodePackages(t)
	dir := t.TempDir()
	if err := os.Symlink(packages, filepath.Join(dir, "node_modules")); err != nil {
		t.Fatal(err)
	}
	program := filepath.Join(dir, "subscribe.mjs")
	text, err := os.ReadFile(filepath.Join(repository, "docs", "examples", "subscribe-node", "subscribe.mjs"))
	if err == nil {
		err = os.WriteFile(program, text, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	return []string{"node", program}
}

// repository is the folder of the module, as seen from a test.
var repository = filepath.Join("..", "..")

// nodePackages gives the folder with exactly the packages of the example's lock
// file, which it installs into .ci/node where tests must not skip.
func nodePackages(t *testing.T) string {
	t.Helper()
	const lock = "package-lock.json"
	source := filepath.Join(repository, "docs", "examples", "subscribe-node")
	want, err := os.ReadFile(filepath.Join(source, lock))
	if err != nil {
		t.Fatal(err)
	}
	dir, err := filepath.Abs(filepath.Join(repository, ".ci", "node"))
	if err != nil {
		t.Fatal(err)
	}
	packages := filepath.Join(dir, "node_modules")
	if have, err := os.ReadFile(filepath.Join(dir, lock)); err == nil && bytes.Equal(have, want) {
		return packages
	}
	if os.Getenv(ciVariable) == "" {
		t.Skipf("the example for Node is not run: its packages are not in %s; with %s=1 they are installed there", dir, ciVariable)
	}
	// Made aside and renamed, with the lock file last to be seen: a folder that
	// has it is complete.
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		t.Fatal(err)
	}
	fresh, err := os.MkdirTemp(filepath.Dir(dir), "node-") //nolint:usetesting // on the disk that it is renamed on
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(fresh) })
	for name, text := range map[string][]byte{lock: want, ".gitignore": []byte("*\n"), "package.json": nil} {
		if text == nil {
			if text, err = os.ReadFile(filepath.Join(source, name)); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.WriteFile(filepath.Join(fresh, name), text, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	install := exec.Command("npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund")
	install.Dir = fresh
	if out, err := install.CombinedOutput(); err != nil {
		t.Fatalf("npm ci: %v\n%s", err, out)
	}
	if err := errors.Join(os.RemoveAll(dir), os.Rename(fresh, dir)); err != nil {
		t.Fatal(err)
	}
	return packages
}

// A subscriber is an example that runs.
type subscriber struct {
	t     *testing.T
	cmd   *exec.Cmd
	lines chan string // what it prints
	log   lockedBuffer
}

// A lockedBuffer takes what a process writes while it is read.
type lockedBuffer struct {
	mu   sync.Mutex // guards text
	text bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

func startSubscriber(t *testing.T, command []string, url, checkpoint string) *subscriber {
	t.Helper()
	s := &subscriber{t: t, lines: make(chan string, 100)}
	s.cmd = exec.Command(command[0], append(command[1:len(command):len(command)], checkpoint)...)
	s.cmd.Env = append(os.Environ(), "SUBSCRIBE_TO="+url)
	s.cmd.Stderr = &s.log
	out, err := s.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(s.lines)
		for scan := bufio.NewScanner(out); scan.Scan(); {
			s.lines <- scan.Text()
		}
	}()
	t.Cleanup(func() { _ = s.cmd.Process.Kill() })
	return s
}

// wants waits for lines, which must be the next ones.
func (s *subscriber) wants(lines ...string) {
	s.t.Helper()
	timeout := time.After(time.Minute)
	for _, want := range lines {
		select {
		case got, ok := <-s.lines:
			if !ok || got != want {
				s.t.Fatalf("got line %q, want %q; it said:\n%s", got, want, s.log.String())
			}
		case <-timeout:
			s.t.Fatalf("no line came, want %q; it said:\n%s", want, s.log.String())
		}
	}
}

// end asks it to end and waits until it has. What it printed and nobody waited
// for is too much.
func (s *subscriber) end() {
	s.t.Helper()
	if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		s.t.Fatal(err)
	}
	s.ended(0)
}

func (s *subscriber) ended(code int) {
	s.t.Helper()
	// Killed, it ends with no code at all.
	late := time.AfterFunc(time.Minute, func() { _ = s.cmd.Process.Kill() })
	defer late.Stop()
	for line := range s.lines {
		s.t.Errorf("got line %q, want none", line)
	}
	_ = s.cmd.Wait()
	if got := s.cmd.ProcessState.ExitCode(); got != code {
		s.t.Errorf("ended with %d, want %d; it said:\n%s", got, code, s.log.String())
	}
}

// writeEvents appends one event to each of the streams, and gives the lines by
// which the examples tell of them.
func writeEvents(t *testing.T, url string, streams ...string) (lines []string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	client := esdbClient(t, url)
	for _, stream := range streams {
		done, err := client.AppendToStream(ctx, stream, esdb.AppendToStreamOptions{},
			esdb.EventData{EventID: uuid.New(), EventType: "OpStarted", ContentType: esdb.ContentTypeJson, Data: []byte("{}")})
		if err != nil {
			t.Fatal(err)
		}
		lines = append(lines, fmt.Sprintf("event %d %s@%d OpStarted", done.CommitPosition, stream, done.NextExpectedVersion))
	}
	return lines
}

// The examples of docs/subscribers.md do what is said there: they deliver what
// their filter lets through, go on behind their checkpoint when they are started
// again, and behind the last event when the server was away.
func TestSubscribersGoOn(t *testing.T) {
	for _, example := range examples {
		t.Run(example.name, func(t *testing.T) {
			command := example.command(t)
			store, checkpoint := filepath.Join(t.TempDir(), "events"), filepath.Join(t.TempDir(), "checkpoint")
			ready, interrupt := startEventstore(t, "--store", store, "--create", "--writable")
			address := strings.TrimSuffix(strings.TrimPrefix(ready.URL, "esdb://"), "?tls=false")

			history := writeEvents(t, ready.URL, "op-1", "gate-i", "op-2")
			s := startSubscriber(t, command, ready.URL, checkpoint)
			s.wants(history[0], history[2], "caught up")
			live := writeEvents(t, ready.URL, "op-1", "policy")
			s.wants(live[0])
			s.end()

			away := writeEvents(t, ready.URL, "policy", "op-3", "op-1")
			s = startSubscriber(t, command, ready.URL, checkpoint)
			s.wants(away[1], away[2], "caught up")

			interrupt()
			_, interrupt = startEventstore(t, "--store", store, "--writable", "--listen", address)
			s.wants("caught up")
			s.wants(writeEvents(t, ready.URL, "op-4")...)
			s.end()
			if !strings.Contains(s.log.String(), "dropped: ") {
				t.Errorf("it did not tell that it was dropped:\n%s", s.log.String())
			}
			interrupt()
		})
	}
}

// An event whose handling was cut off comes again, and a checkpoint that is
// damaged is told rather than taken for the start.
func TestSubscribersCheckpoint(t *testing.T) {
	for _, example := range examples {
		t.Run(example.name, func(t *testing.T) {
			command := example.command(t)
			checkpoint := filepath.Join(t.TempDir(), "checkpoint")
			ready, interrupt := startEventstore(t, "--store", filepath.Join(t.TempDir(), "events"), "--create", "--writable")
			defer interrupt()
			lines := writeEvents(t, ready.URL, "op-1")
			for range 2 {
				s := startSubscriber(t, command, ready.URL, checkpoint)
				s.wants(lines[0], "caught up")
				s.end()
				// As if it had been killed between handling and storing.
				if err := os.Remove(checkpoint); err != nil {
					t.Fatal(err)
				}
			}
			if err := os.WriteFile(checkpoint, []byte("17"), 0o600); err != nil {
				t.Fatal(err)
			}
			startSubscriber(t, command, ready.URL, checkpoint).ended(1)
		})
	}
}

// Over TLS they sign in, and end at once if they are not let in: trying again
// would not mend it.
func TestSubscribersSignIn(t *testing.T) {
	pki := makeSecrets(t)
	for _, example := range examples {
		t.Run(example.name, func(t *testing.T) {
			command := example.command(t)
			checkpoint := filepath.Join(t.TempDir(), "checkpoint")
			ready, interrupt := startEventstore(t, "--store", filepath.Join(t.TempDir(), "events"), "--create", "--writable",
				"--tls-cert", filepath.Join(pki, "node1.crt"), "--tls-key", filepath.Join(pki, "node1.key"),
				"--user", "reader", "--password-file", filepath.Join(pki, "eventstore-admin-password"))
			defer interrupt()
			password, err := os.ReadFile(filepath.Join(pki, "eventstore-admin-password"))
			if err != nil {
				t.Fatal(err)
			}
			address := strings.TrimSuffix(strings.TrimPrefix(ready.URL, "esdb://"), "?tls=true")
			url := func(password string) string {
				return "esdb://reader:" + password + "@" + address + "?tls=true&tlsCAFile=" + filepath.Join(pki, "ca.crt")
			}
			right := url(strings.TrimSpace(string(password)))
			lines := writeEvents(t, right, "op-1")
			s := startSubscriber(t, command, right, checkpoint)
			s.wants(lines[0], "caught up")
			s.end()

			startSubscriber(t, command, url("wrong"), checkpoint).ended(1)
		})
	}
}

// The page that explains them names files that are there, and keys of the
// configuration that there are.
func TestSubscribersPage(t *testing.T) {
	docs := filepath.Join(repository, "docs")
	text, err := os.ReadFile(filepath.Join(docs, "subscribers.md"))
	if err != nil {
		t.Fatal(err)
	}
	links := regexp.MustCompile(`\]\(([a-z./-]+)\)`).FindAllSubmatch(text, -1)
	if len(links) < 3 {
		t.Errorf("got %d links, want those to the examples too", len(links))
	}
	for _, link := range links {
		if _, err := os.Stat(filepath.Join(docs, string(link[1]))); err != nil {
			t.Error(err)
		}
	}
	example := regexp.MustCompile("(?s)```yaml\n(.*?)```").FindSubmatch(text)
	if example == nil {
		t.Fatal("the page shows no configuration")
	}
	var c config
	if err := yaml.Load(example[1], &c, yaml.WithKnownFields()); err != nil {
		t.Error(err)
	}
	c.Store.Embedded.Path = "ledger"
	if bad := c.checkServe(); bad != nil {
		t.Errorf("%s: %s", bad.key, bad.why)
	}
}

// makeSecrets runs the script that makes keys, certificates and passwords for
// docker-compose.yml, and gives the folder they are in.
func makeSecrets(t *testing.T) string {
	t.Helper()
	for _, tool := range []string{"sh", "openssl"} {
		if _, err := exec.LookPath(tool); err != nil {
			if os.Getenv(ciVariable) != "" {
				t.Fatal(err)
			}
			t.Skipf("no certificates can be made: %v", err)
		}
	}
	dir := filepath.Join(t.TempDir(), "secrets")
	script := filepath.Join(repository, "docs", "examples", "compose-secrets.sh")
	if out, err := exec.Command("sh", script, dir).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", script, err, out)
	}
	return dir
}
