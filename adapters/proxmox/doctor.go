package proxmox

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"
)

// A Seat is what answers at one configured URL.
type Seat struct {
	For     string          // the node that is expected there; empty for the front URL
	URL     string          // without the API's root
	Node    string          // that answers
	Quorate bool            // as that node sees it
	Online  map[string]bool // all nodes of the cluster, as that node sees them
	// Certificate is what was shown there; nil over plain HTTP or if nobody
	// could be reached.
	Certificate *Certificate
	Err         error // why nothing of it is known
}

// A Certificate is that of a node.
type Certificate struct {
	Subject, Issuer string
	NotAfter        time.Time
	Fingerprint     string
	// Pinned: it is trusted for its fingerprint alone, whatever else stands in
	// it.
	Pinned bool
}

// LookAtSeats asks at each configured URL who is there, the front URL first.
func (h *Host) LookAtSeats(ctx context.Context) []Seat {
	seat := func(node string, at endpoint) Seat {
		s := Seat{For: node, URL: at.base.Scheme + "://" + at.base.Host}
		s.Certificate, s.Err = h.certificateAt(ctx, at)
		if s.Err != nil {
			return s
		}
		state, err := h.stateAt(ctx, at)
		s.Node, s.Quorate, s.Online, s.Err = state.local, state.quorate, state.online, err
		return s
	}
	// All at a time: each that is down takes as long as it takes to give up.
	names := append([]string{""}, slices.Sorted(maps.Keys(h.nodes))...)
	all := make([]Seat, len(names))
	var asking sync.WaitGroup
	for i, node := range names {
		asking.Go(func() {
			at := h.front
			if node != "" {
				at = h.nodes[node]
			}
			all[i] = seat(node, at)
		})
	}
	asking.Wait()
	return all
}

// certificateAt makes a connection as for a request, and sends none.
func (h *Host) certificateAt(ctx context.Context, at endpoint) (*Certificate, error) {
	if at.base.Scheme != "https" {
		return nil, nil //nolint:nilnil // there is none
	}
	ctx, cancel := context.WithTimeout(ctx, h.pollTimeout)
	defer cancel()
	address := at.base.Host
	if at.base.Port() == "" {
		address += ":443"
	}
	conn, err := h.reads.DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("connect to %s: %w", at.base.Host, err)
	}
	defer func() { _ = conn.Close() }()
	conf := h.reads.TLSClientConfig.Clone()
	conf.ServerName = at.base.Hostname()
	secured := tls.Client(conn, conf)
	if err := secured.HandshakeContext(ctx); err != nil {
		return nil, fmt.Errorf("connect to %s: %w", at.base.Host, err)
	}
	shown := secured.ConnectionState().PeerCertificates
	if len(shown) == 0 {
		return nil, fmt.Errorf("connect to %s: the server showed no certificate", at.base.Host)
	}
	return &Certificate{
		Subject: shown[0].Subject.String(), Issuer: shown[0].Issuer.String(), NotAfter: shown[0].NotAfter.UTC(),
		Fingerprint: formatFingerprint(sha256.Sum256(shown[0].Raw)), Pinned: conf.InsecureSkipVerify,
	}, nil
}

// ClockAhead gives by how much a node's clock is ahead of this machine's, and by
// how much that may be wrong: the node tells whole seconds, and the answer takes
// its time. Now is this machine's clock.
func (h *Host) ClockAhead(ctx context.Context, node string, now func() time.Time) (ahead, doubt time.Duration, err error) {
	before := now()
	there, err := h.nodeTime(ctx, node)
	if err != nil {
		return 0, 0, err
	}
	took := now().Sub(before)
	const half = time.Second / 2 // of the second that was cut off
	return there.Add(half).Sub(before.Add(took / 2)), took/2 + half, nil
}

// A TaskHistory is how much a node remembers of its tasks.
type TaskHistory struct {
	Rows   int       // that it lists
	Oldest time.Time // when the oldest of them ended; zero if none did
	// LastDay is how many ended within a day. Kept is for how long a task is
	// remembered for certain at that rate; zero if it can't be told.
	LastDay int
	Kept    time.Duration
}

