package pvesim

import (
	"maps"
	"slices"
)

// mayManageTokens: the user itself, by ticket, or whoever has User.Modify on a
// group of that user. "Itself" is exact: no token of the user counts.
func mayManageTokens(g *grant) string {
	userid := g.vars["userid"]
	if g.auth == userid {
		return ""
	}
	for group, members := range g.access.groups {
		if members[userid] && g.all("/access/groups/"+group, "User.Modify") == "" {
			return ""
		}
	}
	if g.all("/access/groups", "User.Modify") == "" {
		return ""
	}
	return "Permission check failed"
}

// info is a token as GET shows it: numbers are numbers.
func (t *token) info() map[string]any {
	m := map[string]any{"expire": t.expire, "privsep": flag(t.privsep)}
	if t.comment != "" {
		m["comment"] = t.comment
	}
	return m
}

// echo is a token as POST and PUT show it: what was a parameter just now comes
// back as the string it was.
func (t *token) echo(c *call) map[string]any {
	m := t.info()
	if t.expire == 0 && !c.has("expire") {
		delete(m, "expire")
	}
	for _, k := range []string{"expire", "privsep"} {
		if c.has(k) {
			m[k] = c.params[k]
		}
	}
	return m
}

// theUser finds the owner of the path's token, or answers.
func (c *call) theUser(a *access) *user {
	u := a.users[c.params["userid"]]
	if u == nil {
		c.fail("no such user ('" + c.params["userid"] + "')")
	}
	return u
}

func (c *call) noToken() string {
	return "no such token '" + c.params["tokenid"] + "' for user '" + c.params["userid"] + "'"
}

func listTokens(c *call) {
	u := c.theUser(c.node.users())
	if u == nil {
		return
	}
	out := []map[string]any{}
	for _, name := range slices.Sorted(maps.Keys(u.tokens)) {
		m := u.tokens[name].info()
		m["tokenid"] = name
		out = append(out, m)
	}
	c.ok(out)
}

func readToken(c *call) {
	u := c.theUser(c.node.users())
	if u == nil {
		return
	}
	t := u.tokens[c.params["tokenid"]]
	if t == nil {
		c.fail(c.noToken())
		return
	}
	c.ok(t.info())
}

// createToken makes a token if there is none of that name. Seen in advance, a
// taken name is 400; found taken only under the lock, it is 500.
func createToken(c *call) {
	u := c.theUser(c.node.users())
	if u == nil {
		return
	}
	name := c.params["tokenid"]
	if u.tokens[name] != nil {
		c.failParam("tokenid", "Token already exists.")
		return
	}
	full := c.params["userid"] + "!" + name
	text := ""
	var t *token
	c.s.withUserConfig(c.node, func() {
		owner := c.s.access.users[c.params["userid"]]
		switch {
		case owner == nil:
			text = "no such user ('" + c.params["userid"] + "')"
		case owner.tokens[name] != nil:
			text = "Token already exists."
		default:
			t = &token{secret: c.s.uuid(), comment: c.params["comment"], privsep: c.params["privsep"] != "0", expire: int64(c.int("expire", 0))}
			owner.tokens[name] = t
		}
	}, func(lockErr string) {
		if text += lockErr; text != "" {
			c.fail("generating token failed: " + text)
			return
		}
		c.ok(map[string]any{"full-tokenid": full, "info": t.echo(c), "value": t.secret})
	})
}

// updateToken changes what is given and nothing else.
func updateToken(c *call) {
	c.changeToken("updating token info failed: ", func(t *token) any {
		if c.has("comment") {
			t.comment = c.params["comment"]
		}
		if c.has("expire") {
			t.expire = int64(c.int("expire", 0))
		}
		if c.has("privsep") {
			t.privsep = c.on("privsep")
		}
		for _, k := range splitList(c.params["delete"]) {
			switch k {
			case "comment":
				t.comment = ""
			case "expire":
				t.expire = 0
			case "privsep":
				t.privsep = true
			}
		}
		out := t.echo(c)
		if c.on("regenerate") {
			t.secret = c.s.uuid()
			out["value"] = t.secret
			out["full-tokenid"] = c.params["userid"] + "!" + c.params["tokenid"]
		}
		return out
	})
}

func deleteToken(c *call) {
	c.changeToken("deleting token failed: ", func(*token) any {
		c.s.access.dropToken(c.params["userid"], c.params["tokenid"])
		return nil
	})
}

// changeToken runs one write on an existing token. A missing one is reported
// without the prefix that failures under the lock get.
func (c *call) changeToken(prefix string, write func(*token) any) {
	u := c.theUser(c.node.users())
	if u == nil {
		return
	}
	if u.tokens[c.params["tokenid"]] == nil {
		c.fail(c.noToken())
		return
	}
	var out any
	text := ""
	c.s.withUserConfig(c.node, func() {
		t := c.s.access.token(c.params["userid"] + "!" + c.params["tokenid"])
		if t == nil {
			text = c.noToken()
			return
		}
		out = write(t)
	}, func(lockErr string) {
		if text += lockErr; text != "" {
			c.fail(prefix + text)
			return
		}
		c.ok(out)
	})
}
