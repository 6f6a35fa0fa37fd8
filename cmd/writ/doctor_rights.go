package main

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"writ/adapters/proxmox"
	"writ/domain/op"
)

// checkRights looks at as whom requests are sent, and at what those may do.
func (dr *doctor) checkRights(ctx context.Context) {
	attempt := dr.host.Mode() == proxmox.ModeAttempt
	if attempt {
		dr.d.ok("credentials", "each attempt gets an API token of its own, made by %s; reads are sent as %s", dr.c.Host.Proxmox.User, dr.host.Credential())
	} else {
		dr.d.add(stateWarn, "credentials", "give a service user: host.proxmox.user and password_file",
			"every request is sent as %s: a request that got lost can't be made void, tasks of two ops can't be told apart for certain,\n"+
				"and an old copy of the ledger is not recognised by the host's memory. More ops have to be settled by people", dr.host.Credential())
	}
	if p := dr.c.Host.Proxmox; p.WipePasswordFile != "" || p.WipePassword != "" {
		dr.d.add(stateWarn, "root@pam", "take host.proxmox.wipe_password_file out where no single disks are to be wiped",
			"its password is configured: whoever reads it owns the cluster")
	}
	if dr.unasked {
		dr.d.add(stateFail, "privileges", "see api", "the host could not be asked")
		dr.setUp(nil)
		return
	}
	login := dr.checkService(ctx)
	dr.progress("read users, roles and rights")
	have, unread, err := dr.host.ReadAccess(ctx, dr.progress)
	if err != nil {
		dr.d.add(stateFail, "privileges", "", "%v", err)
		dr.setUp(nil)
		return
	}
	if attempt {
		dr.checkRoles(have)
	}
	if len(unread) > 0 {
		have = nil
	}
	if login && len(dr.classes) > 0 {
		dr.checkNeeds(ctx, have)
	}
	dr.setUp(have)
}

// setUp gives the commands. Without a class that is allowed there are none: what is
// there may be needed once the policy is mended.
func (dr *doctor) setUp(have *proxmox.Access) {
	if len(dr.classes) == 0 {
		return
	}
	dr.d.FromNothing = have == nil
	dr.d.Commands = append(dr.d.Commands, dr.host.Setup(dr.classes).Commands(have)...)
}

// checkService tells whether the service user, if there is one, can log in.
func (dr *doctor) checkService(ctx context.Context) bool {
	if dr.host.Mode() != proxmox.ModeAttempt {
		return true
	}
	dr.progress("log in")
	const check = "service user"
	user := dr.c.Host.Proxmox.User
	if err := dr.host.CheckLogin(ctx); err != nil {
		dr.d.add(stateFail, check, "make it, without a second factor, or correct its password: pveum passwd "+user, "%v", err)
		return false
	}
	alive, spent, others, err := dr.host.OwnTokens(ctx, dr.now())
	switch {
	case err != nil:
		dr.d.add(stateFail, check, "", "%v", err)
	case len(others) > 0:
		dr.d.add(stateWarn, check, "remove them: the user must serve this one ledger, and nobody else",
			"%s can log in, and has tokens that are not of attempts: %s", user, strings.Join(others, ", "))
	default:
		dr.d.ok(check, "%s can log in; the host has %d tokens of attempts in use and remembers %d others", user, alive, spent)
	}
	return true
}

// checkRoles compares the roles of attempts' tokens with what they must hold.
func (dr *doctor) checkRoles(have *proxmox.Access) {
	const check = "attempt roles"
	want := dr.host.AttemptRoles(dr.classes)
	var wrong []string
	for _, role := range slices.Sorted(maps.Keys(want)) {
		held, there := have.Roles[role]
		switch {
		case !there:
			wrong = append(wrong, fmt.Sprintf("role %s is missing", role))
		case len(held) != 1 || held[0] != want[role]:
			wrong = append(wrong, fmt.Sprintf("role %s holds %q, and must hold %s alone", role, held, want[role]))
		}
	}
	switch {
	case len(wrong) > 0:
		dr.d.add(stateFail, check, "the commands below", "%s", strings.Join(wrong, "\n"))
	case len(want) > 0:
		dr.d.ok(check, "%s, each with its one privilege", strings.Join(slices.Sorted(maps.Keys(want)), ", "))
	}
}

// checkNeeds compares what the policy's classes need with what is there.
func (dr *doctor) checkNeeds(ctx context.Context, have *proxmox.Access) {
	dr.progress("ask for privileges")
	needs := proxmox.Needs(dr.host.Mode(), dr.classes)
	lacks, err := dr.host.CheckNeeds(ctx, needs)
	if err != nil {
		dr.d.add(stateFail, "privileges", "", "%v", err)
		return
	}
	short := make(map[op.Class]bool) // classes that can't run
	for _, l := range lacks {
		state := stateWarn
		if l.Must {
			state = stateFail
			for _, c := range l.Concerned(dr.classes) {
				short[c] = true
			}
		}
		dr.d.add(state, "privileges", "the commands below", "%s on %s for %s: %s (to %s; for %s)",
			l.Privilege, l.Object, dr.who(l.Launch), l.Has, l.Why, forClasses(l.Classes))
	}
	plans := proxmox.PlanNeeds(dr.classes)
	dr.checkPlans(ctx, plans)
	if have != nil {
		for _, e := range dr.host.Exceptions(have, needs) {
			dr.d.add(stateWarn, "privileges", "take the entry away if ops there are meant to run", "%s", e)
		}
	}
	var fit []op.Class
	for c := range dr.classes {
		if !short[c] {
			fit = append(fit, c)
		}
	}
	if len(fit) > 0 {
		dr.d.ok("privileges", "all that is needed for %s", classList(fit))
	}
	dr.checkSurplus(ctx, slices.Concat(needs, plans))
}

// checkPlans says which orders that expect a plan can't run. Nothing is wrong with
// that where nobody expects one.
func (dr *doctor) checkPlans(ctx context.Context, plans []proxmox.Need) {
	lacks, err := dr.host.CheckNeeds(ctx, plans)
	if err != nil {
		dr.d.add(stateFail, "plans", "", "%v", err)
		return
	}
	var without []string
	for _, l := range lacks {
		without = append(without, fmt.Sprintf("%s: %s on %s for %s (to %s)", forClasses(l.Classes), l.Privilege, l.Object, dr.who(false), l.Why))
	}
	if len(without) > 0 {
		dr.d.ok("plans", "orders that expect a plan (writ sign --plan) would also take\n%s\nGive it only if you sign such orders: it lets the token delete, too", strings.Join(without, "\n"))
	}
}

func (dr *doctor) checkSurplus(ctx context.Context, needs []proxmox.Need) {
	more, err := dr.host.Superfluous(ctx, needs)
	if err != nil {
		dr.d.add(stateFail, "least privilege", "", "%v", err)
		return
	}
	for _, launch := range []bool{false, true} {
		var lines []string
		for _, m := range more {
			if m.Launch == launch {
				lines = append(lines, "on "+m.Object+": "+strings.Join(m.Privileges, ", "))
			}
		}
		if len(lines) > 0 {
			dr.d.add(stateWarn, "least privilege", "the commands below, or take it away from the groups that give it",
				"%s may do more than it needs\n%s", dr.who(launch), strings.Join(lines, "\n"))
		}
	}
	if len(more) == 0 {
		dr.d.ok("least privilege", "nothing beyond that")
	}
}

func (dr *doctor) who(launch bool) string {
	if launch {
		return dr.c.Host.Proxmox.User
	}
	return dr.host.Credential()
}