// rowsKept is how many tasks a node remembers at least, once it has had as many:
// its index is put aside when it is 50,000 bytes long, and a line has 85 to 110
// (pve-common RESTEnvironment.pm#active_workers).
const rowsKept = 450

// Tasks looks at how far a node's task history reaches. Now is by the node's
// clock.
func (h *Host) Tasks(ctx context.Context, node string, now time.Time) (TaskHistory, error) {
	var t TaskHistory
	for page := range pagesMost {
		query := url.Values{"limit": {fmt.Sprint(pageRows)}, "source": {"all"}, "start": {fmt.Sprint(page * pageRows)}}
		rows, err := h.tasks(ctx, node, query)
		if err != nil {
			return t, err
		}
		for _, row := range rows {
			t.Rows++
			if row.End == nil {
				continue
			}
			end := time.Unix(int64(*row.End), 0).UTC()
			if t.Oldest.IsZero() || end.Before(t.Oldest) {
				t.Oldest = end
			}
			if now.Sub(end) < 24*time.Hour {
				t.LastDay++
			}
		}
		if len(rows) < pageRows {
			break
		}
	}
	if t.LastDay > 0 {
		t.Kept = rowsKept * 24 * time.Hour / time.Duration(t.LastDay)
	}
	return t, nil
}

// CheckLogin tells whether the service user can log in: nil if it can, or if
// there is none.
func (h *Host) CheckLogin(ctx context.Context) error {
	if h.service == nil {
		return nil
	}
	at, _, err := h.quorateNode(ctx, "")
	if err != nil {
		return err
	}
	_, err = h.login(ctx, at)
	return err
}

// A Lack is a need that is not met.
type Lack struct {
	Need
	Has string // in words: nothing, or not passed on
}

// CheckNeeds asks the host which needs are not met.
func (h *Host) CheckNeeds(ctx context.Context, list []Need) ([]Lack, error) {
	type place struct {
		launch bool
		object string
	}
	known := make(map[place]map[string]flag)
	var lacks []Lack
	for _, x := range list {
		k := place{x.Launch, x.Object}
		if _, asked := known[k]; !asked {
			byPath, err := h.permissions(ctx, x.Launch, "?path="+url.QueryEscape(x.Object))
			if err != nil {
				return nil, err
			}
			known[k] = byPath[x.Object]
		}
		passedOn, held := known[k][x.Privilege]
		instead, other := known[k][x.Instead]
		switch {
		case held && (bool(passedOn) || !x.PassedOn), x.Instead != "" && other && (bool(instead) || !x.PassedOn):
		case held || x.Instead != "" && other:
			lacks = append(lacks, Lack{x, "it is not passed on to what is below"})
		default:
			lacks = append(lacks, Lack{x, "it is missing"})
		}
	}
	return lacks, nil
}

// Exceptions gives where, below an object on which a need is met, something else
// is said that takes it away again: such as NoAccess on one guest.
func (h *Host) Exceptions(a *Access, list []Need) []string {
	var all []string
	for _, x := range list {
		who := h.token
		if x.Launch {
			who = h.service.user
		}
		if _, met := a.Privileges(who, x.Object)[x.Privilege]; !met || !x.PassedOn {
			continue
		}
		for _, object := range a.objects() {
			if !isBelow(object, x.Object) || !matters(x.Privilege, object) {
				continue
			}
			if _, held := a.Privileges(who, object)[x.Privilege]; !held && x.seenOn(object) {
				all = append(all, fmt.Sprintf("%s on %s for %s: something else is said there", x.Privilege, object, who))
			}
		}
	}
	return all
}

// seenOn tells whether the privilege is asked for on the object. Of those that
// are passed on from the root only nodes and the access control ask for it.
func (x Need) seenOn(object string) bool {
	return x.Object != "/" || object == "/nodes" || object == "/access" || strings.HasPrefix(object, "/nodes/")
}

