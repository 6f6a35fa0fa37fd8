package gate

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"writ/domain/op"
	"writ/domain/signedop"
)

// Bounds of what a policy may say.
const (
	// MaxPolicyBytes bounds a policy as recorded.
	MaxPolicyBytes = 512 << 10
	// MaxListItems bounds each list of holders, callers, classes, VMIDs and
	// names.
	MaxListItems = 1000

	DefaultClockSkew = 30 * time.Second
	MaxClockSkew     = 5 * time.Minute

	// MinLifetime and MaxLifetime bound a role's max_lifetime.
	MinLifetime = time.Minute
	MaxLifetime = 30 * 24 * time.Hour
)

// A Policy is a PolicyDocument that was found free of errors, ready to decide.
// It is immutable and may be used concurrently. The zero value, and a nil one,
// knows nobody and no rule, and so refuses everything.
type Policy struct {
	serial   uint64
	recorded []byte // the document, as stored
	skew     time.Duration
	trusted  []signedop.Key // every enrolled key, revoked ones as well
	keys     map[string]enrolled
	roles    map[string]*role
	benign   []benignRule
	warnings []string
}

// enrolled is a key by its fingerprint. A time that is zero was not given.
type enrolled struct {
	key                            signedop.Key
	person                         string
	notBefore, notAfter, revokedAt time.Time
}

type role struct {
	name            string
	holders         []string
	quorum          int
	maxLifetime     time.Duration
	requesterCounts bool
	fido            FIDO
	resolves        bool
	rules           []scope
}

// Serial is the number under which the policy was recorded.
func (p *Policy) Serial() uint64 {
	if p == nil {
		return 0
	}
	return p.serial
}

// Document gives what the policy was compiled from, in a copy. Compiled again
// it decides the same.
func (p *Policy) Document() PolicyDocument {
	var doc PolicyDocument
	if p == nil || p.recorded == nil {
		return doc
	}
	if err := op.Unmarshal(p.recorded, &doc); err != nil {
		panic("gate: internal error: compiled policy can't be read back: " + err.Error())
	}
	return doc
}

// Warnings are what is allowed but may not be meant, for people.
func (p *Policy) Warnings() []string {
	if p == nil {
		return nil
	}
	return slices.Clone(p.warnings)
}

// A Problem is one thing wrong with a policy.
type Problem struct {
	Path string // such as roles.operator.holders[2]; empty for the whole
	Why  string // what was found, and the remedy
}

func (p Problem) String() string {
	if p.Path == "" {
		return p.Why
	}
	return p.Path + ": " + p.Why
}

// A PolicyError says that a policy can't be put in force. It holds every
// problem: of the people first, then of the roles, each in the order of names,
// then of the benign rules.
type PolicyError struct{ Problems []Problem }

// Error gives each problem on a line of its own, the first fifty.
func (e *PolicyError) Error() string {
	const shown = 50
	var b strings.Builder
	fmt.Fprintf(&b, "policy: %d problem(s)", len(e.Problems))
	for i, p := range e.Problems {
		if i == shown {
			fmt.Fprintf(&b, "\n  and %d more", len(e.Problems)-shown)
			break
		}
		b.WriteString("\n  " + p.String())
	}
	return b.String()
}

// Compile checks a policy whole and makes it ready to decide under its serial.
// The error is always a *PolicyError. The document is copied.
func Compile(doc PolicyDocument, serial uint64) (*Policy, error) {
	recorded, err := op.Marshal(doc)
	switch {
	case err != nil:
		return nil, &PolicyError{Problems: []Problem{{Why: fmt.Sprintf("can't be recorded: %v", err)}}}
	case len(recorded) > MaxPolicyBytes:
		return nil, &PolicyError{Problems: []Problem{{
			Why: fmt.Sprintf("%d bytes as recorded, at most %d are allowed: shorten it", len(recorded), MaxPolicyBytes),
		}}}
	}
	c := compiler{
		policy: &Policy{
			serial: serial, recorded: recorded, skew: DefaultClockSkew,
			keys: make(map[string]enrolled), roles: make(map[string]*role),
		},
		material: make(map[string]string),
		fido:     make(map[string]bool),
	}
	if doc.Version != PolicyVersion {
		c.problem("version", "%d is unknown, this program reads version %d", doc.Version, PolicyVersion)
	}
	if doc.ClockSkew != "" {
		c.policy.skew = c.duration("clock_skew", doc.ClockSkew, 0, MaxClockSkew)
	}
	c.people(doc.People)
	c.roles(doc)
	for i, rule := range doc.Benign {
		c.policy.benign = append(c.policy.benign, c.benignRule(fmt.Sprintf("benign[%d]", i), rule))
	}
	if len(c.problems) > 0 {
		return nil, &PolicyError{Problems: c.problems}
	}
	return c.policy, nil
}

// compiler collects problems while it fills in a policy, which is of use only
// if there are none.
type compiler struct {
	policy   *Policy
	problems []Problem
	material map[string]string // key material to the path of the key that has it
	fido     map[string]bool   // people with a key that can prove a touch
}

func (c *compiler) problem(path, format string, args ...any) {
	c.problems = append(c.problems, Problem{Path: path, Why: fmt.Sprintf(format, args...)})
}

// names gives the names of a section in order, those aside that can't be one.
// Names that differ only in capitals are refused: people would take one for
// the other, and the requester is compared without regard to them.
func (c *compiler) names(section string, all []string) []string {
	slices.Sort(all)
	folded := make(map[string]string)
	var good []string
	for _, name := range all {
		path := section + "." + name
		if err := signedop.CheckName(name); err != nil {
			c.problem(section, "%v", err)
			continue
		}
		if other, ok := folded[strings.ToLower(name)]; ok {
			c.problem(path, "differs from %s only in capitals: rename one", other)
			continue
		}
		folded[strings.ToLower(name)] = name
		good = append(good, name)
	}
	return good
}

