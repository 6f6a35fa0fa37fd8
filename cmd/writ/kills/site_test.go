package kills_test

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"writ/adapters/httpapi"
)

// A site is the service with all that belongs to it, each a process.
type site struct {
	t       *testing.T
	rng     *rand.Rand
	program string
	dir     string
	env     []string
	cluster *cluster
	load    *load
	service *process
	events  string // folder of the ledger
	id      string // of the ledger
	quick   bool   // there are few kills

	killed          int
	early, stopping int           // of these, so many before it answered, and while it stopped
	slowest         time.Duration // start
	processes       []*process
}

// newSite makes a cluster and a ledger; where says what writ init is to be told
// of where it is, nothing for a folder of its own.
func newSite(t *testing.T, program string, where ...string) *site {
	t.Helper()
	s := &site{t: t, rng: rand.New(rand.NewPCG(*seed, 1)), dir: t.TempDir(), program: program}
	s.cluster = startCluster(t, s.program, filepath.Join(s.dir, "cluster"))
	var made struct{ Audience, Ledger, Store string }
	out := s.writ(append([]string{"init", "--json", s.path("site")}, where...)...)
	if err := json.Unmarshal(out, &made); err != nil {
		t.Fatalf("init tells %q: %v", out, err)
	}
	s.events, s.id = made.Store, made.Ledger
	urls, err := json.Marshal(s.cluster.URLs)
	if err != nil {
		t.Fatal(err)
	}
	s.env = []string{
		"WRIT_LISTEN=127.0.0.1:0", "WRIT_INSTANCE=one", "WRIT_LOG_LEVEL=warn",
		"WRIT_HOST_PROXMOX_URL=" + s.cluster.URL, "WRIT_HOST_PROXMOX_NODES=" + string(urls),
		"WRIT_HOST_PROXMOX_TOKEN_ID=" + s.cluster.TokenID, "WRIT_HOST_PROXMOX_TOKEN_SECRET_FILE=" + s.cluster.SecretFile,
		"WRIT_HOST_PROXMOX_USER=" + s.cluster.User, "WRIT_HOST_PROXMOX_PASSWORD_FILE=" + s.cluster.PasswordFile,
	}
	policy := fmt.Sprintf(`version: 1
people:
  alice: {keys: [{key: %q, format: raw}]}
roles:
  operator:
    holders: [alice]
    quorum: 1
    max_lifetime: 24h
    requester_counts: true
    allow: [{classes: [guest-destroy], on: {vmids: ["100-999999999"]}}]
`, strings.TrimSpace(string(ssh.MarshalAuthorizedKey(alice().Key().Public))))
	if err := os.WriteFile(s.path("site/policy.yaml"), []byte(policy), 0o600); err != nil {
		t.Fatal(err)
	}
	s.cluster.pastTasks()
	s.load = newLoad(t, s.cluster, made.Audience, *seed)
	return s
}

func (s *site) path(name string) string { return filepath.Join(s.dir, filepath.FromSlash(name)) }

// writ runs the program to its end and gives what it prints.
func (s *site) writ(args ...string) []byte {
	s.t.Helper()
	cmd := exec.Command(s.program, args...)
	out, err := cmd.Output()
	if err != nil {
		s.t.Fatalf("writ %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return out
}

// start starts the service, which does not answer yet.
func (s *site) start() {
	s.t.Helper()
	if err := os.RemoveAll(s.path("address")); err != nil {
		s.t.Fatal(err)
	}
	s.service = run(s.t, s.program, s.env, "serve", "--config", s.path("site/writ.yaml"), "--address-file", s.path("address"))
	s.processes = append(s.processes, s.service)
}

// answers waits until the service answers.
func (s *site) answers() string {
	s.t.Helper()
	began := time.Now()
	url, ok := s.service.address(s.path("address"), 30*time.Second)
	if !ok {
		s.service.kill()
		s.t.Fatalf("after %d kills the service does not start:\n%s", s.killed, s.service.log.text())
	}
	s.slowest = max(s.slowest, time.Since(began))
	return url
}

// kill kills the service, which must not have ended by itself.
func (s *site) kill() {
	s.t.Helper()
	s.load.fall()
	if !s.service.kill() {
		s.t.Fatalf("after %d kills the service ended by itself:\n%s", s.killed, s.service.log.text())
	}
	s.killed++
}

// killStopping tells the service to stop, and kills it while it does.
func (s *site) killStopping() {
	s.t.Helper()
	if err := s.service.cmd.Process.Signal(os.Interrupt); err != nil {
		s.t.Fatal(err)
	}
	s.pause(time.Duration(s.rng.Int64N(int64(30 * time.Millisecond))))
	s.load.fall()
	if s.service.kill() {
		s.killed++
		s.stopping++
	} else if code := s.service.cmd.ProcessState.ExitCode(); code != 0 {
		s.t.Fatalf("after %d kills the service stopped with exit code %d:\n%s", s.killed, code, s.service.log.text())
	}
}

// pause lets a while pass, unless the service ends meanwhile.
func (s *site) pause(d time.Duration) {
	enough := time.NewTimer(d)
	defer enough.Stop()
	select {
	case <-enough.C:
	case <-s.service.ended:
	}
}

func (s *site) get(url string, out any) int {
	s.t.Helper()
	resp, err := s.load.client.Get(url)
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(resp.Body).Decode(out); err != nil {
		s.t.Fatalf("%s: %s: %v", url, resp.Status, err)
	}
	return resp.StatusCode
}

// stop ends the service as an operator does.
func (s *site) stop() {
	s.t.Helper()
	s.load.fall()
	if err := s.service.cmd.Process.Signal(os.Interrupt); err != nil {
		s.t.Fatal(err)
	}
	<-s.service.ended
	if code := s.service.cmd.ProcessState.ExitCode(); code != 0 {
		s.t.Errorf("the last service: got exit code %d, want 0:\n%s", code, s.service.log.text())
	}
}

// recovery is the recovery queue as the service tells it.
func (s *site) recovery(base string) httpapi.Recovery {
	s.t.Helper()
	var r httpapi.Recovery
	s.get(base+"/v1/recovery", &r)
	if r.Halted != "" {
		s.t.Fatalf("after %d kills nothing is launched any more: %s", s.killed, r.Halted)
	}
	return r
}
