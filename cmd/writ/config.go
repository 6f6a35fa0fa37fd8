package main

import (
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"writ/adapters/httpapi"
	"writ/domain/op"
	"writ/domain/signedop"
)

// A config is the configuration file. Every key can also be given by an
// environment variable, which then counts instead of the file: WRIT_ and the
// key in capitals, with _ for each dot (host.proxmox.url is
// WRIT_HOST_PROXMOX_URL). Lists and maps are written there as in YAML, on one
// line. Paths are relative to the file's folder.
type config struct {
	// Agent is this agent's name, the first half of every audience. Required.
	Agent string `yaml:"agent"`
	// Instance tells this process apart from others over the same ledger; the
	// machine's name if not given.
	Instance string `yaml:"instance"`

	Store  storeConfig  `yaml:"store"`
	Policy policyConfig `yaml:"policy"`

	// Listen is where the HTTP interface listens: address and port.
	Listen string `yaml:"listen"`
	// Serve says what else the service answers to.
	Serve serveConfig `yaml:"serve"`
	// TLS makes the interface speak HTTPS.
	TLS tlsFiles `yaml:"tls"`
	// Tokens are whom the interface lets in. Without any, in the tokens file or
	// here, and without clients, whoever can reach the address may do
	// everything, so it must then be a loopback address.
	Tokens []tokenConfig `yaml:"tokens"`
	// TokensFile is where writ token keeps tokens. It need not be there yet. If
	// it is named, nobody is let in without a token or certificate.
	TokensFile string `yaml:"tokens_file"`
	// Clients are let in by their TLS certificates.
	Clients clientsConfig `yaml:"clients"`

	Host   hostConfig   `yaml:"host"`
	Self   selfConfig   `yaml:"self"`
	Limits limitsConfig `yaml:"limits"`
	Log    logConfig    `yaml:"log"`
}

type storeConfig struct {
	// Embedded or EventStoreDB is where the ledger is; one of the two.
	Embedded     embeddedConfig     `yaml:"embedded"`
	EventStoreDB eventstoreDBConfig `yaml:"eventstoredb"`
	// Views is the folder of the read models. It holds nothing that can't be
	// built again from the ledger. Default: the ledger's folder with "-views"
	// at its end.
	Views string `yaml:"views"`
	// HighWater is the file that keeps how far the ledger had come, so that an
	// old copy of it is noticed. It belongs on another disk, and in no backup
	// that is restored with the ledger. Default: the ledger's folder with
	// "-highwater" at its end.
	HighWater string `yaml:"high_water"`
	// Backups is the folder that backups of a running ledger are made in.
	// Default: the ledger's folder with "-backups" at its end.
	Backups string `yaml:"backups"`
}

type embeddedConfig struct {
	Path string `yaml:"path"` // the ledger's folder, made by writ init
}

type policyConfig struct {
	Path string `yaml:"path"` // Required
}

type tlsFiles struct {
	CertFile string `yaml:"cert_file"`
	KeyFile  string `yaml:"key_file"`
}

type tokenConfig struct {
	Name   string          `yaml:"name"`
	SHA256 op.Digest       `yaml:"sha256"` // of the token: the token itself stands nowhere
	Scopes []httpapi.Scope `yaml:"scopes"` // submit, read, resolve, void, backup
}

type hostConfig struct {
	Proxmox proxmoxConfig `yaml:"proxmox"`
}

// A proxmoxConfig says which cluster to act on, as whom, and how to know it.
type proxmoxConfig struct {
	URL     string            `yaml:"url"`      // of one node; required
	Nodes   map[string]string `yaml:"nodes"`    // URL of each node by its name
	TokenID string            `yaml:"token_id"` // user@realm!name; required
	// TokenSecretFile holds the token's secret. The secret itself can be
	// given by WRIT_HOST_PROXMOX_TOKEN_SECRET instead, never in the file.
	TokenSecretFile string `yaml:"token_secret_file"`

	// User is a service user, user@realm, whose password makes an API token for
	// each attempt. Without one every request is sent with the token above: then
	// a request that got lost can't be made void, and more ops have to be
	// settled by people after a crash.
	User string `yaml:"user"`
	// PasswordFile holds the user's password. It can be given by
	// WRIT_HOST_PROXMOX_PASSWORD instead, never in the file.
	PasswordFile string `yaml:"password_file"`
	// AttemptRole is the role that an attempt's token gets on its guest, with
	// VM.Allocate and nothing else; WritAttempt if not given. AttemptLease is
	// for how long the token is good.
	AttemptRole  string   `yaml:"attempt_role"`
	AttemptLease duration `yaml:"attempt_lease"`

	// WipePasswordFile holds the password of root@pam, the one user who may wipe
	// a single disk. Without it disks are not wiped. It can be given by
	// WRIT_HOST_PROXMOX_WIPE_PASSWORD instead, never in the file.
	WipePasswordFile string `yaml:"wipe_password_file"`

	CAFile string `yaml:"ca_file"`
	// Fingerprints pin the nodes' certificates: SHA-256, as Proxmox VE shows.
	Fingerprints []string        `yaml:"fingerprints"`
	Timeouts     proxmoxTimeouts `yaml:"timeouts"`

	// Exported, because fmt calls no methods of fields that are not, and would
	// show them.
	Secret       secret `yaml:"-"`
	Password     secret `yaml:"-"`
	WipePassword secret `yaml:"-"`
}

