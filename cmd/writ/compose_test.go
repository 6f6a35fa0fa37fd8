package main

import (
	"bytes"
	"errors"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v4"
)

// composeFile is docker-compose.yml as far as the tests look at it.
type composeFile struct {
	Services          map[string]composeService
	Networks, Volumes map[string]any
	Configs, Secrets  map[string]struct{ File string }
}

type composeService struct {
	Image, User, Restart, Hostname string
	Build                          map[string]string
	Command, Entrypoint, Ports     []string
	Profiles, Networks             []string
	CapDrop                        []string `yaml:"cap_drop"`
	SecurityOpt                    []string `yaml:"security_opt"`
	ReadOnly                       bool     `yaml:"read_only"`
	NetworkMode                    string   `yaml:"network_mode"`
	Environment                    map[string]string
	Healthcheck                    struct{ Test []string }
	DependsOn                      map[string]map[string]any `yaml:"depends_on"`
	EnvFile                        []struct{ Path string }   `yaml:"env_file"`
	Volumes, Configs, Secrets      []composeMount
}

// A composeMount is something that a container is given, under a path.
type composeMount struct{ Type, Source, Target string }

// UnmarshalYAML takes the short form too: SOURCE, or SOURCE:TARGET.
func (m *composeMount) UnmarshalYAML(n *yaml.Node) error {
	if n.Kind == yaml.ScalarNode {
		m.Source, m.Target, _ = strings.Cut(n.Value, ":")
		m.Target = strings.TrimSuffix(m.Target, ":ro")
		return nil
	}
	type plain composeMount
	return n.Decode((*plain)(m))
}

const composeWrit = "writ:local" // the image that is built here

func readCompose(t *testing.T) (c composeFile, text string) {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(repository, "docker-compose.yml"))
	if err != nil {
		t.Fatal(err)
	}
	if err := yaml.Load(data, &c); err != nil {
		t.Fatal(err)
	}
	return c, string(data)
}

// Whatever a service names is declared, and nothing is declared for nobody.
func TestComposeNames(t *testing.T) {
	c, _ := readCompose(t)
	used := map[string]map[string]bool{"volume": {}, "config": {}, "secret": {}, "network": {}}
	for name, s := range c.Services {
		for _, m := range s.Volumes {
			if m.Type != "bind" {
				used["volume"][m.Source] = true
			}
			if !filepath.IsAbs(m.Target) {
				t.Errorf("%s: volume %s is put at %q, want an absolute path", name, m.Source, m.Target)
			}
		}
		for _, m := range s.Configs {
			used["config"][m.Source] = true
		}
		for _, m := range s.Secrets {
			used["secret"][m.Source] = true
		}
		for _, n := range s.Networks {
			used["network"][n] = true
		}
		others := slices.Collect(maps.Keys(s.DependsOn))
		if of, ok := strings.CutPrefix(s.NetworkMode, "service:"); ok {
			others = append(others, of)
		}
		for _, other := range others {
			if _, ok := c.Services[other]; !ok {
				t.Errorf("%s: there is no service %s", name, other)
			}
			if s.DependsOn[other]["condition"] == "service_healthy" && len(c.Services[other].Healthcheck.Test) == 0 {
				t.Errorf("%s waits for %s to be healthy, which has no health check", name, other)
			}
		}
	}
	for kind, declared := range map[string][]string{
		"volume": slices.Sorted(maps.Keys(c.Volumes)), "network": slices.Sorted(maps.Keys(c.Networks)),
		"config": slices.Sorted(maps.Keys(c.Configs)), "secret": slices.Sorted(maps.Keys(c.Secrets)),
	} {
		if got := slices.Sorted(maps.Keys(used[kind])); !slices.Equal(got, declared) {
			t.Errorf("%ss in use:\n got %v\nwant %v, those declared", kind, got, declared)
		}
	}
}

// No container may do more than it must, and none is reached from elsewhere.
func TestComposeConfines(t *testing.T) {
	c, _ := readCompose(t)
	tag := regexp.MustCompile(`:[0-9]+\.[0-9]+\.[0-9]+(-[a-z-]+)?$`)
	uid := regexp.MustCompile(`^[1-9][0-9]*:[1-9][0-9]*$`)
	// The one that has no health check: the simulator, of which the program can't ask it.
	unasked := []string{"pvesim"}
	for name, s := range c.Services {
		if !s.ReadOnly || !slices.Equal(s.CapDrop, []string{"ALL"}) || !slices.Equal(s.SecurityOpt, []string{"no-new-privileges:true"}) {
			t.Errorf("%s: read_only %v, cap_drop %v, security_opt %v: not confined", name, s.ReadOnly, s.CapDrop, s.SecurityOpt)
		}
		if !uid.MatchString(s.User) {
			t.Errorf("%s: runs as %q, want a number that is not root's", name, s.User)
		}
		if s.Image != composeWrit && !tag.MatchString(s.Image) {
			t.Errorf("%s: image %s names no version", name, s.Image)
		}
		once := slices.ContainsFunc(s.Profiles, func(p string) bool { return strings.HasPrefix(p, "setup") })
		if has := len(s.Healthcheck.Test) > 1; has == (once || slices.Contains(unasked, name)) {
			t.Errorf("%s: has a health check: %v", name, has)
		}
		for _, port := range s.Ports {
			if !strings.HasPrefix(port, "127.0.0.1:") {
				t.Errorf("%s: port %s is open to other machines", name, port)
			}
		}
		for key, value := range s.Environment {
			if secretish := regexp.MustCompile(`PASSWORD|SECRET`).MatchString(key); secretish && !strings.HasPrefix(value, "/run/") {
				t.Errorf("%s: %s holds a secret itself, want the path of a file", name, key)
			}
		}
	}
}

