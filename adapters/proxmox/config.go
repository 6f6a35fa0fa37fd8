package proxmox

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
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

// Defaults of the tokens made for attempts.
const (
	DefaultAttemptRole  = "WritAttempt"
	DefaultAttemptLease = time.Minute
	minAttemptLease     = 30 * time.Second
	maxAttemptLease     = 15 * time.Minute
)

// A Secret is the secret part of an API token, or a password. However it is
// printed, logged or encoded, it shows as [redacted].
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
	// hold the request back and deliver it late. An attempt's fence can only be
	// confirmed if the guest's node can be asked itself.
	Nodes map[string]string

	// TokenID is the full name, user@realm!name, of the API token that reads
	// and, without a service user, destroys too. With one, rights to look are
	// enough for it: Sys.Audit on /nodes is needed to see the tasks of attempts,
	// Sys.Syslog on / to find those that never got into a list.
	TokenID string
	// Secret is the token's value.
	Secret Secret

	// ServiceUser, user@realm, and ServicePassword are the login under which an
	// API token is made for each attempt. Both or neither: without them all
	// requests are sent with TokenID, see ModeShared. The user needs VM.Allocate,
	// to hand on, and VM.Config.Options, for protection, on the guests, by /vms
	// or by their pools; no second factor; and no other use than by this one
	// ledger: its tokens are the host's memory of what the ledger has launched.
	ServiceUser     string
	ServicePassword Secret
	// AttemptRole is the role that an attempt's token gets on the guest that it
	// destroys: it must hold VM.Allocate and nothing else. What else classes
	// need comes by roles called AttemptRole-PRIVILEGE, which hold that one
	// privilege. Empty means DefaultAttemptRole.
	AttemptRole string
	// AttemptLease is for how long an attempt's token is good, by the clock of
	// the guest's node: 30 seconds to 15 minutes, zero means the default. A
	// request that the host has not looked at by then is refused, even where no
	// fence can be written any more, such as on a node cut off from the rest.
	AttemptLease time.Duration

	// WipePassword is the password of root@pam. With it single disks can be wiped,
	// which the host lets nobody else do; empty, the default, means that they are
	// not. It is used for a login right before such a request, whose ticket carries
	// that one request and is then dropped.
	WipePassword Secret

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

	// Dial makes the connections; nil is the network's own way. It gets host and
	// port of a URL, and must give up when its context ends: until it has given
	// a connection, nothing was sent.
	Dial func(ctx context.Context, network, address string) (net.Conn, error) `json:"-"`

	// Carrier takes requests to the host in the place of connections, for
	// histories that are to be the same each time; nil is the network. Like a
	// connection's, its work ends with the request's context; it never sends a
	// request twice; and before a byte of one may have got anywhere it calls
	// GotConn of the request's httptrace.ClientTrace: a failure without that is
	// taken for proof that nothing was sent.
	Carrier http.RoundTripper `json:"-"`
}

var (
	userForm = regexp.MustCompile(`^[^\s:/@!;%]+@[A-Za-z][A-Za-z0-9.\-_]+$`)
	roleForm = regexp.MustCompile(`^[A-Za-z0-9.\-_]+$`)
)

// maxUser keeps a task's UPID, which holds user and token, a possible name of a
// file.
const maxUser = 64

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
	if !usableSecret(string(c.Secret)) {
		return fieldError("Secret", "empty, or holds a character that no token's secret has")
	}
	if len(c.Fingerprints) > 0 && (c.CAFile != "" || len(c.CAPEM) > 0) {
		return fieldError("Fingerprints", "not together with CAFile or CAPEM, a pinned certificate is all that is checked")
	}
	if c.CAFile != "" && len(c.CAPEM) > 0 {
		return fieldError("CAPEM", "not together with CAFile")
	}
	if err := c.checkService(); err != nil {
		return err
	}
	return errors.Join(
		checkTimeout("PollTimeout", &c.PollTimeout, DefaultPollTimeout),
		checkTimeout("LaunchTimeout", &c.LaunchTimeout, DefaultLaunchTimeout))
}

// checkService is check for what only attempts with tokens of their own need.
func (c *Config) checkService() error {
	if c.AttemptRole == "" {
		c.AttemptRole = DefaultAttemptRole
	}
	if c.AttemptLease == 0 {
		c.AttemptLease = DefaultAttemptLease
	}
	switch {
	case c.ServiceUser == "" && c.ServicePassword == "":
		return nil
	case c.ServiceUser == "root@pam":
		return fieldError("ServiceUser", "root@pam may do everything, make a user of its own for this")
	case !userForm.MatchString(c.ServiceUser) || len(c.ServiceUser) > maxUser:
		return fieldError("ServiceUser", "%q is not a user, user@realm, of at most %d characters", clip(c.ServiceUser), maxUser)
	case c.ServicePassword == "":
		return fieldError("ServicePassword", "missing, ServiceUser is given")
	case !roleForm.MatchString(c.AttemptRole):
		return fieldError("AttemptRole", "%q is not the name of a role", clip(c.AttemptRole))
	case c.AttemptLease < minAttemptLease || c.AttemptLease > maxAttemptLease:
		return fieldError("AttemptLease", "%s is not between %s and %s", c.AttemptLease, minAttemptLease, maxAttemptLease)
	}
	return nil
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
