package pvesim

import (
	"maps"
	"slices"
	"strings"
)

// accessReads are the calls that show users, groups and roles.
func accessReads() []method {
	return []method{
		get("/access/users", method{protected: true, params: map[string]param{"enabled": boolean, "full": boolean}, handle: listUsers}),
		get("/access/users/{userid}", method{perm: mayLookAtUser, handle: readUser}),
		get("/access/groups", method{handle: listGroups}),
		get("/access/roles", method{handle: listRoles}),
	}
}

// seesUser tells whether the caller may look at a user: by a right over all
// groups, or over one that the user is in.
// (pve-access-control: API2/User.pm#index)
func (g *grant) seesUser(userid string) bool {
	if g.any("/access/groups", "User.Modify", "Sys.Audit") == "" {
		return true
	}
	for group, members := range g.access.groups {
		if members[userid] && g.any("/access/groups/"+group, "User.Modify", "Sys.Audit") == "" {
			return true
		}
	}
	return false
}

func mayLookAtUser(g *grant) string {
	if g.seesUser(g.vars["userid"]) {
		return ""
	}
	return "Permission check failed"
}

// listUsers leaves out, silently, whom the caller may not see. It always shows
// the caller, but a token is not its user.
func listUsers(c *call) {
	a, out := c.node.users(), []map[string]any{}
	for _, id := range slices.Sorted(maps.Keys(a.users)) {
		u := a.users[id]
		if id != c.auth && !c.rights().seesUser(id) || c.has("enabled") && c.on("enabled") == u.disabled {
			continue
		}
		_, realm, _ := strings.Cut(id, "@")
		m := map[string]any{"userid": id, "enable": flag(!u.disabled), "expire": u.expire, "realm-type": realm}
		if c.on("full") {
			m["groups"], m["tokens"] = strings.Join(a.groupsOf(id), ","), u.tokenRows()
		}
		out = append(out, m)
	}
	c.ok(out)
}

func readUser(c *call) {
	a := c.node.users()
	u := c.theUser(a)
	if u == nil {
		return
	}
	tokens := map[string]any{}
	for name, t := range u.tokens {
		tokens[name] = t.info()
	}
	c.ok(map[string]any{"enable": flag(!u.disabled), "expire": u.expire, "groups": a.groupsOf(c.params["userid"]), "tokens": tokens})
}

func (a *access) groupsOf(userid string) []string {
	in := []string{}
	for _, group := range slices.Sorted(maps.Keys(a.groups)) {
		if a.groups[group][userid] {
			in = append(in, group)
		}
	}
	return in
}

// tokenRows is null where there are none.
func (u *user) tokenRows() []map[string]any {
	var rows []map[string]any
	for _, name := range slices.Sorted(maps.Keys(u.tokens)) {
		m := u.tokens[name].info()
		m["tokenid"] = name
		rows = append(rows, m)
	}
	return rows
}

func listGroups(c *call) {
	a, out := c.node.users(), []map[string]any{}
	for _, group := range slices.Sorted(maps.Keys(a.groups)) {
		if c.rights().any("/access/groups/"+group, "User.Modify", "Sys.Audit", "Group.Allocate") == "" {
			out = append(out, map[string]any{"groupid": group, "users": strings.Join(slices.Sorted(maps.Keys(a.groups[group])), ",")})
		}
	}
	c.ok(out)
}

// listRoles shows all of them to everybody.
func listRoles(c *call) {
	a, out := c.node.users(), []map[string]any{}
	special := builtinRoles()
	for _, id := range slices.Sorted(maps.Keys(a.roles)) {
		out = append(out, map[string]any{
			"roleid": id, "privs": strings.Join(slices.Sorted(maps.Keys(a.roles[id])), ","), "special": flag(special[id] != nil),
		})
	}
	c.ok(out)
}