// The script makes all that is mounted, but for the two secrets that only
// Proxmox VE can give.
func TestComposeSecretsAreMade(t *testing.T) {
	c, text := readCompose(t)
	made := makeSecrets(t)
	files := maps.Collect(maps.All(c.Secrets))
	maps.Copy(files, c.Configs)
	for name, f := range files {
		base, ok := strings.CutPrefix(f.File, "secrets/")
		if !ok || base != name {
			t.Errorf("%s is taken from %s, want secrets/%s", name, f.File, name)
			continue
		}
		info, err := os.Stat(filepath.Join(made, base))
		if errors.Is(err, fs.ErrNotExist) {
			if !strings.HasPrefix(name, "proxmox-") || !strings.Contains(text, "into secrets/"+name) && !strings.Contains(text, f.File) {
				t.Errorf("nothing makes %s", f.File)
			}
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode().Perm() != 0o444 {
			t.Errorf("%s has mode %v: the container's user can't read it", f.File, info.Mode())
		}
	}
	for path, want := range map[string]fs.FileMode{".": 0o700, "ca.key": 0o400} {
		if info, err := os.Stat(filepath.Join(made, path)); err != nil || info.Mode().Perm() != want {
			t.Errorf("secrets/%s: got %v, %v, want mode %v", path, info, err, want)
		}
	}
	if _, ok := files["ca.key"]; ok {
		t.Error("a container is given the authority's key")
	}
	script := filepath.Join(repository, "docs", "examples", "compose-secrets.sh")
	if out, err := exec.Command("sh", script, made).CombinedOutput(); err == nil {
		t.Errorf("the script overwrote what was there:\n%s", out)
	}
	for _, path := range regexp.MustCompile(`(?m)\b(?:docs|cmd)/[a-z_/.-]+[a-z]`).FindAllString(text, -1) {
		if _, err := os.Stat(filepath.Join(repository, path)); err != nil {
			t.Errorf("the file names %s: %v", path, err)
		}
	}
}

// Every command line of writ, in services, in health checks and in what people
// are told to type, is one that the program takes.
func TestComposeCommands(t *testing.T) {
	c, text := readCompose(t)
	lines := make(map[string][]string)
	for name, s := range c.Services {
		if s.Image != composeWrit {
			continue
		}
		lines[name] = s.Command
		if test := s.Healthcheck.Test; len(test) > 0 {
			if test[0] != "CMD" || test[1] != "writ" {
				t.Errorf("%s: health check %v: there is nothing but writ in the image", name, test)
			}
			lines[name+", health check"] = test[2:]
		}
	}
	for _, m := range regexp.MustCompile(`docker compose .*\b(?:run --rm|exec) ([a-z-]+) (.+)`).FindAllStringSubmatch(text, -1) {
		if c.Services[m[1]].Image != composeWrit {
			t.Errorf("%s: no service of this program has the name %s", m[0], m[1])
		}
		if args := strings.Fields(strings.TrimPrefix(m[2], "writ ")); args[0] != "makes" {
			lines[m[0]] = args
		}
	}
	if len(lines) < 10 {
		t.Fatalf("got %d command lines, want those of every service", len(lines))
	}
	for name, args := range lines {
		var out bytes.Buffer
		if code := run(t.Context(), append(slices.Clone(args), "--help"), strings.NewReader(""), &out, &out); code != exitOK || !strings.Contains(out.String(), "Usage:\n  writ "+firstWord(args)) {
			t.Errorf("%s: writ %s: exit code %d\n%s", name, strings.Join(args, " "), code, out.String())
		}
	}
}

func firstWord(args []string) string {
	i := slices.IndexFunc(args, func(a string) bool { return !strings.HasPrefix(a, "-") })
	if i < 0 {
		return ""
	}
	return args[i]
}

// Every variable is a key of the configuration, with a value that it takes; and
// of the database's, an option that version 24.10 has.
func TestComposeEnvironment(t *testing.T) {
	c, text := readCompose(t)
	var site []string
	for _, m := range regexp.MustCompile(`(?m)^# {8}(WRIT_[A-Z_]+=\S+)`).FindAllStringSubmatch(text, -1) {
		site = append(site, m[1])
	}
	if len(site) == 0 {
		t.Error("the file gives no example of writ.env")
	}
	database := strings.Fields(`CERTIFICATE_FILE CERTIFICATE_PRIVATE_KEY_FILE TRUSTED_ROOT_CERTIFICATES_PATH RUN_PROJECTIONS
		TELEMETRY_OPTOUT CLUSTER_SIZE DISCOVER_VIA_DNS GOSSIP_SEED NODE_HOST_ADVERTISE_AS REPLICATION_HOST_ADVERTISE_AS
		DEFAULT_ADMIN_PASSWORD DEFAULT_OPS_PASSWORD`)
	for name, s := range c.Services {
		environ := slices.Clone(site)
		for key, value := range s.Environment {
			environ = append(environ, key+"="+value)
		}
		if s.Image == composeWrit {
			conf := defaultConfig()
			if _, err := conf.applyEnviron(environ); err != nil {
				t.Errorf("%s: %v", name, err)
			}
			continue
		}
		for _, word := range regexp.MustCompile(`EVENTSTORE_[A-Z_]+`).FindAllString(strings.Join(append(environ, s.Entrypoint...), "\n"), -1) {
			if !slices.Contains(database, strings.TrimPrefix(word, "EVENTSTORE_")) {
				t.Errorf("%s: the database has no option %s", name, word)
			}
		}
	}
}

// What goes into the image's build is what the program is built from, and the
// build's command makes a program that needs nothing else in the image.
func TestDockerfileBuilds(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(repository, "Dockerfile"))
	if err != nil {
		t.Fatal(err)
	}
	base := regexp.MustCompile(`(?m)^FROM golang:(\d+\.\d+)\.\d+ AS build$`).FindSubmatch(text)
	mod, err := os.ReadFile(filepath.Join(repository, "go.mod"))
	if err != nil {
		t.Fatal(err)
	}
	if base == nil || !regexp.MustCompile(`(?m)^go `+string(base[1])).Match(mod) {
		t.Errorf("the Dockerfile builds with Go %q, want a version that go.mod allows, to the patch", base)
	}
	if !regexp.MustCompile(`(?m)^FROM scratch\n(?s:.*)^USER 65532:65532$`).Match(text) {
		t.Error("the image is not from scratch, or runs as root")
	}
	build := regexp.MustCompile(`(?m)^RUN (go build .*)$`).FindSubmatch(text)
	if build == nil {
		t.Fatal("the Dockerfile has no go build")
	}
	if testing.Short() || os.Getenv(ciVariable) == "" {
		t.Skipf("the build's command is run with %s=1, and not with -short", ciVariable)
	}
	source := buildContext(t)
	program := filepath.Join(t.TempDir(), "writ")
	command := strings.ReplaceAll(string(build[1]), "/out/writ", program)
	cmd := exec.Command("sh", "-ec", command)
	cmd.Dir = source
	cmd.Env = append(os.Environ(), "GOTOOLCHAIN=local", "GOFLAGS=-mod=readonly", "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", command, err, out)
	}
	if out, err := exec.Command(program, "version").CombinedOutput(); err != nil || !strings.HasPrefix(string(out), "writ ") {
		t.Errorf("the program that was built: %v\n%s", err, out)
	}
	if out, err := exec.Command("go", "version", "-m", program).CombinedOutput(); err != nil || !strings.Contains(string(out), "CGO_ENABLED=0") {
		t.Errorf("the program was built with C: %v\n%s", err, out)
	}
}

