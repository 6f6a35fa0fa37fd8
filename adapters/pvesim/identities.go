package pvesim

import (
	"fmt"
	"strings"
)

// AddUser makes or replaces a user such as "svc@pve". An empty password refuses
// every login. Tokens of a replaced user are lost.
func (s *Sim) AddUser(userid, password string, groups ...string) {
	s.do(func() {
		s.access.users[userid] = &user{password: password, tokens: map[string]*token{}}
		for _, g := range groups {
			if s.access.groups[g] == nil {
				s.access.groups[g] = map[string]bool{}
			}
			s.access.groups[g][userid] = true
		}
	})
}

// SetPassword changes the password of a user; an empty one refuses every login. It
// reports whether there is such a user: root@pam, who has none at first, always is.
func (s *Sim) SetPassword(userid, password string) (found bool) {
	s.do(func() {
		u := s.access.users[userid]
		if found = u != nil; found {
			u.password = password
		}
	})
	return found
}

// DisableUser turns a user and all its tokens off or on again.
func (s *Sim) DisableUser(userid string, disabled bool) {
	s.do(func() {
		if u := s.access.users[userid]; u != nil {
			u.disabled = disabled
		}
	})
}

// ExpireUser sets until when a user and all its tokens are taken, in seconds
// since 1970; zero is for ever.
func (s *Sim) ExpireUser(userid string, expire int64) {
	s.do(func() {
		if u := s.access.users[userid]; u != nil {
			u.expire = expire
		}
	})
}

// AddRole defines a role by its privileges.
func (s *Sim) AddRole(name string, privs ...string) {
	s.do(func() { s.access.roles[name] = privsOf(privs) })
}

// Token describes an API token. Expire is in seconds since 1970 by the clock
// of each node that checks it; zero is never.
type Token struct {
	Secret  string
	Comment string
	Expire  int64
	Privsep bool
}

// AddToken makes a token, "user@realm!name", and returns its secret: the given
// one, or a new one if that is empty. It fails if there is no such user.
func (s *Sim) AddToken(id string, t Token) (secret string, err error) {
	s.do(func() {
		userid, name := splitToken(id)
		u := s.access.users[userid]
		if u == nil || name == "" {
			err = fmt.Errorf("add token %s: no such user", id)
			return
		}
		if t.Secret == "" {
			t.Secret = s.uuid()
		}
		secret = t.Secret
		u.tokens[name] = &token{secret: t.Secret, comment: t.Comment, expire: t.Expire, privsep: t.Privsep}
	})
	return secret, err
}

// ExpireToken sets until when a token is taken, in seconds since 1970; zero is
// for ever, one is as good as revoked. It reports whether there is such a token.
func (s *Sim) ExpireToken(id string, expire int64) (found bool) {
	s.do(func() {
		if t := s.access.token(id); t != nil {
			found = true
			t.expire = expire
		}
	})
	return found
}

// Grant gives role on path to a user, a token ("user@realm!name") or a group
// ("@name"), bypassing all checks.
func (s *Sim) Grant(path, who, role string, propagate bool) {
	s.do(func() { s.access.grant(path, who, role, propagate) })
}

func (a *access) grant(path, who, role string, propagate bool) {
	path = normalizeACLPath(path)
	n := a.node(path)
	if g, ok := strings.CutPrefix(who, "@"); ok {
		n.groups.set(g, role, propagate)
		return
	}
	if _, tok := splitToken(who); tok != "" {
		n.tokens.set(who, role, propagate)
		a.tokenACL[who] = append(a.tokenACL[who], path)
		return
	}
	n.users.set(who, role, propagate)
}

// Revoke takes all roles of who on path away.
func (s *Sim) Revoke(path, who string) {
	s.do(func() {
		n := s.access.node(normalizeACLPath(path))
		delete(n.users, who)
		delete(n.tokens, who)
		delete(n.groups, strings.TrimPrefix(who, "@"))
	})
}

// AddPool makes a pool with the given storages as members.
func (s *Sim) AddPool(id, comment string, storages ...string) {
	s.do(func() {
		p := &pool{comment: comment, storages: map[string]bool{}, vms: map[int]bool{}}
		for _, st := range storages {
			p.storages[st] = true
		}
		s.access.pools[id] = p
	})
}

// SetPool moves a guest into a pool, or out of any with an empty id. The guest
// need not exist, as in a real pool after a purge by hand.
func (s *Sim) SetPool(vmid int, id string) {
	s.do(func() { s.access.setPool(vmid, id) })
}

func (a *access) setPool(vmid int, id string) {
	if p := a.pools[a.vmPool[vmid]]; p != nil {
		delete(p.vms, vmid)
	}
	delete(a.vmPool, vmid)
	if p := a.pools[id]; p != nil {
		p.vms[vmid] = true
		a.vmPool[vmid] = id
	}
}