// permissions are those of the API token or of the service user, as the host
// computes them: anybody may ask for his own.
func (h *Host) permissions(ctx context.Context, launch bool, query string) (map[string]map[string]flag, error) {
	path := "/access/permissions" + query
	ask := h.get
	if launch {
		ask = h.getOwn
	}
	r, err := ask(ctx, h.front, path)
	if err != nil {
		return nil, err
	}
	var byPath map[string]map[string]flag
	if err := r.decode(&byPath); err != nil {
		return nil, fmt.Errorf("GET %s: %w", path, err)
	}
	return byPath, nil
}

// A Surplus is what the API token or the service user may do and need not.
type Surplus struct {
	Launch     bool     `json:"launch,omitzero"`
	Object     string   `json:"object"`
	Privileges []string `json:"privileges"`
}

// Superfluous gives what both may do beyond a list of needs, but for looking.
func (h *Host) Superfluous(ctx context.Context, list []Need) ([]Surplus, error) {
	var all []Surplus
	for _, launch := range []bool{false, true} {
		if launch && h.service == nil {
			continue
		}
		byPath, err := h.permissions(ctx, launch, "")
		if err != nil {
			return nil, err
		}
		told := make(map[string][]string) // objects by privilege
		for _, object := range slices.Sorted(maps.Keys(byPath)) {
			s := Surplus{Launch: launch, Object: object}
			for _, p := range slices.Sorted(maps.Keys(byPath[object])) {
				above := slices.ContainsFunc(told[p], func(o string) bool { return isBelow(object, o) })
				if harmless(p) || !matters(p, object) || above || slices.ContainsFunc(list, func(x Need) bool {
					return x.Launch == launch && x.Privilege == p && x.covers(object)
				}) {
					continue
				}
				told[p] = append(told[p], object)
				s.Privileges = append(s.Privileges, p)
			}
			if len(s.Privileges) > 0 {
				all = append(all, s)
			}
		}
	}
	return all, nil
}

// covers tells whether a privilege may be expected on an object.
func (x Need) covers(object string) bool {
	if x.Object == object || x.PassedOn && isBelow(object, x.Object) {
		return true
	}
	// Of what is needed in a pool nobody says here who its members are.
	return strings.HasPrefix(x.Object, "/pool/") && (strings.HasPrefix(object, "/vms/") || strings.HasPrefix(object, "/storage/"))
}

func harmless(privilege string) bool {
	return strings.HasSuffix(privilege, ".Audit") || privilege == "Sys.Syslog"
}

// matters tells whether any call of the host asks for the privilege on such an
// object: elsewhere it can only be passed on, and is seen where it comes to.
func matters(privilege, object string) bool {
	top, _, _ := strings.Cut(strings.TrimPrefix(object, "/"), "/")
	switch {
	case strings.HasPrefix(privilege, "VM."):
		return top == "vms"
	case strings.HasPrefix(privilege, "Datastore."):
		return top == "storage"
	case strings.HasPrefix(privilege, "SDN."):
		return top == "sdn"
	case strings.HasPrefix(privilege, "Mapping."):
		return top == "mapping"
	case strings.HasPrefix(privilege, "Pool."):
		return top == "pool"
	}
	return true
}

// OwnTokens gives how many tokens of attempts the host would still take, how many
// others it remembers, and what else the service user has: tokens that are not of
// attempts, by their full names. All are none without a service user.
func (h *Host) OwnTokens(ctx context.Context, now time.Time) (alive, spent int, others []string, err error) {
	if h.service == nil {
		return 0, 0, nil, nil
	}
	list, err := h.ownTokens(ctx, h.front)
	if err != nil {
		return 0, 0, nil, err
	}
	for _, t := range list {
		until := expiry(int64(t.Expire))
		switch {
		case !attemptForm.MatchString(t.Name):
			others = append(others, h.service.user+"!"+t.Name)
		case until == nil || now.Before(*until):
			alive++
		default:
			spent++
		}
	}
	slices.Sort(others)
	return alive, spent, others, nil
}
