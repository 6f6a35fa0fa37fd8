package pvesim

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// Pveum carries out one pveum command as root would on a node's shell: role add
// and modify, user add, passwd (whose password is the input), user token add and
// modify, acl modify and delete. It is as strict as the real one: what is there
// can't be added, what is not can't be changed. Output holds the secret of a new
// token and is else empty.
func (s *Sim) Pveum(line, input string) (output string, err error) {
	words, err := shellWords(line)
	if err != nil || len(words) == 0 || words[0] != "pveum" {
		return "", fmt.Errorf("%q is not a pveum command", line)
	}
	args, opts, err := pveumArgs(words[1:])
	if err != nil {
		return "", fmt.Errorf("%s: %w", line, err)
	}
	s.do(func() { output, err = s.pveum(args, opts, input) })
	if err != nil {
		return "", fmt.Errorf("%s: %w", line, err)
	}
	return output, nil
}

var shellWord = regexp.MustCompile(`^(?:'([^']*)'|([A-Za-z0-9@._/,=:-]+))(?: +|$)`)

// shellWords takes a line apart that needs no more of a shell than single
// quotes.
func shellWords(line string) ([]string, error) {
	var words []string
	for rest := line; rest != ""; {
		m := shellWord.FindStringSubmatch(rest)
		if m == nil {
			return nil, errors.New("a shell would make something else of it")
		}
		words = append(words, m[1]+m[2])
		rest = rest[len(m[0]):]
	}
	return words, nil
}

func pveumArgs(words []string) (args []string, opts map[string]string, err error) {
	opts = map[string]string{}
	for i := 0; i < len(words); i++ {
		name, isOpt := strings.CutPrefix(words[i], "--")
		switch {
		case !isOpt:
			args = append(args, words[i])
		case i+1 == len(words):
			return nil, nil, fmt.Errorf("--%s has no value", name)
		default:
			i++
			opts[name] = words[i]
		}
	}
	return args, opts, nil
}

// pveum runs with the simulator's mutex held.
func (s *Sim) pveum(args []string, opts map[string]string, input string) (string, error) {
	a, verb := s.access, strings.Join(args[:min(2, len(args))], " ")
	switch {
	case len(args) == 3 && (verb == "role add" || verb == "role modify"):
		return "", a.pveumRole(args[2], verb == "role add", opts)
	case len(args) == 3 && verb == "user add":
		if a.users[args[2]] != nil {
			return "", fmt.Errorf("user '%s' already exists", args[2])
		}
		a.users[args[2]] = &user{tokens: map[string]*token{}}
		return "", nil
	case len(args) == 2 && args[0] == "passwd":
		u := a.users[args[1]]
		if u == nil || input == "" {
			return "", fmt.Errorf("no such user ('%s'), or no password", args[1])
		}
		u.password = input
		return "", nil
	case len(args) == 5 && verb == "user token":
		return s.pveumToken(args[2], args[3], args[4], opts)
	case len(args) == 3 && (verb == "acl modify" || verb == "acl delete"):
		return "", a.pveumACL(args[2], verb == "acl delete", opts)
	}
	return "", errors.New("no such command")
}

func (a *access) pveumRole(name string, add bool, opts map[string]string) error {
	switch {
	case add && a.roles[name] != nil:
		return fmt.Errorf("role '%s' already exists", name)
	case !add && a.roles[name] == nil:
		return fmt.Errorf("role '%s' does not exist", name)
	case builtinRoles()[name] != nil:
		return fmt.Errorf("auto-generated role '%s' cannot be modified", name)
	}
	privs := splitList(opts["privs"])
	for _, p := range privs {
		if !a.roles["Administrator"][p] {
			return fmt.Errorf("invalid privilege '%s'", p)
		}
	}
	a.roles[name] = privsOf(privs)
	return nil
}

func (s *Sim) pveumToken(verb, userid, name string, opts map[string]string) (string, error) {
	u := s.access.users[userid]
	if u == nil {
		return "", fmt.Errorf("no such user ('%s')", userid)
	}
	t := u.tokens[name]
	switch {
	case verb == "add" && t == nil:
		t = &token{secret: s.uuid(), privsep: opts["privsep"] != "0"}
		u.tokens[name] = t
		return t.secret, nil
	case verb == "modify" && t != nil:
		t.privsep = opts["privsep"] != "0"
		return "", nil
	}
	return "", fmt.Errorf("token '%s' of user '%s' can't be the object of %s", name, userid, verb)
}

func (a *access) pveumACL(path string, remove bool, opts map[string]string) error {
	if path = normalizeACLPath(path); path == "" {
		return errors.New("invalid ACL path")
	}
	who := slices.Concat(splitList(opts["users"]), splitList(opts["tokens"]))
	if len(who) == 0 {
		return errors.New("either 'users', 'groups' or 'tokens' is required")
	}
	for _, role := range splitList(opts["roles"]) {
		if a.roles[role] == nil {
			return fmt.Errorf("role '%s' does not exist", role)
		}
		for _, id := range who {
			userid, tok := splitToken(id)
			if a.users[userid] == nil || tok != "" && a.token(id) == nil {
				return fmt.Errorf("no such user or token '%s'", id)
			}
			if !remove {
				a.grant(path, id, role, opts["propagate"] != "0")
				continue
			}
			g := a.node(path).users
			if tok != "" {
				g = a.node(path).tokens
			}
			if delete(g[id], role); len(g[id]) == 0 {
				delete(g, id)
			}
		}
	}
	return nil
}
