package main

import (
	"bufio"
	"encoding/json"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// A stage plays docker-compose.yml without containers: each service of this
// program is a process that gets the same command line and environment, with
// what is mounted in the container where it is on this machine.
type stage struct {
	t       *testing.T
	file    composeFile
	dir     string // holds volumes/, secrets/ and site/
	program string
	// moved are addresses of the compose network, each with where it is here.
	moved map[string]string
}

func newStage(t *testing.T) *stage {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	s := &stage{t: t, dir: t.TempDir(), moved: map[string]string{"0.0.0.0:7420": "127.0.0.1:0"}}
	s.file, _ = readCompose(t)
	s.program = filepath.Join(s.dir, "writ") // under this name the test program is writ
	if err := os.Symlink(self, s.program); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(makeSecrets(t), s.path("secrets")); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(s.path("site"), 0o700); err != nil {
		t.Fatal(err)
	}
	s.copy("init_policy.yaml", "site/policy.yaml")
	return s
}

// within is the same stage for a part of the test.
func (s *stage) within(t *testing.T) *stage {
	t.Helper()
	part := *s
	part.t = t
	return &part
}

func (s *stage) path(name string) string { return filepath.Join(s.dir, filepath.FromSlash(name)) }

func (s *stage) copy(from, to string) {
	s.t.Helper()
	data, err := os.ReadFile(from)
	if err == nil {
		err = os.WriteFile(s.path(to), data, 0o600)
	}
	if err != nil {
		s.t.Fatal(err)
	}
}

// here says where a container's paths and addresses are on this machine.
func (s *stage) here(service composeService) *strings.Replacer {
	at := maps.Clone(s.moved)
	for _, m := range service.Volumes {
		at[m.Target] = s.path("volumes/" + m.Source)
		if m.Type == "bind" {
			at[m.Target] = s.path(m.Source)
		} else if err := os.MkdirAll(at[m.Target], 0o700); err != nil {
			s.t.Fatal(err)
		}
	}
	for _, m := range service.Secrets {
		target := m.Target
		if target == "" {
			target = "/run/secrets/" + m.Source
		}
		at[target] = s.path(s.file.Secrets[m.Source].File)
	}
	for _, m := range service.Configs {
		at[m.Target] = s.path(s.file.Configs[m.Source].File)
	}
	// A path may begin with another one: the longest counts.
	targets := slices.SortedFunc(maps.Keys(at), func(a, b string) int { return len(b) - len(a) })
	var pairs []string
	for _, target := range targets {
		pairs = append(pairs, target, at[target])
	}
	return strings.NewReplacer(pairs...)
}

// command is a command line of this program in a service. environ adds to the
// service's environment.
func (s *stage) command(name string, args []string, environ ...string) *exec.Cmd {
	s.t.Helper()
	service := s.file.Services[name]
	here := s.here(service)
	cmd := exec.Command(s.program)
	for _, arg := range args {
		cmd.Args = append(cmd.Args, here.Replace(arg))
	}
	// As the Dockerfile says.
	cmd.Env = []string{here.Replace("WRIT_CONFIG=/var/lib/writ/writ.yaml")}
	cmd.Dir = here.Replace("/var/lib/writ")
	if cmd.Dir == "/var/lib/writ" {
		cmd.Dir = s.dir // it has no such volume
	}
	for key, value := range service.Environment {
		environ = append(environ, key+"="+value)
	}
	for _, kv := range environ {
		cmd.Env = append(cmd.Env, here.Replace(kv))
	}
	return cmd
}

// start runs a service until stop is called, and gives the URL that it tells as
// soon as it answers.
func (s *stage) start(name string, environ ...string) (url string, stop func()) {
	s.t.Helper()
	cmd := s.command(name, append([]string{"--json"}, s.file.Services[name].Command...), environ...)
	var log lockedBuffer
	cmd.Stderr = &log
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { _ = cmd.Process.Kill() })
	line, err := bufio.NewReader(out).ReadBytes('\n')
	var ready struct{ URL string }
	if err != nil || json.Unmarshal(line, &ready) != nil {
		_ = cmd.Wait()
		s.t.Fatalf("%s: it said %q, %v:\n%s", name, line, err, log.String())
	}
	return ready.URL, func() {
		s.t.Helper()
		_ = cmd.Process.Signal(syscall.SIGTERM)
		if err := cmd.Wait(); err != nil {
			s.t.Errorf("%s: ended: %v\n%s", name, err, log.String())
		}
	}
}

