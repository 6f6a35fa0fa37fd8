package pvesim

import (
	"maps"
	"slices"
	"strconv"
	"strings"
)

// access is the content of user.cfg and token.cfg: one value for the cluster,
// and a frozen copy of it on every node whose pmxcfs is behind.
type access struct {
	users  map[string]*user
	groups map[string]map[string]bool // members
	roles  map[string]privSet
	acl    map[string]*aclNode // by normalized path
	pools  map[string]*pool
	vmPool map[int]string
	// tokenACL lists the paths on which a token was ever given a role, so that
	// its entries can be dropped with it.
	tokenACL map[string][]string
}

type user struct {
	password string
	disabled bool
	expire   int64
	tokens   map[string]*token
}

type token struct {
	secret  string
	comment string
	expire  int64 // 0: never
	privsep bool
}

// grants maps who to role to whether it propagates.
type grants map[string]map[string]bool

type aclNode struct{ users, groups, tokens grants }

type pool struct {
	comment  string
	storages map[string]bool
	vms      map[int]bool
}

const rootUser = "root@pam"

func newAccess() *access {
	return &access{
		users:  map[string]*user{rootUser: {tokens: map[string]*token{}}},
		groups: map[string]map[string]bool{},
		roles:  builtinRoles(),
		acl:    map[string]*aclNode{},
		pools:  map[string]*pool{},
		vmPool: map[int]string{}, tokenACL: map[string][]string{},
	}
}

// clone copies what writes may change in place.
func (a *access) clone() *access {
	c := &access{
		users: map[string]*user{}, groups: map[string]map[string]bool{}, roles: maps.Clone(a.roles),
		acl: map[string]*aclNode{}, pools: map[string]*pool{}, vmPool: maps.Clone(a.vmPool),
		tokenACL: maps.Clone(a.tokenACL),
	}
	for id, u := range a.users {
		nu := *u
		nu.tokens = map[string]*token{}
		for tid, t := range u.tokens {
			nt := *t
			nu.tokens[tid] = &nt
		}
		c.users[id] = &nu
	}
	for g, m := range a.groups {
		c.groups[g] = maps.Clone(m)
	}
	for p, n := range a.acl {
		c.acl[p] = &aclNode{users: n.users.clone(), groups: n.groups.clone(), tokens: n.tokens.clone()}
	}
	for id, p := range a.pools {
		c.pools[id] = &pool{comment: p.comment, storages: maps.Clone(p.storages), vms: maps.Clone(p.vms)}
	}
	return c
}

func (g grants) clone() grants {
	c := grants{}
	for who, roles := range g {
		c[who] = maps.Clone(roles)
	}
	return c
}

// splitToken cuts "user@realm!token"; tok is empty for a plain user.
func splitToken(auth string) (userid, tok string) {
	userid, tok, _ = strings.Cut(auth, "!")
	return userid, tok
}

func (a *access) token(auth string) *token {
	userid, tok := splitToken(auth)
	if u := a.users[userid]; u != nil && tok != "" {
		return u.tokens[tok]
	}
	return nil
}

// rolesAt gives the roles that auth holds on path by the ACL tree alone, each
// with whether it propagates. A deeper entry replaces what came from above;
// entries of a user hide those of its groups.
// (pve-access-control: PVE::AccessControl::roles)
func (a *access) rolesAt(auth, path string) map[string]bool {
	userid, tok := splitToken(auth)
	if auth == rootUser {
		return map[string]bool{"Administrator": true}
	}
	if tok != "" {
		t := a.token(auth)
		if t == nil {
			return nil
		}
		if !t.privsep {
			return a.rolesAt(userid, path)
		}
	}
	var roles map[string]bool
	walk(path, func(at string, final bool) {
		n := a.acl[at]
		if n == nil {
			return
		}
		if tok != "" {
			if r := effective(n.tokens[auth], final); r != nil {
				roles = r
			}
			return
		}
		if r := effective(n.users[auth], final); r != nil {
			roles = r
			return
		}
		var merged map[string]bool
		for g, granted := range n.groups {
			if !a.groups[g][auth] {
				continue
			}
			for role, propagate := range effective(granted, final) {
				if merged == nil {
					merged = map[string]bool{}
				}
				merged[role] = propagate
			}
		}
		if merged != nil {
			roles = merged
		}
	})
	if p, denied := roles["NoAccess"]; denied {
		return map[string]bool{"NoAccess": p}
	}
	return roles
}

