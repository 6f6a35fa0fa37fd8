package main

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v4"

	"writ/adapters/proxmox"
)

func writeFile(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

const minimalConfig = `
agent: lab
store: {embedded: {path: ledger}}
policy: {path: policy.yaml}
host: {proxmox: {url: "https://127.0.0.1:1", token_id: "writ@pve!writ", token_secret_file: s}}
`

func TestPathsAreRelativeToTheFile(t *testing.T) {
	path := writeFile(t, "writ.yaml", minimalConfig)
	c, err := loadConfig(path, []string{"WRIT_POLICY_PATH=/etc/policy.yaml", "PATH=/bin", "HOME=/"})
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Dir(path)
	for what, pair := range map[string][2]string{
		"ledger": {c.Store.Embedded.Path, filepath.Join(dir, "ledger")},
		"views":  {c.Store.Views, filepath.Join(dir, "ledger-views")},
		"policy": {c.Policy.Path, "/etc/policy.yaml"},
		"secret": {c.Host.Proxmox.TokenSecretFile, filepath.Join(dir, "s")},
		"listen": {c.Listen, "127.0.0.1:7420"},
	} {
		if pair[0] != pair[1] {
			t.Errorf("%s %q, want %q", what, pair[0], pair[1])
		}
	}
	if host, _ := os.Hostname(); c.Instance != host {
		t.Errorf("instance %q, want the machine's name, %q", c.Instance, host)
	}
}

// Each key can be given by its variable, and the value is that of the file.
func TestEveryKeyHasItsVariable(t *testing.T) {
	values := map[string]string{
		"WRIT_AGENT": "lab2", "WRIT_INSTANCE": "b", "WRIT_STORE_EMBEDDED_PATH": "/l", "WRIT_STORE_VIEWS": "/v", "WRIT_POLICY_PATH": "/p",
		"WRIT_LISTEN": "[::1]:9", "WRIT_TLS_CERT_FILE": "/c", "WRIT_TLS_KEY_FILE": "/k",
		"WRIT_TOKENS":           "[{name: x, sha256: " + strings.Repeat("ab", 32) + ", scopes: [read, submit]}]",
		"WRIT_HOST_PROXMOX_URL": "https://h:8006", "WRIT_HOST_PROXMOX_NODES": "{pve1: 'https://h1:8006'}", "WRIT_HOST_PROXMOX_TOKEN_ID": "x@pve!y",
		"WRIT_HOST_PROXMOX_TOKEN_SECRET_FILE": "/s", "WRIT_HOST_PROXMOX_CA_FILE": "/ca", "WRIT_HOST_PROXMOX_FINGERPRINTS": "[AA, BB]",
		"WRIT_HOST_PROXMOX_USER": "u@pve", "WRIT_HOST_PROXMOX_PASSWORD_FILE": "/p", "WRIT_HOST_PROXMOX_ATTEMPT_ROLE": "R", "WRIT_HOST_PROXMOX_ATTEMPT_LEASE": "2m",
		"WRIT_HOST_PROXMOX_WIPE_PASSWORD_FILE": "/wp",
		"WRIT_HOST_PROXMOX_TIMEOUTS_POLL":      "40s", "WRIT_HOST_PROXMOX_TIMEOUTS_LAUNCH": "3m",
		"WRIT_SELF_GUESTS": "[qemu/100, lxc/101]", "WRIT_SELF_STORAGES": "[zfs]", "WRIT_LIMITS_QUEUE": "7", "WRIT_LIMITS_PARALLEL": "8",
		"WRIT_TOKENS_FILE": "/t", "WRIT_CLIENTS_CA_FILE": "/cca", "WRIT_CLIENTS_REQUIRED": "true",
		"WRIT_CLIENTS_CERTIFICATES":       "[{name: x, subject: CN=x, scopes: [read]}]",
		"WRIT_LIMITS_REQUESTS_PER_SECOND": "9", "WRIT_LIMITS_SUBSCRIBERS": "10",
		"WRIT_STORE_HIGH_WATER": "/hw", "WRIT_STORE_BACKUPS": "/b",
		"WRIT_SERVE_EVENTS_LISTEN": "127.0.0.1:2113", "WRIT_SERVE_EVENTS_USER": "r", "WRIT_SERVE_EVENTS_PASSWORD_FILE": "/pw",
		"WRIT_SERVE_EVENTS_TLS_CERT_FILE": "/c", "WRIT_SERVE_EVENTS_TLS_KEY_FILE": "/k",
		"WRIT_STORE_EVENTSTOREDB_CONNECTION": "esdb://n:2113", "WRIT_STORE_EVENTSTOREDB_USERNAME": "w", "WRIT_STORE_EVENTSTOREDB_PASSWORD_FILE": "/pw",
		"WRIT_STORE_EVENTSTOREDB_LEASE": "20s", "WRIT_LIMITS_DISK_RESERVE": "3GiB", "WRIT_LIMITS_CLOCK_SKEW": "5s",
		"WRIT_LOG_LEVEL": "debug", "WRIT_LOG_FORMAT": "json",
	}
	var c config
	keys := environKeys(reflect.ValueOf(&c).Elem(), "")
	for _, k := range keys {
		value, ok := values[k.variable]
		if !ok {
			t.Errorf("no value for %s (key %s) in this test: add one", k.variable, k.key)
			continue
		}
		from, err := c.applyEnviron([]string{k.variable + "=" + value})
		if err != nil || from[k.variable] != k.key {
			t.Errorf("%s: %v, set %v; want it to set %s", k.variable, err, from, k.key)
		}
		if k.value.IsZero() {
			t.Errorf("%s set nothing", k.variable)
		}
		// The same text under the key in a file gives the same value.
		var inFile config
		parts := strings.Split(k.key, ".")
		var text strings.Builder
		for i, p := range parts {
			fmt.Fprintf(&text, "%s%s:", strings.Repeat("  ", i), p)
			if i < len(parts)-1 {
				text.WriteString("\n")
			}
		}
		if k.value.Kind() == reflect.String {
			value = "'" + value + "'"
		}
		if _, err := parseYAML("f", []byte(text.String()+" "+value+"\n"), &inFile); err != nil {
			t.Errorf("%s in a file: %v", k.key, err)
			continue
		}
		i := slices.IndexFunc(environKeys(reflect.ValueOf(&inFile).Elem(), ""), func(o environKey) bool { return o.key == k.key })
		got := environKeys(reflect.ValueOf(&inFile).Elem(), "")[i].value.Interface()
		if !reflect.DeepEqual(got, k.value.Interface()) {
			t.Errorf("%s: %v by file, %v by variable", k.key, got, k.value.Interface())
		}
	}
	if len(keys) != len(values) {
		t.Errorf("%d keys, %d values", len(keys), len(values))
	}
}

func TestLedgerAndViewsNeverShareAFolder(t *testing.T) {
	for views, fine := range map[string]bool{
		"ledger": false, "ledger/views": false, "./ledger/../ledger": false, ".": false, "..": false,
		"ledger2": true, "ledger-views": true, "..views": true, "/elsewhere": true,
	} {
		path := writeFile(t, "writ.yaml", minimalConfig)
		if _, err := loadConfig(path, []string{"WRIT_STORE_VIEWS=" + views}); (err == nil) != fine {
			t.Errorf("views in %q: %v, want it accepted: %t", views, err, fine)
		}
	}
}

func TestAVariableCountsInsteadOfTheFileAndNotBesideIt(t *testing.T) {
	path := writeFile(t, "writ.yaml", minimalConfig+"self: {guests: [qemu/100], storages: [a, b]}\n")
	c, err := loadConfig(path, []string{"WRIT_SELF_GUESTS=[lxc/101]", "WRIT_SELF_STORAGES=[c]"})
	if err != nil {
		t.Fatal(err)
	}
	if len(c.Self.Guests) != 1 || c.Self.Guests[0].VMID != 101 || !slices.Equal(c.Self.Storages, []string{"c"}) {
		t.Errorf("self %+v, want only what the variables say", c.Self)
	}
}

// What init writes must be what serve reads, with every optional line taken in.
func TestTheExampleConfigurationIsTrue(t *testing.T) {
	for name, db := range map[string]eventstoreDBConfig{
		"in a folder": {}, "in a database": {Connection: "esdb://n:2113", Username: "writ", PasswordFile: "pw"},
	} {
		t.Run(name, func(t *testing.T) { exampleIsTrue(t, db) })
	}
}

func exampleIsTrue(t *testing.T, db eventstoreDBConfig) {
	t.Helper()
	fill := strings.NewReplacer("@store@", storeSection(db), "@agent@", "lab", "@audience@", "lab/0123456789abcdef", "@listen@", defaultListen)
	plain := fill.Replace(initConfig)
	if _, err := loadConfig(writeFile(t, "writ.yaml", plain), nil); err != nil {
		t.Errorf("as written: %v", err)
	}
	var all []string
	for line := range strings.Lines(plain) {
		// A commented line is an example if it looks like YAML under this file's keys.
		text := strings.TrimLeft(line, " ")
		if example, ok := strings.CutPrefix(text, "# "); ok && looksLikeKey(example) && !strings.Contains(example, "fingerprints") {
			indent := line[:len(line)-len(text)]
			line = indent + example
		}
		all = append(all, line)
	}
	var c config
	if _, err := parseYAML("example", []byte(strings.Join(all, "")), &c); err != nil {
		t.Errorf("with every example: %v\n%s", err, strings.Join(all, ""))
	}
	if c.Store.remote() != (db.Connection != "") || len(c.Tokens) != 1 || c.Limits.Queue != 1024 || c.Log.Format != "text" || c.Host.Proxmox.Nodes["pve1"] == "" || time.Duration(c.Host.Proxmox.Timeouts.Launch) != 2*time.Minute {
		t.Errorf("with every example: %+v, want the examples in it", c)
	}
	policy := writeFile(t, "policy.yaml", fill.Replace(initPolicy))
	p, err := readPolicyFile(policy)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.compile(1); err != nil {
		t.Errorf("the example policy: %v", err)
	}
}

// looksLikeKey tells a line of YAML from a sentence.
func looksLikeKey(s string) bool {
	trimmed := strings.TrimPrefix(strings.TrimSpace(s), "- ")
	key, _, ok := strings.Cut(trimmed, ":")
	return ok && key != "" && strings.Trim(key, "abcdefghijklmnopqrstuvwxyz_0123456789") == "" && !strings.Contains(trimmed, "//www")
}

func TestTheSecretIsNotShown(t *testing.T) {
	path := writeFile(t, "writ.yaml", strings.Replace(minimalConfig, ", token_secret_file: s", "", 1))
	c, err := loadConfig(path, []string{
		"WRIT_HOST_PROXMOX_TOKEN_SECRET=hush-hush", "WRIT_HOST_PROXMOX_USER=writ-launch@pve", "WRIT_HOST_PROXMOX_PASSWORD=hush-too",
		"WRIT_HOST_PROXMOX_WIPE_PASSWORD=hush-root",
	})
	if err != nil {
		t.Fatal(err)
	}
	var log strings.Builder
	slog.New(slog.NewJSONHandler(&log, nil)).Info("config", "secret", c.Host.Proxmox.Secret, "config", c)
	text, _ := yaml.Dump(c)
	for what, shown := range map[string]string{
		"%v": fmt.Sprintf("%v", c), "%+v": fmt.Sprintf("%+v", *c), "%#v": fmt.Sprintf("%#v", c.Host), "%x": fmt.Sprintf("%x", c.Host.Proxmox.Secret),
		"%s":  fmt.Sprintf("%s %s", c.Host.Proxmox.Password, c.Host.Proxmox.WipePassword),
		"log": log.String(), "yaml": string(text),
	} {
		if strings.Contains(shown, "hush") || strings.Contains(shown, fmt.Sprintf("%x", "hush")) {
			t.Errorf("%s shows the secret: %s", what, shown)
		}
	}
	host, err := c.openHost(nil)
	if err != nil {
		t.Fatalf("the secret of the variable is not taken: %v", err)
	}
	if host.Mode() != proxmox.ModeAttempt {
		t.Errorf("mode %s with a service user, want %s", host.Mode(), proxmox.ModeAttempt)
	}
	host.Close()
}

func TestAServiceUserGoesWithItsPassword(t *testing.T) {
	user, password := "WRIT_HOST_PROXMOX_USER=u@pve", "WRIT_HOST_PROXMOX_PASSWORD=p"
	for name, c := range map[string]struct {
		environ []string
		says    string // empty: it is fine
	}{
		"neither":                {nil, ""},
		"both":                   {[]string{user, password}, ""},
		"all":                    {[]string{user, "WRIT_HOST_PROXMOX_PASSWORD_FILE=p", "WRIT_HOST_PROXMOX_ATTEMPT_ROLE=R", "WRIT_HOST_PROXMOX_ATTEMPT_LEASE=2m"}, ""},
		"a user alone":           {[]string{user}, "password_file: missing"},
		"a password alone":       {[]string{password}, "user: missing, its password is given"},
		"a password twice":       {[]string{user, password, "WRIT_HOST_PROXMOX_PASSWORD_FILE=p"}, "password_file: given beside WRIT_HOST_PROXMOX_PASSWORD"},
		"an empty password":      {[]string{user, "WRIT_HOST_PROXMOX_PASSWORD="}, "WRIT_HOST_PROXMOX_PASSWORD: empty"},
		"a role without a user":  {[]string{"WRIT_HOST_PROXMOX_ATTEMPT_ROLE=R"}, "user: missing"},
		"a lease without a user": {[]string{"WRIT_HOST_PROXMOX_ATTEMPT_LEASE=1m"}, "user: missing"},
		"for disks, alone":       {[]string{"WRIT_HOST_PROXMOX_WIPE_PASSWORD=p"}, ""},
		"for disks, twice":       {[]string{"WRIT_HOST_PROXMOX_WIPE_PASSWORD=p", "WRIT_HOST_PROXMOX_WIPE_PASSWORD_FILE=p"}, "wipe_password_file: given beside WRIT_HOST_PROXMOX_WIPE_PASSWORD"},
		"for disks, empty":       {[]string{"WRIT_HOST_PROXMOX_WIPE_PASSWORD="}, "WRIT_HOST_PROXMOX_WIPE_PASSWORD: empty"},
		"a lease of no length":   {[]string{user, password, "WRIT_HOST_PROXMOX_ATTEMPT_LEASE=0s"}, "not a duration"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := loadConfig(writeFile(t, "writ.yaml", minimalConfig), c.environ)
			if (err == nil) != (c.says == "") || err != nil && !strings.Contains(err.Error(), c.says) {
				t.Errorf("got %v, want an error that says %q", err, c.says)
			}
		})
	}
}

