package proxmox

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"slices"

	"writ/domain/op"
)

// A mutation is a request that changes something, of one of the few kinds that
// this program ever sends, on behalf of one attempt.
type mutation struct {
	kind    mutationKind
	by      subject
	request op.Request
	form    url.Values // the body; of a login only
}

// A mutationKind is what a mutation does.
type mutationKind uint8

const (
	acts       mutationKind = iota + 1 // on the target: the one announced request
	logsIn                             // the service user
	makesToken                         // the attempt's, or its tombstone
	grants                             // the attempt's token one of its rights
	expires                            // the attempt's token, for good
	protects                           // the guest from being destroyed
	removes                            // the tombstone of an attempt that nobody can make again
	marks                              // the guest, in its description
)

// A subject is what an attempt is about: whatever a mutation names must be here.
type subject struct {
	user    string // of the service
	token   string // name of the attempt's token, without the user
	role    string // what the token gets; see roleFor
	rights  []right
	conduct *conduct // of the op's class
	node    string
	guest   op.Guest // zero if the target is none
	target  op.Target
	seen    op.Observed
}

const (
	ticketPath = "/access/ticket"
	aclPath    = "/access/acl"
)

func (s subject) tokenPath() string { return tokensPath(s.user) + "/" + s.token }
func (s subject) fullToken() string { return s.user + "!" + s.token }

// roleFor is the role that holds one privilege and nothing else. The configured
// name is that of the role to destroy guests.
func (s subject) roleFor(privilege string) string {
	if privilege == "VM.Allocate" {
		return s.role
	}
	return s.role + "-" + privilege
}

func tokensPath(user string) string { return "/access/users/" + url.PathEscape(user) + "/token" }

var (
	unixForm = regexp.MustCompile(`^[1-9][0-9]{0,11}$`)
	bit      = regexp.MustCompile(`^[01]$`)
	anyText  = regexp.MustCompile(`^[ -~]+$`)
	// markForm ends in a mark.
	markForm = regexp.MustCompile(`(?s)\A.*writ-id:[0-9a-f]{32}\z`)
)

// check is the last look at a mutation before it leaves the process, by who did
// not make it: it must be exactly of the form of its kind, and about its own
// subject. It is what keeps a mistake elsewhere from making a token live again,
// from giving it a right on another guest, or from lifting a protection.
func (m mutation) check() error {
	if (m.form != nil) != (m.kind == logsIn) {
		return errors.New("it has a body, or lacks one")
	}
	s, path := m.by, guestPath(m.by.node, m.by.guest)
	switch m.kind {
	case acts:
		if s.conduct == nil {
			return errors.New("it is of no class")
		}
		return m.fits(s.conduct.form(s))
	case logsIn:
		if len(m.form) != 2 || !slices.Equal(m.form["username"], []string{s.user}) || len(m.form["password"]) != 1 {
			return errors.New("its body is not that of a login")
		}
		return m.is(http.MethodPost, ticketPath, nil, nil)
	case makesToken:
		return m.ofAttempt(http.MethodPost, s.tokenPath(), params{"comment": anyText, "expire": unixForm, "privsep": literally("1")})
	case grants:
		return m.grantsNoMore()
	case expires:
		return m.ofAttempt(http.MethodPut, s.tokenPath(), params{"expire": literally("1")})
	case removes:
		return m.ofAttempt(http.MethodDelete, s.tokenPath(), nil)
	case marks:
		return m.is(http.MethodPut, path+"/config", params{"digest": digestForm, "description": markForm}, nil)
	case protects:
		return m.is(http.MethodPut, path+"/config", params{"digest": digestForm, "protection": literally("1")}, nil)
	}
	return fmt.Errorf("kind %d is none", m.kind)
}

// params are parameters by name, each with the form of its one value.
type params map[string]*regexp.Regexp

func literally(s string) *regexp.Regexp { return regexp.MustCompile(`\A` + regexp.QuoteMeta(s) + `\z`) }

// ofAttempt is for kinds that concern an attempt's token: no other token may
// ever be touched.
func (m mutation) ofAttempt(method, path string, must params) error {
	if !attemptForm.MatchString(m.by.token) || m.by.user == "" {
		return fmt.Errorf("%q is not the token of an attempt", clip(m.by.fullToken()))
	}
	return m.is(method, path, must, nil)
}

// grantsNoMore is for rights: one of those that the attempt's request needs, and
// nothing else.
func (m mutation) grantsNoMore() error {
	err := errors.New("the attempt needs no rights")
	for _, r := range m.by.rights {
		if err = m.ofAttempt(http.MethodPut, aclPath, params{
			"path": literally(r.object), "propagate": literally("0"), "roles": literally(m.by.roleFor(r.privilege)), "tokens": literally(m.by.fullToken()),
		}); err == nil {
			return nil
		}
	}
	return err
}

// fits compares with what requests of a class may look like.
func (m mutation) fits(f form) error {
	path := f.path
	if f.pathForm != nil {
		if path = m.request.Path; !f.pathForm.MatchString(path) {
			return fmt.Errorf("%s is not of the form %s", clip(path), f.pathForm)
		}
	}
	return m.is(f.method, path, f.must, f.may)
}

// is compares method, path and query: all parameters that must be there, of
// those that may be there any, and no others.
func (m mutation) is(method, path string, must, may params) error {
	if m.request.Method != method || m.request.Path != path {
		return fmt.Errorf("%s %s is not %s %s", clip(m.request.Method), clip(m.request.Path), method, path)
	}
	query, err := url.ParseQuery(m.request.Query)
	if err != nil || query.Encode() != m.request.Query {
		return fmt.Errorf("the query %q is not in its canonical form", clip(m.request.Query))
	}
	for name := range must {
		if !query.Has(name) {
			return fmt.Errorf("the query %q lacks %s", clip(m.request.Query), name)
		}
	}
	for name, values := range query {
		form := must[name]
		if form == nil {
			form = may[name]
		}
		if form == nil || len(values) != 1 || !form.MatchString(values[0]) {
			return fmt.Errorf("the parameter %s of the query %q does not belong there", clip(name), clip(m.request.Query))
		}
	}
	return nil
}
