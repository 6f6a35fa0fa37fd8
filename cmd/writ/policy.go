package main

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"writ/domain/gate"
)

func newPolicyCmd(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "policy",
		Short: "Work with policy files",
		Args:  noArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(&cobra.Command{
		Use:   "check FILE",
		Short: "Check a policy file and show who may do what",
		Args:  oneArg("the policy file"),
		RunE:  func(_ *cobra.Command, args []string) error { return a.policyCheck(args[0]) },
	})
	return cmd
}

// A policySummary is what policy check tells programs.
type policySummary struct {
	File     string          `json:"file"`
	OK       bool            `json:"ok"`
	Problems []policyProblem `json:"problems"`
	Warnings []string        `json:"warnings"`
	People   []personSummary `json:"people"`
	Roles    []roleSummary   `json:"roles"`
	// Benign are the rules for what runs without a signature.
	Benign []gate.BenignRule `json:"benign"`
}

type policyProblem struct {
	Line int    `json:"line,omitempty"`
	Why  string `json:"why"`
	Hint string `json:"hint,omitempty"`
}

type personSummary struct {
	Name  string       `json:"name"`
	Keys  []keySummary `json:"keys"`
	Roles []string     `json:"roles"`
}

type keySummary struct {
	Fingerprint string `json:"fingerprint"`
	Type        string `json:"type"`
	Format      string `json:"format"`
	State       string `json:"state"` // "counts", or why it does not, now
	Comment     string `json:"comment,omitempty"`
	until       string
}

type roleSummary struct {
	Name            string      `json:"name"`
	Quorum          int         `json:"quorum"`
	Holders         []string    `json:"holders"`
	RequesterCounts bool        `json:"requester_counts"`
	FIDO            gate.FIDO   `json:"fido"`
	MaxLifetime     string      `json:"max_lifetime"`
	Resolve         bool        `json:"resolve"` // may settle ops, on every target
	Allow           []gate.Rule `json:"allow"`
}

func (a *app) policyCheck(path string) error {
	s := policySummary{File: path, Problems: []policyProblem{}, Warnings: []string{}, People: []personSummary{}, Roles: []roleSummary{}, Benign: []gate.BenignRule{}}
	file, err := readPolicyFile(path)
	var policy *gate.Policy
	if err == nil {
		policy, err = file.compile(1)
	}
	var one *lineError
	var many *policyProblems
	switch {
	case errors.As(err, &many):
		for _, p := range many.Problems {
			s.Problems = append(s.Problems, policyProblem{p.Line, p.Why, p.Hint})
		}
	case errors.As(err, &one):
		s.Problems = append(s.Problems, policyProblem{one.Line, one.Why, one.Hint})
	case err != nil:
		return err
	default:
		s.OK = true
		s.Warnings = append(s.Warnings, policy.Warnings()...)
		s.fill(a.now(), policy.Document())
	}
	if err := a.show(s, func(w io.Writer) { s.text(w, err) }); err != nil {
		return err
	}
	if !s.OK {
		return &toldError{exitFailed}
	}
	return nil
}

func (s *policySummary) fill(now time.Time, doc gate.PolicyDocument) {
	for _, name := range slices.Sorted(maps.Keys(doc.People)) {
		p := personSummary{Name: name, Roles: []string{}}
		for _, k := range doc.People[name].Keys {
			key, _ := parseEnrolled(k)
			sum := keySummary{Fingerprint: key.Fingerprint, Type: key.Public.Type(), Format: k.Format, State: "counts", Comment: k.Comment}
			if state := keyState(now, k); state != "" {
				sum.State = state
			} else if until := firstEnd(k); until != "" {
				sum.until = until
			}
			p.Keys = append(p.Keys, sum)
		}
		for _, role := range slices.Sorted(maps.Keys(doc.Roles)) {
			if slices.Contains(doc.Roles[role].Holders, name) {
				p.Roles = append(p.Roles, role)
			}
		}
		s.People = append(s.People, p)
	}
	for _, name := range slices.Sorted(maps.Keys(doc.Roles)) {
		r := doc.Roles[name]
		s.Roles = append(s.Roles, roleSummary{
			Name: name, Quorum: r.Quorum, Holders: r.Holders, RequesterCounts: r.RequesterCounts, FIDO: r.FIDO,
			MaxLifetime: r.MaxLifetime, Resolve: r.Resolve, Allow: append([]gate.Rule{}, r.Allow...),
		})
	}
	s.Benign = append(s.Benign, doc.Benign...)
}