func TestLinesOfPaths(t *testing.T) {
	var p struct {
		Roles map[string]struct {
			Holders []string `yaml:"holders"`
			Allow   []struct {
				On struct {
					VMIDs []string `yaml:"vmids"`
				} `yaml:"on"`
			} `yaml:"allow"`
		} `yaml:"roles"`
	}
	y, err := parseYAML("p", []byte("roles:\n  a:\n    holders:\n      - x\n      - y\n  a.b:\n    allow:\n      - on:\n          vmids: [1]\n      - on: {vmids: [2,\n        3]}\n"), &p)
	if err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]int{
		"": 0, "roles": 1, "roles.a": 2, "roles.a.holders": 3, "roles.a.holders[1]": 5, "roles.a.holders[9]": 3, "roles.a.quorum": 2,
		"roles.a.b.allow[0].on.vmids[0]": 9, "roles.a.b.allow[1].on.vmids[1]": 11, "roles.a.b": 6, "roles.a.b.allow[1]": 10, "people": 0, "roles[": 1,
	} {
		if got := y.lineOf(path); got != want {
			t.Errorf("line of %q: %d, want %d", path, got, want)
		}
	}
}

// Whatever stands in a file, the answer is a value or an error that names it,
// and never a panic.
func FuzzParseYAML(f *testing.F) {
	f.Add([]byte(minimalConfig))
	f.Add([]byte(initConfig))
	f.Add([]byte(initPolicy))
	f.Add([]byte("tokens:\n\t- a"))
	f.Add([]byte("a: &a [*a]"))
	f.Add([]byte("? [a]\n: b"))
	f.Add([]byte("roles: {a: {allow: [{on: {vmids: 100}}]}}"))
	f.Fuzz(func(t *testing.T, data []byte) {
		var c config
		_, err := parseYAML("f", data, &c)
		var told *lineError
		if err != nil && (!errors.As(err, &told) || told.Path != "f" || told.Why == "") {
			t.Errorf("error %#v, want a *lineError that names the file", err)
		}
		var p policyFile
		if y, err := parseYAML("f", data, &p.Document); err == nil {
			p.Path, p.yaml = "f", y
			if _, err := p.compile(1); err != nil && !strings.HasPrefix(err.Error(), "f") {
				t.Errorf("error %q, want it to begin with the file", err)
			}
		}
	})
}
