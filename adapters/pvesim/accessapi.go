package pvesim

import (
	"crypto/subtle"
	"maps"
	"slices"
	"strings"
)

// login is POST /access/ticket. A refusal takes three seconds in all and, unlike
// the other 401s, has a JSON body.
func login(c *call) {
	userid := c.params["username"]
	if !strings.Contains(userid, "@") && c.has("realm") {
		userid += "@" + c.params["realm"]
	}
	u := c.node.users().users[userid]
	given := c.params["password"]
	ok := u != nil && u.password != "" && subtle.ConstantTimeCompare([]byte(u.password), []byte(given)) == 1
	if !ok {
		// A ticket serves as password, to get a newer one.
		owner, valid := c.s.verifyTicket(c.node, given)
		ok = valid && owner == userid
	}
	if !ok || !u.active(c.node.now().Unix()) {
		c.s.after(c.s.authDelay, func() { c.failStatus(401, "authentication failure") })
		return
	}
	ticket, csrf := c.s.newTicket(c.node, userid)
	c.ok(map[string]any{"username": userid, "ticket": ticket, "CSRFPreventionToken": csrf, "clustername": c.s.cluster, "cap": c.node.users().caps(userid)})
}

// caps is the summary of rights that the web interface wants.
func (a *access) caps(userid string) map[string]any {
	out := map[string]any{}
	for area, spec := range map[string]struct{ path, prefix string }{
		"vms": {"/vms", "VM."}, "storage": {"/storage", "Datastore."}, "access": {"/access", "User."}, "nodes": {"/nodes", "Sys."},
		"sdn": {"/sdn", "SDN."}, "mapping": {"/mapping", "Mapping."}, "dc": {"/", "Sys."},
	} {
		caps := map[string]any{}
		for priv := range a.privs(userid, spec.path) {
			if strings.HasPrefix(priv, spec.prefix) || priv == "Permissions.Modify" && area != "dc" || priv == "Group.Allocate" && area == "access" {
				caps[priv] = 1
			}
		}
		out[area] = caps
	}
	return out
}

func listDomains(c *call) {
	c.ok([]map[string]any{
		{"realm": "pam", "type": "pam", "comment": "Linux PAM standard authentication"},
		{"realm": "pve", "type": "pve", "comment": "Proxmox VE authentication server"},
	})
}

// permissions shows what an id may do, by path. Anybody may ask about itself
// and a user about its tokens.
func permissions(c *call) {
	a, who := c.node.users(), c.auth
	if c.has("userid") {
		who = c.params["userid"]
		userid, _ := splitToken(who)
		if who != c.auth && userid != c.auth {
			if text := c.rights().all("/access", "Sys.Audit"); text != "" {
				c.forbid(text)
				return
			}
		}
	}
	out := map[string]any{}
	if c.has("path") {
		p := normalizeACLPath(c.params["path"])
		if privs := a.privs(who, p); len(privs) > 0 {
			out[p] = privs
		}
		c.ok(out)
		return
	}
	paths := setOf("/", "/access", "/access/groups", "/nodes", "/pool", "/sdn", "/storage", "/vms", "/mapping")
	for p := range a.acl {
		paths[p] = true
	}
	for id, p := range a.pools {
		if len(a.withPools(who, "/pool/"+id)) == 0 {
			continue
		}
		paths["/pool/"+id] = true
		for vmid := range p.vms {
			paths["/vms/"+itoa(vmid)] = true
		}
		for st := range p.storages {
			paths["/storage/"+st] = true
		}
	}
	for p := range paths {
		if privs := a.privs(who, p); len(privs) > 0 {
			out[p] = privs
		}
	}
	c.ok(out)
}

// listACL shows the entries of the paths that the caller could change.
func listACL(c *call) {
	a, out := c.node.users(), []map[string]any{}
	all := c.can("/access", "Sys.Audit")
	for _, path := range slices.Sorted(maps.Keys(a.acl)) {
		if !all && c.rights().any(path, modifiers(path)...) != "" {
			continue
		}
		n := a.acl[path]
		for i, g := range []grants{n.users, n.groups, n.tokens} {
			kind := []string{"user", "group", "token"}[i]
			for _, who := range slices.Sorted(maps.Keys(g)) {
				if kind == "token" && a.token(who) == nil {
					continue // left over from a deleted token
				}
				for _, role := range slices.Sorted(maps.Keys(g[who])) {
					out = append(out, map[string]any{"path": path, "type": kind, "ugid": who, "roleid": role, "propagate": flag(g[who][role])})
				}
			}
		}
	}
	c.ok(out)
}