// buildContext copies what .dockerignore lets through to a folder of its own.
func buildContext(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(repository, ".dockerignore"))
	if err != nil {
		t.Fatal(err)
	}
	var roots []string
	for line := range strings.Lines(string(text)) {
		if root, ok := strings.CutPrefix(strings.TrimSpace(line), "!"); ok {
			roots = append(roots, root)
		}
	}
	for _, rule := range []string{"\n*\n", "\n**/testdata\n", "\n**/*_test.go\n"} {
		if !strings.Contains(string(text), rule) {
			t.Fatalf(".dockerignore lacks the line %q, which this test follows", strings.TrimSpace(rule))
		}
	}
	dir := t.TempDir()
	for _, root := range roots {
		err := filepath.WalkDir(filepath.Join(repository, root), func(path string, d fs.DirEntry, err error) error {
			switch {
			case err != nil:
				return err
			case d.IsDir() && d.Name() == "testdata":
				return fs.SkipDir
			case d.IsDir() || strings.HasSuffix(path, "_test.go"):
				return nil
			}
			rel, err := filepath.Rel(repository, path)
			if err != nil {
				return err
			}
			data, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			to := filepath.Join(dir, rel)
			return errors.Join(os.MkdirAll(filepath.Dir(to), 0o755), os.WriteFile(to, data, 0o644))
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return dir
}