func (s *stage) run(name string, args []string, environ ...string) {
	s.t.Helper()
	if out, err := s.command(name, args, environ...).CombinedOutput(); err != nil {
		s.t.Fatalf("%s: writ %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
}

// serve makes the ledger, a token for the health check, and starts the service,
// which must say that it is healthy.
func (s *stage) serve(init, name string, environ ...string) {
	s.t.Helper()
	s.run(init, s.file.Services[init].Command)
	token := []string{"token", "create", "health", "--scope", "read", "--out", "health.token"}
	s.run(name, token, environ...)

	// It listens here on loopback; in the container on all addresses, which the
	// configuration has to allow.
	listening := s.command(name, nil, environ...)
	for i, kv := range listening.Env {
		if strings.HasPrefix(kv, "WRIT_LISTEN=") {
			listening.Env[i] = "WRIT_LISTEN=" + s.file.Services[name].Environment["WRIT_LISTEN"]
		}
	}
	if _, err := loadConfig(filepath.Join(listening.Dir, configName), listening.Env); err != nil {
		s.t.Fatal(err)
	}

	url, stop := s.start(name, environ...)
	scheme, _, _ := strings.Cut(url, "://")
	asks := s.file.Services[name].Environment["WRIT_URL"]
	if asks != scheme+"://127.0.0.1:7420" {
		s.t.Errorf("%s: its health check asks %s, it answers %s", name, asks, url)
	}
	s.moved[asks] = url
	test := s.file.Services[name].Healthcheck.Test[2:]
	s.run(name, test, environ...)
	stop()
	if err := s.command(name, test, environ...).Run(); err == nil {
		s.t.Errorf("%s: its health check finds it healthy when it is not there", name)
	}
}

// The services start as docker-compose.yml has them, one after the other, and
// tell that they are healthy: with the simulated host, and on a database, for
// which writ's own event store stands in, with the certificates, the user and
// the password that the database is given.
func TestComposeRuns(t *testing.T) {
	s := newStage(t)
	s.moved["--listen=127.0.0.1:8006"] = "--listen=127.0.0.1:0"
	host, stop := s.start("pvesim")
	defer stop()
	s.moved["https://127.0.0.1:8006"] = host

	t.Run("profile sim", func(t *testing.T) {
		s := s.within(t)
		s.serve("init-sim", "writ-sim")
	})
	files := s.path("volumes/pvesim")
	s.copy(filepath.Join(files, simSecretName), "secrets/proxmox-token-secret")
	s.copy(filepath.Join(files, simPasswordName), "secrets/proxmox-password")
	s.copy(filepath.Join(files, simCAName), "site/pve-root-ca.pem")
	for _, way := range []struct {
		name, init, serve string
		nodes             []string
	}{
		{"default", "init", "writ", []string{"eventstore"}},
		// One node stands in for all three, and says that it leads.
		{"profile cluster", "init-cluster", "writ-cluster", []string{"node1", "node2", "node3"}},
	} {
		t.Run(way.name, func(t *testing.T) {
			s := s.within(t)
			node := "secrets/" + way.nodes[0]
			database, interrupt := startEventstore(t, "--store", s.path("database-of-"+way.serve), "--create", "--writable",
				"--tls-cert", s.path(node+".crt"), "--tls-key", s.path(node+".key"),
				"--user", "admin", "--password-file", s.path("secrets/eventstore-admin-password"))
			defer interrupt()
			for _, node := range way.nodes {
				s.moved[node+":2113"] = strings.TrimSuffix(strings.TrimPrefix(database.URL, "esdb://"), "?tls=true")
			}
			s.serve(way.init, way.serve,
				"WRIT_HOST_PROXMOX_URL="+host, "WRIT_HOST_PROXMOX_TOKEN_ID="+simToken, "WRIT_HOST_PROXMOX_USER="+simUser,
				"WRIT_HOST_PROXMOX_CA_FILE=/etc/writ/pve-root-ca.pem", "WRIT_SELF_GUESTS=[qemu/100]")
		})
	}
}