type proxmoxTimeouts struct {
	Poll   duration `yaml:"poll"`   // of each read
	Launch duration `yaml:"launch"` // of each mutating request
}

type selfConfig struct {
	Guests   []guestRef `yaml:"guests"`   // the guests that writ itself runs in, as qemu/100
	Storages []string   `yaml:"storages"` // the storages that hold the ledger
}

type limitsConfig struct {
	RequestsPerSecond int `yaml:"requests_per_second"` // of each caller with a token or certificate; for a moment twice as many
	Subscribers       int `yaml:"subscribers"`         // that follow the ledger at a time, a quarter of them each caller's
	Queue             int `yaml:"queue"`               // ops claimed and not ended; beyond it submissions are turned away
	Parallel          int `yaml:"parallel"`            // ops that act on the host at a time
	// DiskReserve is how much of the ledger's disk is kept free for the ends of
	// ops: with less, no op is claimed.
	DiskReserve byteSize `yaml:"disk_reserve"`
	// ClockSkew is by how much this machine's clock may disagree with the
	// host's before nothing is launched.
	ClockSkew duration `yaml:"clock_skew"`
}

type logConfig struct {
	Level  string `yaml:"level"`  // debug, info, warn, error
	Format string `yaml:"format"` // text, json
}

// defaultListen is where the service listens and clients look for it.
const defaultListen = "127.0.0.1:7420"

func defaultConfig() config {
	var c config
	c.Listen = defaultListen
	c.Store.EventStoreDB.Lease = duration(30 * time.Second)
	c.Limits = limitsConfig{Queue: 1024, Parallel: 64, RequestsPerSecond: 100, Subscribers: 64, DiskReserve: 64 << 20, ClockSkew: duration(30 * time.Second)}
	c.Log = logConfig{Level: "info", Format: "text"}
	return c
}

// A duration is written as 90s or 2m.
type duration time.Duration

// UnmarshalText implements encoding.TextUnmarshaler.
func (d *duration) UnmarshalText(text []byte) error {
	v, err := time.ParseDuration(string(text))
	if err != nil || v <= 0 {
		return fmt.Errorf("%q is not a duration such as 90s or 2m", text)
	}
	*d = duration(v)
	return nil
}

// A byteSize is written as 64MiB, with KiB, MiB or GiB.
type byteSize uint64

var byteUnits = []struct {
	name string
	size byteSize
}{{"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}}

// UnmarshalText implements encoding.TextUnmarshaler.
func (b *byteSize) UnmarshalText(text []byte) error {
	for _, u := range byteUnits {
		number, ok := strings.CutSuffix(string(text), u.name)
		if !ok {
			continue
		}
		n, err := strconv.ParseUint(strings.TrimSpace(number), 10, 32)
		if err == nil {
			*b = byteSize(n) * u.size
			return nil
		}
	}
	return fmt.Errorf("%q is not a size such as 64MiB or 1GiB", text)
}

// String gives the size in the largest unit of which it holds one.
func (b byteSize) String() string {
	for _, u := range byteUnits {
		if b >= u.size {
			return fmt.Sprintf("%d %s", b/u.size, u.name)
		}
	}
	return fmt.Sprintf("%d bytes", uint64(b))
}

// A guestRef is written as qemu/100 or lxc/101.
type guestRef op.Guest

// UnmarshalText implements encoding.TextUnmarshaler.
func (g *guestRef) UnmarshalText(text []byte) error {
	kind, number, ok := strings.Cut(string(text), "/")
	id, err := strconv.Atoi(number)
	if !ok || err != nil || kind != string(op.QEMU) && kind != string(op.LXC) || id < op.MinVMID || id > op.MaxVMID {
		return fmt.Errorf("%q is not a guest such as qemu/100 or lxc/101", text)
	}
	*g = guestRef{Type: op.GuestType(kind), VMID: id}
	return nil
}

// A secret is shown as [redacted], however it is printed.
type secret string

// Format implements fmt.Formatter, for every verb.
func (secret) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte("[redacted]")) }

