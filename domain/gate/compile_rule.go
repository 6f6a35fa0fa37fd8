package gate

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"writ/domain/op"
	"writ/domain/signedop"
)

// rule checks one rule of a role.
func (c *compiler) rule(path string, said Rule) scope {
	return c.scope(path, said, func(class op.Class) string {
		if class.Benign() {
			return "is benign: roles allow only classes that are ordered by a signed writ; see benign"
		}
		return ""
	})
}

// benignRule checks one rule of the section benign.
func (c *compiler) benignRule(path string, said BenignRule) benignRule {
	var r benignRule
	if len(said.Callers) == 0 {
		c.problem(path+".callers", "empty: name at least one API token")
	} else {
		r.callers = c.labels(path+".callers", said.Callers, checkCaller)
	}
	r.scope = c.scope(path, Rule{Classes: said.Classes, On: said.On, Only: said.Only}, func(class op.Class) string {
		if !class.Benign() {
			return "is ordered by a signed writ and allowed by roles, never by who submits it"
		}
		return ""
	})
	return r
}

// scope checks the classes and targets of a rule; misplaced tells why a class
// has no place in it. A list that is given but empty is refused even where
// leaving it out is allowed: the two would read alike and mean the opposite.
func (c *compiler) scope(path string, said Rule, misplaced func(op.Class) string) scope {
	s := scope{classes: c.classes(path+".classes", said.Classes, misplaced)}
	if on := said.On; on.VMIDs == nil && on.Pools == nil && on.Storages == nil {
		c.problem(path+".on", "empty: grant targets by vmids, pools or storages")
	}
	s.vmids = c.vmids(path+".on.vmids", said.On.VMIDs)
	s.pools = c.labels(path+".on.pools", said.On.Pools, checkPool)
	s.stores = c.labels(path+".on.storages", said.On.Storages, checkLabel)
	for _, name := range c.labels(path+".only.names", said.Only.Names, checkPattern) {
		text, prefix := strings.CutSuffix(name, "*")
		s.names = append(s.names, namePattern{text: text, prefix: prefix})
	}
	s.tags = c.labels(path+".only.tags", said.Only.Tags, checkTag)
	s.nodes = c.labels(path+".only.nodes", said.Only.Nodes, op.CheckNodeName)
	if said.On.Storages == nil {
		c.needsStorages(path, s)
	}
	return s
}

func (c *compiler) classes(path string, classes []op.Class, misplaced func(op.Class) string) []op.Class {
	if len(classes) == 0 {
		c.problem(path, "empty: name at least one class")
	}
	if !c.fits(path, len(classes)) {
		return nil
	}
	for i, class := range classes {
		at := fmt.Sprintf("%s[%d]", path, i)
		switch why := misplaced(class); {
		case !class.Known():
			c.problem(at, "%s is none of %v", quote(string(class)), op.Classes())
		case why != "":
			c.problem(at, "%s %s", class, why)
		case slices.Contains(classes[:i], class):
			c.problem(at, "%s is listed twice", class)
		}
	}
	return slices.Clone(classes)
}

// needsStorages refuses classes that can't be granted by what On names, so
// that nobody believes they are.
func (c *compiler) needsStorages(path string, s scope) {
	for i, class := range s.classes {
		if class.Known() && !class.ActsOnGuest() {
			c.problem(fmt.Sprintf("%s.classes[%d]", path, i), "%s is granted by storages alone, and on names none", class)
		}
	}
}

// labels checks the items of a list.
func (c *compiler) labels(path string, items []string, check func(string) error) []string {
	if !c.notEmpty(path, items) {
		return nil
	}
	for i, item := range items {
		at := fmt.Sprintf("%s[%d]", path, i)
		if err := check(item); err != nil {
			c.problem(at, "%v", err)
		} else if slices.Contains(items[:i], item) {
			c.problem(at, "%s is listed twice", quote(item))
		}
	}
	return slices.Clone(items)
}