// modifiers are the privileges any one of which allows changing the ACL of path.
func modifiers(path string) []string {
	privs := []string{"Permissions.Modify"}
	for prefix, p := range map[string]string{"/storage/": "Datastore.Allocate", "/vms/": "VM.Allocate", "/pool/": "Pool.Allocate"} {
		if rest, ok := strings.CutPrefix(path, prefix); ok && rest != "" {
			privs = append(privs, p)
		}
	}
	return privs
}

func mayModifyACL(g *grant) string {
	path := normalizeACLPath(g.raw["path"].text)
	if path == "" {
		return ""
	}
	return g.any(path, modifiers(path)...)
}

// updateACL is PUT /access/acl.
func updateACL(c *call) {
	path := normalizeACLPath(c.params["path"])
	if path == "" {
		c.failParam("path", "invalid ACL path '"+c.params["path"]+"'")
		return
	}
	if !c.has("users") && !c.has("groups") && !c.has("tokens") {
		const text = "either 'users', 'groups' or 'tokens' is required."
		c.failParams(map[string]string{"users": text, "groups": text, "tokens": text})
		return
	}
	text := ""
	c.s.withUserConfig(c.node, func() { text = c.writeACL(path) }, func(lockErr string) {
		if text = text + lockErr; text != "" {
			c.fail("ACL update failed: " + text)
			return
		}
		c.ok(nil)
	})
}

func (c *call) writeACL(path string) string {
	a := c.s.access
	propagate := c.params["propagate"] != "0"
	roles := splitList(c.params["roles"])
	for _, role := range roles {
		if a.roles[role] == nil {
			return "role '" + role + "' does not exist"
		}
		if text := c.mayHandOut(path, role, propagate); text != "" {
			// An exception of parameters, turned into text by the lock around it.
			return "400 Parameter verification failed.\nrole: " + text
		}
	}
	if text := c.subjectsExist(); text != "" {
		return text
	}
	n := a.node(path)
	for _, role := range roles {
		for kind, g := range map[string]grants{"users": n.users, "groups": n.groups, "tokens": n.tokens} {
			for _, who := range splitList(c.params[kind]) {
				switch {
				case c.on("delete"):
					delete(g[who], role)
					if len(g[who]) == 0 {
						delete(g, who)
					}
				case kind == "groups":
					g.set(who, role, propagate)
				default:
					a.grant(path, who, role, propagate)
				}
			}
		}
	}
	return ""
}

func (c *call) subjectsExist() string {
	a := c.s.access
	for _, g := range splitList(c.params["groups"]) {
		if a.groups[g] == nil {
			return "no such group '" + g + "'"
		}
	}
	for _, u := range splitList(c.params["users"]) {
		if a.users[u] == nil {
			return "no such user ('" + u + "')"
		}
	}
	for _, id := range splitList(c.params["tokens"]) {
		if a.token(id) == nil {
			userid, tok := splitToken(id)
			return "no such token '" + tok + "' for user '" + userid + "'"
		}
	}
	return ""
}

// mayHandOut is the rule for those without Permissions.Modify: only a subset of
// what they hold themselves, and propagated only as far as theirs.
func (c *call) mayHandOut(path, role string, propagate bool) string {
	a := c.s.access
	if held, _ := a.has(c.auth, path, "Permissions.Modify"); held {
		return ""
	}
	verb := "add"
	if c.on("delete") {
		verb = "remove"
	}
	for _, priv := range slices.Sorted(maps.Keys(a.roles[role])) {
		held, wide := a.has(c.auth, path, priv)
		if !held {
			return "Cannot " + verb + " role '" + role + "' - requires 'Permissions.Modify' or superset of privileges."
		}
		if propagate && !wide && !c.on("delete") {
			return "Cannot " + verb + " role '" + role + "' with propagation - requires 'Permissions.Modify' or propagated superset of privileges."
		}
	}
	return ""
}