func (c *compiler) people(all map[string]Person) {
	for _, name := range c.names("people", slices.Collect(maps.Keys(all))) {
		path := "people." + name + ".keys"
		if len(all[name].Keys) == 0 {
			c.problem(path, "empty: list at least one key, or remove the person")
		}
		for i, k := range all[name].Keys {
			c.key(fmt.Sprintf("%s[%d]", path, i), name, k)
		}
	}
}

func (c *compiler) key(path, person string, k Key) {
	e := enrolled{
		person:    person,
		notBefore: c.time(path+".not_before", k.NotBefore),
		notAfter:  c.time(path+".not_after", k.NotAfter),
		revokedAt: c.time(path+".revoked_at", k.RevokedAt),
	}
	if k.NotBefore != "" && k.NotAfter != "" && !e.notAfter.IsZero() && !e.notBefore.Before(e.notAfter) {
		c.problem(path+".not_after", "%s is not after not_before, %s: the key would never count", k.NotAfter, k.NotBefore)
	}
	format, err := signedop.ParseFormat(k.Format)
	if err != nil {
		c.problem(path+".format", "%s is neither ssh nor raw: say how the key signs (ssh for ssh-keygen, agents and FIDO)", quote(k.Format))
		return
	}
	if e.key, err = signedop.ParseKey(k.Key, format); err != nil {
		c.problem(path+".key", "%s", strings.TrimPrefix(err.Error(), "key: "))
		return
	}
	if other, ok := c.material[e.key.Material()]; ok {
		c.problem(path+".key", "%s is the key of %s: a key belongs to one person and is listed once", e.key.Fingerprint, other)
		return
	}
	c.material[e.key.Material()] = path
	if strings.HasPrefix(e.key.Public.Type(), "sk-") {
		c.fido[person] = true
	}
	c.policy.keys[e.key.Fingerprint] = e
	c.policy.trusted = append(c.policy.trusted, e.key)
}

func (c *compiler) roles(doc PolicyDocument) {
	for _, name := range c.names("roles", slices.Collect(maps.Keys(doc.Roles))) {
		path, said := "roles."+name, doc.Roles[name]
		r := &role{
			name: name, holders: slices.Clone(said.Holders), quorum: said.Quorum,
			requesterCounts: said.RequesterCounts, fido: said.FIDO, resolves: said.Resolve,
		}
		c.holders(path, r, doc.People)
		r.maxLifetime = c.duration(path+".max_lifetime", said.MaxLifetime, MinLifetime, MaxLifetime)
		switch {
		case len(said.Allow) > 0:
		case !said.Resolve:
			c.problem(path+".allow", "empty: list at least one rule, let the role resolve, or remove it")
		case said.Allow != nil:
			c.problem(path+".allow", "given but empty: list something, or leave it out")
		}
		for i, rule := range said.Allow {
			r.rules = append(r.rules, c.rule(fmt.Sprintf("%s.allow[%d]", path, i), rule))
		}
		c.policy.roles[name] = r
	}
}

// holders checks that the quorum is one of distinct people and can be met.
func (c *compiler) holders(path string, r *role, people map[string]Person) {
	if len(r.holders) == 0 {
		c.problem(path+".holders", "empty: name at least one person")
	}
	if !c.fits(path+".holders", len(r.holders)) {
		return
	}
	withFIDO := 0
	for i, h := range r.holders {
		at := fmt.Sprintf("%s.holders[%d]", path, i)
		if _, ok := people[h]; !ok {
			c.problem(at, "%s is not among people: enrol the person or correct the name", quote(h))
		}
		if slices.Contains(r.holders[:i], h) {
			c.problem(at, "%s is listed twice", quote(h))
		}
		if c.fido[h] {
			withFIDO++
		}
	}
	switch n := len(r.holders); {
	case r.quorum < 1:
		c.problem(path+".quorum", "%d: at least one person must sign", r.quorum)
	case r.quorum > n:
		c.problem(path+".quorum", "%d people must sign, but only %d hold the role", r.quorum, n)
	case (r.fido.Touch || r.fido.PIN) && r.quorum > withFIDO:
		c.problem(path+".fido", "%d must sign with a FIDO key, but only %d of the holders have one", r.quorum, withFIDO)
	case r.quorum == n && !r.requesterCounts:
		c.policy.warnings = append(c.policy.warnings, fmt.Sprintf(
			"%s.quorum: all %d holders must sign and the requester does not count, so nothing that a holder requests can be allowed", path, n))
	}
}

// time reads an optional point in time; zero if there is none.
func (c *compiler) time(path, s string) time.Time {
	if s == "" {
		return time.Time{}
	}
	t, err := time.Parse(stampLayout, s)
	if err != nil || t.Format(stampLayout) != s || t.IsZero() {
		c.problem(path, "%s is not a time in UTC and whole seconds, such as 2026-11-23T09:00:00Z", quote(s))
		return time.Time{}
	}
	return t
}

func (c *compiler) duration(path, s string, from, to time.Duration) time.Duration {
	d, err := time.ParseDuration(s)
	switch {
	case s == "":
		c.problem(path, "missing: give a duration from %s to %s, such as 24h", from, to)
	case err != nil:
		c.problem(path, "%s is not a duration, such as 90m or 24h", quote(s))
	case d < from || d > to || d%time.Second != 0:
		c.problem(path, "%s is not from %s to %s in whole seconds", quote(s), from, to)
	}
	return d
}
