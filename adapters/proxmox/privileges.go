package proxmox

import (
	"iter"
	"maps"
	"slices"
	"strings"
)

// An Access is who may do what on a cluster, as its users, groups, roles and
// access control list say. Its methods compute what the host computes, and from
// where it comes, which the host does not tell (pve-access-control
// AccessControl.pm#roles, RPCEnvironment.pm#permissions). Nothing is asked of
// anybody. It must not be changed after the first call of a method, nor used by
// two goroutines at a time.
type Access struct {
	Users map[string]AccessUser
	// Roles gives each role's privileges.
	Roles map[string][]string
	ACL   []AccessEntry
	// Pools gives each pool's members as objects, /vms/105 or /storage/local.
	Pools map[string][]string

	byPath   map[string][]AccessEntry // of ACL
	memberOf map[string][]string      // pools by member
	// known keeps what was computed for the last two who were asked about, a token
	// and its user: each of them is asked about once for every kind of power.
	known map[string]map[string]map[string]Held
}

// An AccessUser is a user of the cluster.
type AccessUser struct {
	Enabled bool
	Expire  int64 // UNIX seconds from which on it is refused; 0 is never
	Groups  []string
	Tokens  map[string]AccessToken // by name, without the user
}

// An AccessToken is an API token of a user.
type AccessToken struct {
	// Separated tokens have what both they and their user are given; the
	// others all that their user has.
	Separated bool
	Expire    int64
	Comment   string
}

// An AccessEntry is one line of the access control list.
type AccessEntry struct {
	Path      string
	Kind      string // user, group or token
	Who       string
	Role      string
	Propagate bool // to what is below the path, too
}

// A Grant is where a privilege comes from.
type Grant struct {
	Path  string `json:"path"`            // of the entry in the access control list
	Role  string `json:"role"`            // that it gives
	Group string `json:"group,omitempty"` // by which it is given; empty for an entry of the user or token itself
}

// A Held is a privilege that somebody has on an object.
type Held struct {
	PassedOn bool    // to what is below the object, too
	By       []Grant // sorted; several if several roles hold it
}

// superuser may do everything. A token of it is not it.
const (
	superuser     = "root@pam"
	administrator = "Administrator"
	noAccess      = "NoAccess"
)

// Privileges gives what a user or token may do on an object, which need not
// exist: /vms/* is a guest for which nothing is said. That a user is disabled or
// expired takes nothing away here. The answer must not be changed.
func (a *Access) Privileges(who, object string) map[string]Held {
	if held, ok := a.known[who][object]; ok {
		return held
	}
	held := a.compute(who, object)
	if a.known[who] == nil {
		if a.known == nil || len(a.known) > 1 {
			a.known = make(map[string]map[string]map[string]Held)
		}
		a.known[who] = make(map[string]map[string]Held)
	}
	a.known[who][object] = held
	return held
}

func (a *Access) compute(who, object string) map[string]Held {
	if who == superuser {
		all := make(map[string]Held)
		for _, p := range a.Roles[administrator] {
			all[p] = Held{PassedOn: true, By: []Grant{{Path: "/", Role: administrator}}}
		}
		return all
	}
	user, name, isToken := strings.Cut(who, "!")
	if isToken {
		t, ok := a.Users[user].Tokens[name]
		if !ok {
			return nil
		}
		if !t.Separated {
			return a.Privileges(user, object)
		}
	}
	held := make(map[string]Held)
	for _, r := range a.roles(who, object) {
		for _, p := range a.Roles[r.by.Role] {
			h := held[p]
			h.PassedOn = h.PassedOn || r.passedOn
			if !slices.Contains(h.By, r.by) {
				h.By = append(h.By, r.by)
			}
			held[p] = h
		}
	}
	// The host does not compare a token of root@pam with its user.
	if isToken && user != superuser {
		owner := a.Privileges(user, object)
		for p, h := range held {
			o, ok := owner[p]
			if !ok {
				delete(held, p)
				continue
			}
			h.PassedOn = h.PassedOn && o.PassedOn
			held[p] = h
		}
	}
	return held
}

