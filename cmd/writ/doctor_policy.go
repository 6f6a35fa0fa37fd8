package main

import (
	"errors"
	"maps"
	"slices"
	"strings"
	"time"

	"writ/adapters/proxmox"
	"writ/domain/gate"
	"writ/domain/op"
)

// keysSoon is how long before a key's end doctor warns of it.
const keysSoon = 30 * 24 * time.Hour

// checkPolicy looks at the policy file, and finds out what it allows. It gives
// its findings, which are shown later.
func (dr *doctor) checkPolicy() []finding {
	d := &diagnosis{}
	path := dr.c.Policy.Path
	dr.progress("read the policy")
	file, err := readPolicyFile(path)
	if err == nil {
		_, err = file.compile(1)
	}
	if err != nil {
		remedy := "correct it; a service that runs keeps the policy it has"
		var missing *lineError
		if !errors.As(err, &missing) {
			remedy = "writ policy check " + path
		}
		d.add(stateFail, "policy", remedy, "%v", err)
		return d.Checks
	}
	doc := file.Document
	dr.classes, dr.lifetime = reachOf(doc), longestLifetime(doc)
	if len(dr.classes) == 0 {
		d.add(stateWarn, "policy", "fill in people and roles, see the comments in it", "%s allows nothing", path)
	} else {
		d.ok("policy", "%s allows %s", path, classList(slices.Collect(maps.Keys(dr.classes))))
	}
	now := dr.now()
	for _, name := range slices.Sorted(maps.Keys(doc.People)) {
		for _, k := range doc.People[name].Keys {
			end, err := time.Parse(time.RFC3339, firstEnd(k))
			if keyState(now, k) == "" && err == nil && end.Sub(now) < keysSoon {
				key, _ := parseEnrolled(k)
				d.add(stateWarn, "keys", "enrol a new key of "+name+" before that", "key %s of %s counts only until %s", key.Fingerprint, name, firstEnd(k))
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(doc.Roles)) {
		if able := holdersAble(doc, doc.Roles[name], now); able < doc.Roles[name].Quorum {
			d.add(stateFail, "keys", "enrol keys, or change the role", "role %s takes %d people, and only %d of its holders have a key that counts",
				name, doc.Roles[name].Quorum, able)
		}
	}
	if len(d.Checks) == 1 && len(doc.Roles) > 0 {
		d.ok("keys", "every role can be met, and no key ends within %d days", keysSoon/(24*time.Hour))
	}
	return d.Checks
}

// holdersAble is how many people could sign in a role now.
func holdersAble(doc gate.PolicyDocument, role gate.Role, now time.Time) int {
	able := 0
	for _, person := range role.Holders {
		if slices.ContainsFunc(doc.People[person].Keys, func(k gate.Key) bool {
			touchable := strings.HasPrefix(k.Key, "sk-")
			return keyState(now, k) == "" && (touchable || !role.FIDO.Touch && !role.FIDO.PIN)
		}) {
			able++
		}
	}
	return able
}

// reachOf finds what a policy lets ops of each class act on.
func reachOf(doc gate.PolicyDocument) map[op.Class]proxmox.Reach {
	all := make(map[op.Class]proxmox.Reach)
	add := func(classes []op.Class, on gate.On) {
		for _, c := range classes {
			r := all[c]
			// A storage grants guests, too, wherever they are.
			r.Guests = r.Guests || len(on.VMIDs) > 0 || len(on.Storages) > 0
			r.Pools, r.Storages = union(r.Pools, on.Pools), union(r.Storages, on.Storages)
			all[c] = r
		}
	}
	for _, role := range doc.Roles {
		for _, rule := range role.Allow {
			add(rule.Classes, rule.On)
		}
	}
	for _, rule := range doc.Benign {
		add(rule.Classes, rule.On)
	}
	return all
}

func union(x, y []string) []string {
	all := slices.Concat(x, y)
	slices.Sort(all)
	return slices.Compact(all)
}

func longestLifetime(doc gate.PolicyDocument) time.Duration {
	longest := time.Duration(0)
	for _, role := range doc.Roles {
		if d, err := time.ParseDuration(role.MaxLifetime); err == nil {
			longest = max(longest, d)
		}
	}
	return longest
}

// classList names classes in the order of the documentation.
func classList(classes []op.Class) string {
	var names []string
	for _, c := range op.Classes() {
		if slices.Contains(classes, c) {
			names = append(names, string(c))
		}
	}
	return strings.Join(names, ", ")
}

// forClasses says whom a need concerns.
func forClasses(classes []op.Class) string {
	if len(classes) == 0 {
		return "every class"
	}
	return classList(classes)
}
