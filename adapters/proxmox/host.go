package proxmox

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"sync"
	"time"

	pve "github.com/luthermonson/go-proxmox"

	"writ/domain/op"
)

// A Host is a Proxmox VE cluster as one API token sees it. All its methods may
// be called concurrently.
type Host struct {
	token         string // the reading token's full name, not its secret
	shared        *credential
	service       *service // nil without a service user
	root          *root    // nil where no disks are wiped
	pollTimeout   time.Duration
	launchTimeout time.Duration
	fenceTimeout  time.Duration
	log           *slog.Logger

	front endpoint
	nodes map[string]endpoint

	reads, writes *http.Transport

	mu       sync.Mutex
	launched map[string]bool // guarded by mu: op ids whose one request was let go
	direct   map[string]bool // guarded by mu: nodes that have answered at their endpoint themselves
}

// An endpoint is the API at one node.
type endpoint struct {
	base   *url.URL
	reads  *pve.Client // lets through GET only
	writes *pve.Client // lets through one announced request only
}

// New checks the configuration and makes a Host of it. It sends nothing. A nil
// logger discards.
func New(c Config, log *slog.Logger) (*Host, error) {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	if err := c.check(); err != nil {
		return nil, fmt.Errorf("configure proxmox: %w", err)
	}
	tlsConf, err := tlsConfig(c)
	if err != nil {
		return nil, fmt.Errorf("configure proxmox: %w", err)
	}
	h := &Host{
		token: c.TokenID, shared: &credential{id: c.TokenID, secret: c.Secret},
		pollTimeout: c.PollTimeout, launchTimeout: c.LaunchTimeout, fenceTimeout: fenceTimeout, log: log,
		nodes:    make(map[string]endpoint),
		launched: make(map[string]bool),
		direct:   make(map[string]bool),
		reads:    newTransport(tlsConf.Clone(), c.Dial, readConnect),
		writes:   newTransport(tlsConf.Clone(), c.Dial, launchConnect),
	}
	if c.ServiceUser != "" {
		h.service = &service{
			user: c.ServiceUser, password: c.ServicePassword, role: c.AttemptRole, lease: c.AttemptLease,
			turn: make(chan struct{}, 1),
		}
	}
	if c.WipePassword != "" {
		h.root = &root{password: c.WipePassword}
	}
	// A connection that was used before may be dead, and a request written to
	// it lost or not, nobody knows. A mutating one gets a new connection.
	h.writes.DisableKeepAlives = true

	connect := func(field, raw string) (endpoint, error) {
		base, err := parseBase(field, raw)
		if err != nil {
			return endpoint{}, fmt.Errorf("configure proxmox: %w", err)
		}
		client := func(t http.RoundTripper) *pve.Client {
			return pve.NewClient(base.String(),
				pve.WithHTTPClient(&http.Client{Transport: t, CheckRedirect: noRedirect}),
				pve.WithUserAgent("writ"),
				pve.WithLogger(silent{}))
		}
		var reads, writes http.RoundTripper = h.reads, h.writes
		if c.Carrier != nil {
			reads, writes = c.Carrier, c.Carrier
		}
		return endpoint{
			base:   base,
			reads:  client(&courier{base: reads, limit: maxReply}),
			writes: client(&courier{base: writes, limit: maxLaunchReply, mutating: true}),
		}, nil
	}
	if h.front, err = connect("BaseURL", c.BaseURL); err != nil {
		return nil, err
	}
	for name, raw := range c.Nodes {
		if h.nodes[name], err = connect("Nodes["+name+"]", raw); err != nil {
			return nil, err
		}
	}
	return h, nil
}

// Close drops idle connections. Requests under way are not touched.
func (h *Host) Close() {
	h.reads.CloseIdleConnections()
	h.writes.CloseIdleConnections()
}

// Credential is the full name of the API token that reads and, in ModeShared,
// destroys.
func (h *Host) Credential() string { return h.token }

// at is the endpoint that a request about a node goes to: the node itself if
// its URL is known, else the front node, which passes it on.
func (h *Host) at(node string) endpoint {
	if e, ok := h.nodes[node]; ok {
		return e
	}
	return h.front
}

// get reads one path below the API's root. An error is a *StatusError, a
// *RequestError, or says that the answer was not what Proxmox VE sends.
func (h *Host) get(ctx context.Context, at endpoint, path string) (reply, error) {
	return h.getAs(ctx, at, path, h.shared)
}

func (h *Host) getAs(ctx context.Context, at endpoint, path string, as *credential) (reply, error) {
	ctx, cancel := context.WithTimeout(ctx, h.pollTimeout)
	defer cancel()
	x := &exchange{host: at.base.Host, as: as, want: op.Request{Method: http.MethodGet}}
	if err := at.reads.Req(withExchange(ctx, x), http.MethodGet, path, nil, nil); err != nil {
		return reply{}, plain(http.MethodGet, path, err)
	}
	r, err := parseReply(x.body)
	if err != nil {
		return reply{}, fmt.Errorf("GET %s: %w", path, err)
	}
	return r, nil
}

// send lets one mutating request go, once, over a connection of its own, and
// gives the answer's body.
func (h *Host) send(ctx context.Context, at endpoint, m mutation, as *credential, timeout time.Duration) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	req := m.request
	x := &exchange{host: at.base.Host, as: as, want: req, change: &m}
	target := req.Path
	if req.Query != "" {
		target += "?" + req.Query
	}
	if err := at.writes.Req(withExchange(ctx, x), req.Method, target, nil, nil); err != nil {
		return nil, plain(req.Method, target, err)
	}
	return x.body, nil
}

// plain takes our own error out of what net/http and the library wrap around it.
func plain(method, path string, err error) error {
	if se, ok := errors.AsType[*StatusError](err); ok {
		return se
	}
	if re, ok := errors.AsType[*RequestError](err); ok {
		return re
	}
	// Nothing of ours in it: the library or net/http stopped before or after
	// the courier. It is not said that nothing was written, so nobody may
	// conclude that.
	return fmt.Errorf("%s %s: %w", method, path, err)
}

// Version is what the host says of its software.
type Version struct {
	Version string `json:"version"` // such as 9.2.11
	Release string `json:"release"` // such as 9.2
}

// Version asks the front node for its version, the cheapest question that
// needs a valid token.
func (h *Host) Version(ctx context.Context) (Version, error) {
	const path = "/version"
	r, err := h.get(ctx, h.front, path)
	if err != nil {
		return Version{}, err
	}
	var v Version
	if err := r.decode(&v); err != nil {
		return Version{}, fmt.Errorf("GET %s: %w", path, err)
	}
	if v.Version == "" {
		return Version{}, fmt.Errorf("GET %s: the answer holds no version, is this Proxmox VE?", path)
	}
	return v, nil
}

// silent keeps the library from writing to standard error. What it knows,
// callers learn by errors.
type silent struct{}

func (silent) Debugf(string, ...any) {}
func (silent) Infof(string, ...any)  {}
func (silent) Warnf(string, ...any)  {}
func (silent) Errorf(string, ...any) {}