// walk calls f for "/", and for each deeper prefix of path.
func walk(path string, f func(at string, final bool)) {
	f("/", path == "/")
	if path == "/" {
		return
	}
	for i := 1; i <= len(path); i++ {
		if i == len(path) || path[i] == '/' {
			f(path[:i], i == len(path))
		}
	}
}

func effective(granted map[string]bool, final bool) map[string]bool {
	var out map[string]bool
	for role, propagate := range granted {
		if final || propagate {
			if out == nil {
				out = map[string]bool{}
			}
			out[role] = propagate
		}
	}
	return out
}

// withPools adds what the pools that path belongs to give; it never propagates.
func (a *access) withPools(auth, path string) map[string]bool {
	roles := a.rolesAt(auth, path)
	if _, denied := roles["NoAccess"]; denied {
		return roles
	}
	for _, p := range a.poolsOf(path) {
		pr := a.rolesAt(auth, "/pool/"+p)
		if _, denied := pr["NoAccess"]; denied {
			return map[string]bool{"NoAccess": false}
		}
		for role := range pr {
			if _, have := roles[role]; !have {
				roles = maps.Clone(roles)
				if roles == nil {
					roles = map[string]bool{}
				}
				roles[role] = false
			}
		}
	}
	return roles
}

func (a *access) poolsOf(path string) []string {
	if id, ok := strings.CutPrefix(path, "/vms/"); ok {
		if vmid, err := strconv.Atoi(id); err == nil && a.vmPool[vmid] != "" {
			return []string{a.vmPool[vmid]}
		}
		return nil
	}
	var out []string
	if id, ok := strings.CutPrefix(path, "/storage/"); ok {
		for name, p := range a.pools {
			if p.storages[id] {
				out = append(out, name)
			}
		}
	}
	return out
}

// has reports whether auth holds priv on path, and whether it propagates from
// there. A privilege-separated token needs its user to hold it too.
func (a *access) has(auth, path, priv string) (held, propagate bool) {
	if auth == rootUser {
		return true, true
	}
	for role, p := range a.withPools(auth, path) {
		if a.roles[role][priv] {
			held, propagate = true, propagate || p
		}
	}
	if !held {
		return false, false
	}
	if t := a.token(auth); t != nil && t.privsep {
		userid, _ := splitToken(auth)
		uh, up := a.has(userid, path, priv)
		return uh, propagate && up
	}
	return true, propagate
}

// privs lists all privileges of auth on path, with 1 for those that propagate.
func (a *access) privs(auth, path string) map[string]any {
	out := map[string]any{}
	for priv := range a.roles["Administrator"] {
		if held, propagate := a.has(auth, path, priv); held {
			out[priv] = flag(propagate)
		}
	}
	return out
}

// dropGuest removes what PVE::AccessControl::remove_vm_access removes.
func (a *access) dropGuest(vmid int) {
	delete(a.acl, "/vms/"+itoa(vmid))
	if p := a.pools[a.vmPool[vmid]]; p != nil {
		delete(p.vms, vmid)
	}
	delete(a.vmPool, vmid)
}

// dropToken removes a token and its ACL entries: a later token of the same
// name starts without any.
func (a *access) dropToken(userid, name string) {
	delete(a.users[userid].tokens, name)
	id := userid + "!" + name
	for _, path := range a.tokenACL[id] {
		if n := a.acl[path]; n != nil {
			delete(n.tokens, id)
		}
	}
	delete(a.tokenACL, id)
}

func (a *access) node(path string) *aclNode {
	n := a.acl[path]
	if n == nil {
		n = &aclNode{users: grants{}, groups: grants{}, tokens: grants{}}
		a.acl[path] = n
	}
	return n
}

func (g grants) set(who, role string, propagate bool) {
	if g[who] == nil {
		g[who] = map[string]bool{}
	}
	g[who][role] = propagate
}

// normalizeACLPath folds repeated and trailing slashes; "" means not a path.
func normalizeACLPath(p string) string {
	if !strings.HasPrefix(p, "/") {
		return ""
	}
	parts := slices.DeleteFunc(strings.Split(p, "/"), func(s string) bool { return s == "" })
	return "/" + strings.Join(parts, "/")
}

func flag(b bool) int {
	if b {
		return 1
	}
	return 0
}

func itoa(n int) string { return strconv.Itoa(n) }