// firstEnd is when a key that counts will stop to. The times have one form, so
// they compare as text.
func firstEnd(k gate.Key) string {
	switch {
	case k.RevokedAt == "":
		return k.NotAfter
	case k.NotAfter == "":
		return k.RevokedAt
	}
	return min(k.NotAfter, k.RevokedAt)
}

func (s policySummary) text(w io.Writer, err error) {
	if !s.OK {
		fmt.Fprintf(w, "%v\n\n%s: %s; a service keeps the policy it has.\n", err, s.File, count(len(s.Problems), "problem", "problems"))
		return
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprint(t, "PERSON\tKEY\tFORMAT\tSTATE\tROLES\n")
	for _, p := range s.People {
		for i, k := range p.Keys {
			name, roles := p.Name, orDash(strings.Join(p.Roles, ", "))
			if i > 0 {
				name, roles = "", ""
			}
			state := k.State
			if k.until != "" {
				state += " until " + k.until
			}
			fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\n", name, k.Fingerprint, k.Format, state, roles)
		}
	}
	_ = t.Flush() // to a buffer or a terminal
	for _, r := range s.Roles {
		fmt.Fprintf(w, "\nROLE %s: %d of %d people (%s)%s, %s of at most %s\n", r.Name, r.Quorum, len(r.Holders),
			strings.Join(r.Holders, ", "), r.demands(), r.signs(), r.MaxLifetime)
		if r.Resolve {
			fmt.Fprint(w, "  - settles ops that the evidence does not decide, on every target\n")
		}
		for _, rule := range r.Allow {
			fmt.Fprintf(w, "  - %s\n", ruleWords(rule))
		}
	}
	for i, b := range s.Benign {
		if i == 0 {
			fmt.Fprint(w, "\nWITHOUT A SIGNATURE\n")
		}
		fmt.Fprintf(w, "  - %s: %s\n", strings.Join(b.Callers, ", "), ruleWords(gate.Rule{Classes: b.Classes, On: b.On, Only: b.Only}))
	}
	for _, warning := range s.Warnings {
		fmt.Fprintf(w, "\nWarning: %s\n", warning)
	}
	fmt.Fprintf(w, "\n%s: no errors.\n", s.File)
}

func (r roleSummary) demands() string {
	var b strings.Builder
	if r.RequesterCounts {
		b.WriteString(", the requester may be one of them")
	} else {
		b.WriteString(", the requester does not count")
	}
	if r.FIDO.Touch {
		b.WriteString(", FIDO touch")
	}
	if r.FIDO.PIN {
		b.WriteString(", FIDO PIN")
	}
	return b.String()
}

// signs says what the role's holders sign.
func (r roleSummary) signs() string {
	switch {
	case !r.Resolve:
		return "writs"
	case len(r.Allow) == 0:
		return "resolutions"
	}
	return "writs and resolutions"
}

// ruleWords says what a rule allows.
func ruleWords(r gate.Rule) string {
	classes := make([]string, len(r.Classes))
	for i, c := range r.Classes {
		classes[i] = string(c)
	}
	join := func(between string, parts ...string) string {
		return strings.Join(slices.DeleteFunc(parts, func(s string) bool { return s == "" }), between)
	}
	named := func(what string, items []string) string {
		if len(items) == 0 {
			return ""
		}
		return what + " " + strings.Join(items, ", ")
	}
	s := strings.Join(classes, ", ") + " on " + join(", or ", named("VMID", r.On.VMIDs), named("pool", r.On.Pools), named("all volumes on storage", r.On.Storages))
	if only := join(" and ", named("name", r.Only.Names), named("every tag of", r.Only.Tags), named("node", r.Only.Nodes)); only != "" {
		s += "; only with " + only
	}
	return s
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

func count(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}
