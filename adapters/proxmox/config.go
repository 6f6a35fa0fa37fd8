package proxmox

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/url"
	"regexp"
	"strings"
	"time"

	"writ/domain/op"
)

// Defaults of the timeouts. The proxy inside Proxmox VE answers 596 by itself
// after 30 seconds; whoever gives up earlier never learns that.
const (
	DefaultPollTimeout   = 45 * time.Second
	DefaultLaunchTimeout = 2 * time.Minute
	minTimeout           = 30 * time.Second
)

// A Secret is the secret part of an API token. However it is printed, logged
// or encoded, it shows as [redacted].
type Secret string

const redacted = "[redacted]"

// Format implements fmt.Formatter, for every verb.
func (Secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, redacted) }

// String gives the placeholder.
func (Secret) String() string { return redacted }

// LogValue implements slog.LogValuer.
func (Secret) LogValue() slog.Value { return slog.StringValue(redacted) }

// MarshalText keeps the secret out of encodings too.
func (Secret) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// Config says which cluster to talk to, as whom, and how to know it.
type Config struct {
	// BaseURL is the API of one node, such as https://pve1.example:8006, for
	// whatever is asked of the cluster as a whole and for nodes without a URL
	// of their own. It must be one node, not a load balancer: what is asked in
	// two requests has to come from the same copy of the cluster's state.
	// Plain http is accepted for loopback addresses only.
	BaseURL string
	// Nodes gives the URL of each node by its name. A request that concerns a
	// node goes straight to it if it is listed, so that no second node can
	// hold the request back and deliver it late.
	Nodes map[string]string

	// TokenID is the API token's full name, user@realm!name.
	TokenID string
	// Secret is the token's value.
	Secret Secret

	// CAFile and CAPEM name the certificate authorities to trust instead of
	// those of the system; for a cluster's own, /etc/pve/pve-root-ca.pem.
	CAFile string
	CAPEM  []byte
	// Fingerprints pins certificates instead: a server is trusted if and only
	// if the SHA-256 of its certificate is listed. The form is what Proxmox VE
	// shows, pairs of hex digits with colons between them. Every node has a
	// certificate of its own. Not together with CAFile or CAPEM.
	Fingerprints []string

	// PollTimeout bounds each read, LaunchTimeout each mutating request from
	// the dial to the last byte of the answer. Zero means the default; other
	// values must be longer than 30 seconds. A deadline of the caller's
	// context holds beside them.
	PollTimeout   time.Duration
	LaunchTimeout time.Duration
}

var tokenForm = regexp.MustCompile(`^[^\s:/@!;%]+@[A-Za-z][A-Za-z0-9.\-_]+![A-Za-z][A-Za-z0-9.\-_]+$`)

// check fills in defaults and tells what is wrong, naming the field.
func (c *Config) check() error {
	if c.BaseURL == "" {
		return fieldError("BaseURL", "missing, give the API of one node, such as https://pve1.example:8006")
	}
	for name := range c.Nodes {
		if err := op.CheckNodeName(name); err != nil {
			return fieldError("Nodes", "%w", err)
		}
	}
	if !tokenForm.MatchString(c.TokenID) {
		return fieldError("TokenID", "%q is not the full name of an API token, user@realm!name", clip(c.TokenID))
	}
	if c.Secret == "" || strings.ContainsFunc(string(c.Secret), func(r rune) bool { return r <= ' ' || r >= 0x7f || r == ';' || r == '%' }) {
		return fieldError("Secret", "empty, or holds a character that no token's secret has")
	}
	if len(c.Fingerprints) > 0 && (c.CAFile != "" || len(c.CAPEM) > 0) {
		return fieldError("Fingerprints", "not together with CAFile or CAPEM, a pinned certificate is all that is checked")
	}
	if c.CAFile != "" && len(c.CAPEM) > 0 {
		return fieldError("CAPEM", "not together with CAFile")
	}
	return errors.Join(
		checkTimeout("PollTimeout", &c.PollTimeout, DefaultPollTimeout),
		checkTimeout("LaunchTimeout", &c.LaunchTimeout, DefaultLaunchTimeout))
}

func fieldError(field, format string, args ...any) error {
	return fmt.Errorf("%s: %w", field, fmt.Errorf(format, args...))
}

func checkTimeout(field string, d *time.Duration, def time.Duration) error {
	if *d == 0 {
		*d = def
	}
	if *d <= minTimeout {
		return fieldError(field, "%s is too short: the host itself may take %s to answer, give more", *d, minTimeout)
	}
	return nil
}

const apiRoot = "/api2/json"

// parseBase gives the URL of the API's root for what an operator wrote.
func parseBase(field, raw string) (*url.URL, error) {
	u, err := url.Parse(raw)
	if err != nil {
		return nil, fieldError(field, "not a URL, such as https://pve1.example:8006") // not shown: it may hold a password
	}
	if u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return nil, fieldError(field, "%q is not the URL of a node, such as https://pve1.example:8006", clip(u.Redacted()))
	}
	switch p := strings.TrimSuffix(u.Path, "/"); p {
	case "", apiRoot:
	default:
		return nil, fieldError(field, "the path %q is not one of the Proxmox VE API, leave it out", clip(p))
	}
	switch {
	case u.Scheme == "https":
	case u.Scheme == "http" && isLoopback(u.Hostname()):
	default:
		return nil, fieldError(field, "%q is not https, which the token's secret requires", clip(raw))
	}
	return &url.URL{Scheme: u.Scheme, Host: u.Host, Path: apiRoot}, nil
}

func isLoopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// clip keeps foreign text short, valid and on one line, for errors and for the
// record.
func clip(s string) string { return clipTo(s, 200) }

func clipTo(s string, limit int) string {
	if len(s) > 4*limit {
		s = s[:4*limit] // what comes after can't show, and may be megabytes
	}
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(s, "\uFFFD"))
	if len(s) <= limit {
		return s
	}
	cut := limit
	for cut > 0 && s[cut]&0xc0 == 0x80 {
		cut--
	}
	return s[:cut] + "…"
}