// A givenRole is a role that somebody has on an object.
type givenRole struct {
	by       Grant
	passedOn bool
}

// roles are those by the access control list, and those that the pools add of
// which the object is a member. What a pool adds goes no further, and neither
// side's NoAccess is made up for by the other.
func (a *Access) roles(who, object string) []givenRole {
	own := a.listed(who, object)
	if denied(own) {
		return own
	}
	a.index()
	var added []givenRole
	for _, pool := range a.memberOf[object] {
		for _, r := range a.listed(who, "/pool/"+pool) {
			r.passedOn = false
			added = append(added, r)
		}
	}
	if denied(added) {
		return nil
	}
	for _, r := range added {
		// Of a role that both give the object's own entry counts.
		if !slices.ContainsFunc(own, func(o givenRole) bool { return o.by.Role == r.by.Role }) {
			own = append(own, r)
		}
	}
	sortRoles(own)
	return slices.CompactFunc(own, func(x, y givenRole) bool { return x.by == y.by })
}

func denied(roles []givenRole) bool {
	return slices.ContainsFunc(roles, func(r givenRole) bool { return r.by.Role == noAccess })
}

// listed walks from the root down to the object. Whatever entries for whom it is
// about count at a place replace all that came from above; entries of a user
// replace those of its groups there. Entries that are not passed on count at the
// end of the walk alone.
func (a *Access) listed(who, object string) []givenRole {
	a.index()
	own := "user"
	if strings.Contains(who, "!") {
		own = "token"
	}
	var roles []givenRole
	for at, last := range places(object) {
		var direct, grouped []givenRole
		for _, e := range a.byPath[at] {
			if !last && !e.Propagate {
				continue
			}
			r := givenRole{by: Grant{Path: at, Role: e.Role}, passedOn: e.Propagate}
			switch {
			case e.Kind == own && e.Who == who:
				direct = append(direct, r)
			case e.Kind == "group" && own == "user" && slices.Contains(a.Users[who].Groups, e.Who):
				r.by.Group = e.Who
				grouped = append(grouped, r)
			}
		}
		switch {
		case len(direct) > 0:
			roles = direct
		case len(grouped) > 0:
			roles = grouped
		}
	}
	if denied(roles) {
		return slices.DeleteFunc(slices.Clone(roles), func(r givenRole) bool { return r.by.Role != noAccess })
	}
	roles = slices.Clone(roles)
	sortRoles(roles)
	return roles
}

func sortRoles(roles []givenRole) {
	slices.SortFunc(roles, func(x, y givenRole) int { return compareGrants(x.by, y.by) })
}

func compareGrants(x, y Grant) int {
	for _, c := range []int{strings.Compare(x.Path, y.Path), strings.Compare(x.Role, y.Role), strings.Compare(x.Group, y.Group)} {
		if c != 0 {
			return c
		}
	}
	return 0
}

// places gives the root and each prefix of a path, and which is the path itself.
func places(path string) iter.Seq2[string, bool] {
	return func(yield func(string, bool) bool) {
		if !yield("/", path == "/") || path == "/" {
			return
		}
		for i := 1; i <= len(path); i++ {
			if i == len(path) || path[i] == '/' {
				if !yield(path[:i], i == len(path)) {
					return
				}
			}
		}
	}
}

func (a *Access) index() {
	if a.byPath != nil {
		return
	}
	a.byPath, a.memberOf = make(map[string][]AccessEntry), make(map[string][]string)
	for _, e := range a.ACL {
		a.byPath[e.Path] = append(a.byPath[e.Path], e)
	}
	for _, pool := range slices.Sorted(maps.Keys(a.Pools)) {
		for _, member := range a.Pools[pool] {
			a.memberOf[member] = append(a.memberOf[member], pool)
		}
	}
}

// objects are all of which something is said: by an entry of their own or by a
// pool.
func (a *Access) objects() []string {
	a.index()
	all := slices.Concat(slices.Collect(maps.Keys(a.byPath)), slices.Collect(maps.Keys(a.memberOf)))
	slices.Sort(all)
	return slices.Compact(all)
}