// MarshalText keeps the secret out of encodings.
func (secret) MarshalText() ([]byte, error) { return []byte("[redacted]"), nil }

// loadConfig reads the file, then the environment, and refuses what can't be
// meant. environ is as os.Environ gives it.
func loadConfig(path string, environ []string) (*config, error) {
	c := defaultConfig()
	y, err := readYAML(path, &c)
	if errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("config %s: no such file; writ init makes one", path)
	}
	if err != nil {
		return nil, err
	}
	from, err := c.applyEnviron(environ)
	if err != nil {
		return nil, err
	}
	dir, err := filepath.Abs(filepath.Dir(path))
	if err != nil {
		return nil, err
	}
	c.resolvePaths(dir)
	if c.Instance == "" {
		if c.Instance, err = os.Hostname(); err != nil {
			return nil, fmt.Errorf("instance: not given, and the machine's name can't be read: %w", err)
		}
	}
	if bad := c.check(); bad != nil {
		return nil, bad.in(y, from)
	}
	return &c, nil
}

// resolvePaths makes paths relative to the file's folder absolute.
func (c *config) resolvePaths(dir string) {
	for _, p := range []*string{
		&c.Store.Embedded.Path, &c.Store.Views, &c.Store.HighWater, &c.Store.Backups, &c.Store.EventStoreDB.PasswordFile, &c.Serve.EventsPasswordFile, &c.Serve.EventsTLS.CertFile, &c.Serve.EventsTLS.KeyFile, &c.Policy.Path, &c.TLS.CertFile, &c.TLS.KeyFile,
		&c.TokensFile, &c.Clients.CAFile,
		&c.Host.Proxmox.TokenSecretFile, &c.Host.Proxmox.PasswordFile, &c.Host.Proxmox.WipePasswordFile, &c.Host.Proxmox.CAFile,
	} {
		if *p != "" && !filepath.IsAbs(*p) {
			*p = filepath.Join(dir, *p)
		}
	}
	base := c.Store.Embedded.Path
	if c.Store.remote() {
		base = filepath.Join(dir, ledgerName)
	}
	if base == "" {
		return
	}
	for p, fallback := range map[*string]string{
		&c.Store.Views: base + "-views", &c.Store.Backups: base + "-backups", &c.Store.HighWater: highWaterOf(base),
	} {
		if *p == "" {
			*p = fallback
		}
	}
}

// highWaterOf is where the high-water mark of a ledger is kept if nothing else
// is said.
func highWaterOf(ledger string) string { return ledger + "-highwater" }

// A badKey says what is wrong with one key of the configuration.
type badKey struct {
	key, why, hint string
}

// in says where the key's value came from: a variable, or a line of the file.
func (b *badKey) in(y *yamlFile, from map[string]string) error {
	why := b.key + ": " + b.why
	for name, key := range from {
		if b.key == key || strings.HasPrefix(b.key, key+".") || strings.HasPrefix(b.key, key+"[") {
			return &lineError{Path: name, Why: why, Hint: b.hint}
		}
	}
	return &lineError{Path: y.path, Line: y.lineOf(b.key), Why: why, Hint: b.hint}
}

// check finds what is missing, wrong or in conflict.
func (c *config) check() *badKey {
	bad := func(key, hint, format string, args ...any) *badKey {
		return &badKey{key: key, why: fmt.Sprintf(format, args...), hint: hint}
	}
	if c.Agent == "" {
		return bad("agent", "name this agent, such as agent: lab; the name is part of every audience", "missing")
	}
	if err := signedop.CheckName(c.Agent); err != nil {
		return bad("agent", "", "%v", err)
	}
	if err := signedop.CheckName(c.Instance); err != nil {
		return bad("instance", "", "%v", err)
	}
	if b := c.Store.check(); b != nil {
		return b
	}
	if c.Store.remote() {
		return c.checkOthers()
	}
	if within(c.Store.Views, c.Store.Embedded.Path) || within(c.Store.Embedded.Path, c.Store.Views) {
		return bad("store.views", "give the views a folder of their own", "the ledger's folder, or one inside of the other")
	}
	if within(c.Store.HighWater, c.Store.Embedded.Path) {
		return bad("store.high_water", "keep it elsewhere, best on another disk", "inside of the ledger's folder, with which it would be restored")
	}
	if within(c.Store.Backups, c.Store.Embedded.Path) {
		return bad("store.backups", "keep them elsewhere, best on another disk", "inside of the ledger's folder")
	}
	return c.checkOthers()
}

// checkOthers is check for all but the store.
func (c *config) checkOthers() *badKey {
	bad := func(key, hint, format string, args ...any) *badKey {
		return &badKey{key: key, why: fmt.Sprintf(format, args...), hint: hint}
	}
	if c.Policy.Path == "" {
		return bad("policy.path", "the policy file; writ init makes an example", "missing")
	}
	for _, check := range []func() *badKey{c.checkListen, c.checkServe, c.checkCallers, c.Host.Proxmox.check, c.checkRest} {
		if b := check(); b != nil {
			return b
		}
	}
	return nil
}

