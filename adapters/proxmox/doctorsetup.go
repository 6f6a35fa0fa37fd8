package proxmox

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"writ/domain/op"
)

// A Setup is what the host must know for a service to have what it needs and no
// more: roles, and to whom they are given on what.
type Setup struct {
	// Reader is the API token, user@realm!name, Launcher the service user; empty
	// without one.
	Reader, Launcher string
	// Roles gives each role's privileges, sorted.
	Roles   map[string][]string
	Entries []AccessEntry
}

// Setup gives the least that the service needs for the classes that a policy
// allows. Names of roles of its own begin with WritLook and WritService.
func (h *Host) Setup(classes map[op.Class]Reach) Setup {
	s := Setup{Reader: h.token, Roles: make(map[string][]string)}
	if h.service != nil {
		s.Launcher = h.service.user
	}
	for role, privilege := range h.AttemptRoles(classes) {
		s.Roles[role] = []string{privilege}
	}
	all := Needs(h.Mode(), classes)
	for _, launch := range []bool{false, true} {
		s.give(launch, slices.DeleteFunc(slices.Clone(all), func(x Need) bool { return x.Launch != launch }))
	}
	return s
}

// A spot is an object, and whether what is given there goes to what is below.
type spot struct {
	object   string
	passedOn bool
}

// give makes a role for each spot on which anything is needed. What is said on an
// object hides what is passed on to it from above, so it is said again.
func (s *Setup) give(launch bool, list []Need) {
	at := make(map[spot]map[string]bool)
	for _, x := range list {
		k := spot{x.Object, x.PassedOn}
		if at[k] == nil {
			at[k] = make(map[string]bool)
		}
		at[k][x.Privilege] = true
	}
	for k, privileges := range at {
		for _, x := range list {
			if x.PassedOn && x.Object != "/" && isBelow(k.object, x.Object) {
				privileges[x.Privilege] = true
			}
		}
	}
	for k, privileges := range at {
		if wide := at[spot{k.object, true}]; !k.passedOn {
			maps.DeleteFunc(privileges, func(p string, _ bool) bool { return wide[p] })
		}
		if len(privileges) == 0 {
			delete(at, k)
		}
	}
	prefix, users := "WritLook", []string{s.Reader}
	if launch {
		prefix, users = "WritService", []string{s.Launcher}
	} else {
		// A token that is separated from its user has no more than both have.
		user, _, _ := strings.Cut(s.Reader, "!")
		users = append(users, user)
	}
	for k, privileges := range at {
		role := prefix + k.suffix()
		s.Roles[role] = slices.Sorted(maps.Keys(privileges))
		for _, who := range users {
			kind := "user"
			if strings.Contains(who, "!") {
				kind = "token"
			}
			s.Entries = append(s.Entries, AccessEntry{Path: k.object, Kind: kind, Who: who, Role: role, Propagate: k.passedOn})
		}
	}
	slices.SortFunc(s.Entries, compareEntries)
}

func compareEntries(x, y AccessEntry) int {
	return slices.Compare([]string{x.Path, x.Role, x.Kind, x.Who}, []string{y.Path, y.Role, y.Kind, y.Who})
}

var areaNames = map[string]string{"vms": "Guests", "storage": "Storages", "pool": "Pools", "sdn": "Networks", "mapping": "Devices"}

// suffix makes a role's name tell where it is given.
func (k spot) suffix() string {
	top, rest, below := strings.Cut(strings.TrimPrefix(k.object, "/"), "/")
	suffix := areaNames[top]
	switch {
	case below:
		suffix += "-" + strings.ReplaceAll(rest, "/", ".")
	case !k.passedOn:
		suffix += "Here"
	}
	return suffix
}

// Commands gives the commands, for a shell of root's on any node, that make the
// host as it should be out of how it is. With nil nothing of it is there yet. The
// same commands a second time are not needed, and some of them refused.
//
// What others have is left alone. What the API token, if it is separated from
// its user, and the service user have on top is taken away; not what they have
// by a group.
func (s Setup) Commands(have *Access) []string {
	if have == nil {
		have = &Access{}
	}
	var out []string
	add := func(format string, args ...any) { out = append(out, fmt.Sprintf(format, args...)) }
	for _, role := range slices.Sorted(maps.Keys(s.Roles)) {
		want := s.Roles[role]
		switch now, there := have.Roles[role]; {
		case !there:
			add("pveum role add %s --privs '%s'", role, strings.Join(want, " "))
		case !slices.Equal(now, want):
			add("pveum role modify %s --privs '%s'", role, strings.Join(want, " "))
		}
	}
	user, name, _ := strings.Cut(s.Reader, "!")
	for _, u := range []string{user, s.Launcher} {
		if _, there := have.Users[u]; u == "" || there {
			continue
		}
		add("pveum user add %s", quote(u))
		if u == s.Launcher {
			add("pveum passwd %s", quote(u))
		}
	}
	t, there := have.Users[user].Tokens[name]
	switch {
	case !there:
		add("pveum user token add %s %s --privsep 1", quote(user), name)
	case !t.Separated:
		add("pveum user token modify %s %s --privsep 1", quote(user), name)
	}
	for _, e := range s.Entries {
		if !slices.Contains(have.ACL, e) {
			add("pveum acl modify %s %s --roles %s --propagate %d", e.Path, e.whom(), e.Role, bit01(e.Propagate))
		}
	}
	for _, e := range slices.SortedFunc(slices.Values(have.ACL), compareEntries) {
		// An entry that is passed on and should not be, or the other way round,
		// is replaced by the command above.
		wanted := slices.ContainsFunc(s.Entries, func(w AccessEntry) bool { w.Propagate = e.Propagate; return w == e })
		if !wanted && (e.Who == s.Launcher || e.Who == s.Reader) && e.Kind != "group" {
			add("pveum acl delete %s %s --roles %s", e.Path, e.whom(), e.Role)
		}
	}
	return out
}

// whom is the entry's user or token, as an argument.
func (e AccessEntry) whom() string { return "--" + e.Kind + "s " + quote(e.Who) }

func bit01(b bool) int {
	if b {
		return 1
	}
	return 0
}

// quote keeps a shell from reading anything into a name.
func quote(s string) string {
	if !strings.ContainsFunc(s, func(r rune) bool {
		return !strings.ContainsRune("@._-", r) && (r < '0' || r > '9') && (r < 'A' || r > 'Z') && (r < 'a' || r > 'z')
	}) {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}
