package pvesim

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

const (
	refusedNoTicket = "No ticket"
	refusedAuth     = "Authentication failed!"
	refusedCSRF     = "Permission denied - invalid csrf token"
)

// authenticate checks the credentials of a request by the user.cfg that node n
// sees and by its clock. A ticket cookie goes before a token. csrf is checked
// only where a request comes from outside.
// (pve-http-server: AnyEvent.pm#authenticate_and_handle_request)
func (s *Sim) authenticate(n *node, req *Request, csrf bool) (auth, refusal string) {
	if ticket := ticketOf(req.Header); ticket != "" {
		userid, ok := s.verifyTicket(n, ticket)
		if !ok {
			return "", refusedAuth
		}
		if csrf && req.Method != http.MethodGet && !s.verifyCSRF(n, userid, req.Header.Get("CSRFPreventionToken")) {
			return "", refusedCSRF
		}
		return userid, ""
	}
	text, ok := tokenText(req.Header)
	if !ok {
		return "", refusedNoTicket
	}
	id, secret, ok := strings.Cut(text, "=")
	t := n.users().token(id)
	if !ok || t == nil || subtle.ConstantTimeCompare([]byte(t.secret), []byte(secret)) != 1 {
		return "", refusedAuth
	}
	userid, _ := splitToken(id)
	now := n.now().Unix()
	if !n.users().users[userid].active(now) || t.expire != 0 && now > t.expire {
		return "", refusedAuth
	}
	return id, ""
}

func (u *user) active(now int64) bool {
	return u != nil && !u.disabled && (u.expire == 0 || now <= u.expire)
}

// tokenText is what follows "PVEAPIToken=" (or a blank), up to a semicolon.
func tokenText(h http.Header) (string, bool) {
	rest, ok := strings.CutPrefix(h.Get("Authorization"), "PVEAPIToken")
	if !ok || rest == "" || rest[0] != '=' && rest[0] != ' ' {
		return "", false
	}
	rest, _, _ = strings.Cut(rest[1:], ";")
	if u, err := url.PathUnescape(rest); err == nil {
		rest = u
	}
	return rest, true
}

func ticketOf(h http.Header) string {
	for _, line := range h.Values("Cookie") {
		cookies, err := http.ParseCookie(line)
		if err != nil {
			continue
		}
		for _, ck := range cookies {
			if ck.Name == "PVEAuthCookie" {
				if t, err := url.PathUnescape(ck.Value); err == nil {
					return t
				}
				return ck.Value
			}
		}
	}
	return ""
}

// claimed is the id a request says it comes from, true or not.
func claimed(h http.Header) string {
	if t := ticketOf(h); t != "" {
		parts := strings.SplitN(t, ":", 3)
		if len(parts) == 3 {
			return parts[1]
		}
		return ""
	}
	text, _ := tokenText(h)
	id, _, _ := strings.Cut(text, "=")
	return id
}

// Ticket logs a user in without a password and returns what a browser would
// hold: the cookie's value and the CSRF token. They are good for two hours.
func (s *Sim) Ticket(userid string) (ticket, csrf string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.newTicket(s.order[0], userid)
}

func (s *Sim) newTicket(n *node, userid string) (ticket, csrf string) {
	at := fmt.Sprintf("%08X", n.now().Unix())
	body := "PVE:" + userid + ":" + at
	return body + "::" + s.sign(body), at + ":" + s.sign("csrf:"+at+":"+userid)
}

func (s *Sim) sign(text string) string {
	h := hmac.New(sha256.New, s.ticket)
	h.Write([]byte(text))
	return base64.RawStdEncoding.EncodeToString(h.Sum(nil))
}

func (s *Sim) verifyTicket(n *node, ticket string) (userid string, ok bool) {
	body, sig, found := strings.Cut(ticket, "::")
	parts := strings.Split(body, ":")
	if !found || len(parts) != 3 || parts[0] != "PVE" || !hmac.Equal([]byte(sig), []byte(s.sign(body))) {
		return "", false
	}
	if !fresh(n, parts[2]) || !n.users().users[parts[1]].active(n.now().Unix()) {
		return "", false
	}
	return parts[1], true
}

func (s *Sim) verifyCSRF(n *node, userid, csrf string) bool {
	at, sig, found := strings.Cut(csrf, ":")
	return found && fresh(n, at) && hmac.Equal([]byte(sig), []byte(s.sign("csrf:"+at+":"+userid)))
}

// fresh allows five minutes of clock difference into the future.
func fresh(n *node, hexTime string) bool {
	t, err := strconv.ParseInt(hexTime, 16, 64)
	age := n.now().Sub(time.Unix(t, 0))
	return err == nil && age < ticketLife && age > -5*time.Minute
}

// grant is a caller's rights while they are being checked.
type grant struct {
	access *access
	auth   string
	vars   map[string]string
	raw    map[string]value
}

// all returns the complaint if any of privs is missing on path.
func (g *grant) all(path string, privs ...string) string {
	for _, p := range privs {
		if held, _ := g.access.has(g.auth, path, p); !held {
			return "Permission check failed (" + path + ", " + p + ")"
		}
	}
	return ""
}

// any returns the complaint if none of privs is held on path.
func (g *grant) any(path string, privs ...string) string {
	for _, p := range privs {
		if held, _ := g.access.has(g.auth, path, p); held {
			return ""
		}
	}
	return "Permission check failed (" + path + ", " + strings.Join(privs, "|") + ")"
}

// onGuest, onNode and onRoot are the common shapes of permission entries.

func onGuest(privs ...string) func(*grant) string {
	return func(g *grant) string { return g.all("/vms/"+g.vars["vmid"], privs...) }
}

func onNode(privs ...string) func(*grant) string {
	return func(g *grant) string { return g.all("/nodes/"+g.vars["node"], privs...) }
}

func onRoot(privs ...string) func(*grant) string {
	return func(g *grant) string { return g.all("/", privs...) }
}

// rights are the caller's at the executing node.
func (c *call) rights() *grant {
	return &grant{access: c.node.users(), auth: c.auth, vars: c.vars, raw: c.raw}
}

func (c *call) can(path, priv string) bool { return c.rights().all(path, priv) == "" }