// within tells whether a folder is another or inside of it.
func within(path, dir string) bool {
	rel, err := filepath.Rel(dir, path)
	return err == nil && rel != ".." && !strings.HasPrefix(rel, ".."+string(filepath.Separator))
}

func (c *config) checkListen() *badKey {
	if (c.TLS.CertFile == "") != (c.TLS.KeyFile == "") {
		return &badKey{"tls", "cert_file and key_file go together", "give both, or neither"}
	}
	if err := httpapi.CheckListen(c.Listen, c.identified()); err != nil {
		return &badKey{"listen", err.Error(), "such as " + defaultListen}
	}
	return nil
}

func (c *config) token(t tokenConfig) httpapi.Token {
	return httpapi.Token{Name: t.Name, SHA256: t.SHA256, Scopes: t.Scopes}
}

func (p *proxmoxConfig) check() *badKey {
	const at = "host.proxmox."
	if p.URL == "" {
		return &badKey{at + "url", "missing", "the API of one node, such as https://pve1.example:8006"}
	}
	if u, err := url.Parse(p.URL); err != nil || u.Host == "" {
		return &badKey{at + "url", "not a URL", "such as https://pve1.example:8006"}
	}
	if p.TokenID == "" {
		return &badKey{at + "token_id", "missing", "the API token's full name, user@realm!name"}
	}
	switch {
	case p.TokenSecretFile == "" && p.Secret == "":
		return &badKey{at + "token_secret_file", "missing", "a file that holds the token's secret, or the variable " + secretVariable}
	case p.TokenSecretFile != "" && p.Secret != "":
		return &badKey{at + "token_secret_file", "given beside " + secretVariable, "give the secret in one way only"}
	case p.WipePasswordFile != "" && p.WipePassword != "":
		return &badKey{at + "wipe_password_file", "given beside " + wipePasswordVariable, "give the password in one way only"}
	case p.CAFile != "" && len(p.Fingerprints) > 0:
		return &badKey{at + "fingerprints", "given beside ca_file", "a pinned certificate is all that is checked: give one of them"}
	}
	return p.checkUser()
}

// checkUser is check for the service user and what goes with it.
func (p *proxmoxConfig) checkUser() *badKey {
	const at = "host.proxmox."
	given := p.PasswordFile != "" || p.Password != ""
	switch {
	case p.PasswordFile != "" && p.Password != "":
		return &badKey{at + "password_file", "given beside " + passwordVariable, "give the password in one way only"}
	case p.User != "" && !given:
		return &badKey{at + "password_file", "missing, host.proxmox.user is given", "a file that holds the user's password, or the variable " + passwordVariable}
	case p.User == "" && given:
		return &badKey{at + "user", "missing, its password is given", "the service user, user@realm, such as writ-launch@pve"}
	case p.User == "" && (p.AttemptRole != "" || p.AttemptLease != 0):
		return &badKey{at + "user", "missing, and attempt_role and attempt_lease do nothing without it", "give a service user, user@realm, or leave them out"}
	}
	return nil
}

func (c *config) checkRest() *badKey {
	oneOf := func(key, got string, allowed ...string) *badKey {
		for _, a := range allowed {
			if got == a {
				return nil
			}
		}
		return &badKey{key, fmt.Sprintf("%q is unknown", got), "one of " + strings.Join(allowed, ", ")}
	}
	switch {
	case c.Limits.Queue < 1 || c.Limits.Queue > 1_000_000:
		return &badKey{"limits.queue", strconv.Itoa(c.Limits.Queue) + " is not from 1 to 1000000", ""}
	case c.Limits.Parallel < 1 || c.Limits.Parallel > 10_000:
		return &badKey{"limits.parallel", strconv.Itoa(c.Limits.Parallel) + " is not from 1 to 10000", ""}
	case c.Limits.RequestsPerSecond < 1 || c.Limits.RequestsPerSecond > 100_000:
		return &badKey{"limits.requests_per_second", strconv.Itoa(c.Limits.RequestsPerSecond) + " is not from 1 to 100000", ""}
	case c.Limits.Subscribers < 1 || c.Limits.Subscribers > 10_000:
		return &badKey{"limits.subscribers", strconv.Itoa(c.Limits.Subscribers) + " is not from 1 to 10000", ""}
	}
	if b := oneOf("log.level", c.Log.Level, "debug", "info", "warn", "error"); b != nil {
		return b
	}
	return oneOf("log.format", c.Log.Format, "text", "json")
}