// notEmpty refuses a list that is given but empty, or too long to go through.
func (c *compiler) notEmpty(path string, items []string) bool {
	if items != nil && len(items) == 0 {
		c.problem(path, "given but empty: list something, or leave it out")
	}
	return c.fits(path, len(items))
}

// fits refuses a list that is too long: items are compared with one another.
func (c *compiler) fits(path string, n int) bool {
	if n > MaxListItems {
		c.problem(path, "%d items, at most %d are allowed: split it", n, MaxListItems)
		return false
	}
	return true
}

// vmids checks single VMIDs and ranges, which must not overlap: two that do
// are two meanings of one line, and one of them a slip.
func (c *compiler) vmids(path string, items []string) []vmidRange {
	if !c.notEmpty(path, items) {
		return nil
	}
	var ranges []vmidRange
	for i, item := range items {
		at := fmt.Sprintf("%s[%d]", path, i)
		r, err := parseVMIDs(item)
		if err != nil {
			c.problem(at, "%v", err)
			continue
		}
		for _, o := range ranges {
			if r.first <= o.last && o.first <= r.last {
				c.problem(at, "%s overlaps %s in the same list: join them", r, o)
				break
			}
		}
		ranges = append(ranges, r)
	}
	return ranges
}

func parseVMIDs(s string) (vmidRange, error) {
	first, last, isRange := strings.Cut(s, "-")
	if !isRange {
		last = first
	}
	var r vmidRange
	for _, end := range []struct {
		text string
		to   *int
	}{{first, &r.first}, {last, &r.last}} {
		n, err := strconv.Atoi(end.text)
		// Printing it back refuses signs, leading zeros and the like.
		if err != nil || strconv.Itoa(n) != end.text {
			return vmidRange{}, fmt.Errorf(`%s is neither a VMID, such as "250", nor a range, such as "100-199"`, quote(s))
		}
		if n < op.MinVMID || n > op.MaxVMID {
			return vmidRange{}, fmt.Errorf("%s is not within %d to %d", quote(s), op.MinVMID, op.MaxVMID)
		}
		*end.to = n
	}
	if isRange && r.first >= r.last {
		return vmidRange{}, fmt.Errorf("%s does not go upward", quote(s))
	}
	return r, nil
}

// The forms below are as wide as the names that Proxmox VE lets exist (pve-common
// JSONSchema.pm, pve-access-control AccessControl.pm#verify_poolname), and
// narrow enough that a slip, such as two names in one string, is seen.

// checkCaller refuses what can't be the name of an API token.
func checkCaller(s string) error {
	if s == Tokenless {
		return fmt.Errorf("%s is recorded for whoever comes without a token: name tokens", quote(s))
	}
	return signedop.CheckName(s)
}

func checkLabel(s string) error { return checkChars(s, "") }

func checkTag(s string) error { return checkChars(s, "+") }

func checkPool(s string) error {
	for part := range strings.SplitSeq(s, "/") {
		if part == "" {
			return fmt.Errorf("%s is not a pool: empty, or with an empty part", quote(s))
		}
	}
	return checkChars(s, "/")
}

func checkPattern(s string) error {
	text := strings.TrimSuffix(s, "*")
	if text == "" {
		return errors.New(`"" and "*" narrow nothing: write a name, or a prefix of one such as "web-*"`)
	}
	if strings.Contains(text, "*") {
		return fmt.Errorf("%s: an asterisk is allowed only once, at the end", quote(s))
	}
	return checkChars(text, "")
}

func checkChars(s, also string) error {
	const limit = 128
	if s == "" {
		return errors.New("empty: a name is required")
	}
	if len(s) > limit {
		return fmt.Errorf("%s is longer than %d bytes", quote(s), limit)
	}
	for i := range len(s) {
		c := s[i]
		alnum := 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
		if !alnum && !strings.ContainsRune("._-"+also, rune(c)) {
			return fmt.Errorf("%s: %s is not allowed here", quote(s), quote(s[i:i+1]))
		}
	}
	return nil
}
