package main

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"writ/adapters/proxmox"
)

// certificateSoon is how long before a certificate's end doctor warns of it.
const certificateSoon = 14 * 24 * time.Hour

// checkHost looks at the cluster and its nodes.
func (dr *doctor) checkHost(ctx context.Context) {
	dr.progress("ask who answers")
	seats := dr.host.LookAtSeats(ctx)
	front := seats[0]
	if front.Err != nil {
		dr.unasked = true
		dr.d.add(stateFail, "api", "correct host.proxmox: url, token_id, the token's secret, ca_file or fingerprints; see what the host logs", "%s: %v", front.URL, front.Err)
		return
	}
	dr.d.ok("api", "%s answers; it is node %s", front.URL, orDash(front.Node))
	dr.checkVersion(ctx)
	dr.checkCertificates(seats)
	if front.Quorate {
		dr.d.ok("quorum", "the cluster is quorate, by node %s", orDash(front.Node))
	} else {
		dr.d.add(stateFail, "quorum", "bring the other nodes back; nothing is launched before", "node %s is not part of a quorate cluster", orDash(front.Node))
	}
	dr.checkNodes(ctx, seats)
}

func (dr *doctor) checkVersion(ctx context.Context) {
	v, err := dr.host.Version(ctx)
	if err != nil {
		dr.d.add(stateFail, "version", "", "%v", err)
		return
	}
	major, minor := versionNumbers(v.Version)
	switch {
	case major == 8 && minor >= 4, major == 9:
		dr.d.ok("version", "Proxmox VE %s", v.Version)
	case major == 8 && minor >= 1:
		dr.d.add(stateWarn, "version", "upgrade to 8.4 or 9", "Proxmox VE %s: tests run against what 8.4 and 9.2 accept", v.Version)
	case major > 9:
		dr.d.add(stateWarn, "version", "look for a newer writ", "Proxmox VE %s is newer than what this program knows", v.Version)
	default:
		dr.d.add(stateFail, "version", "upgrade to 8.4 or 9", "Proxmox VE %s is not supported", v.Version)
	}
}

func versionNumbers(v string) (major, minor int) {
	first, rest, _ := strings.Cut(v, ".")
	second, _, _ := strings.Cut(rest, ".")
	major, _ = strconv.Atoi(first)
	minor, _ = strconv.Atoi(second)
	return major, minor
}

func (dr *doctor) checkCertificates(seats []proxmox.Seat) {
	seen := make(map[string]bool)
	for _, s := range seats {
		c := s.Certificate
		if c == nil || seen[c.Fingerprint] {
			if c == nil && s.Err == nil {
				dr.d.add(stateWarn, "certificate", "use https for anything but trials", "%s is plain HTTP, on this machine alone", s.URL)
			}
			continue
		}
		seen[c.Fingerprint] = true
		how := "trusted by the system's authorities"
		switch {
		case c.Pinned:
			how = "trusted by its fingerprint"
		case dr.c.Host.Proxmox.CAFile != "":
			how = "trusted by " + dr.c.Host.Proxmox.CAFile
		}
		left := c.NotAfter.Sub(dr.now())
		until := c.NotAfter.Format(time.DateOnly)
		switch {
		case c.Pinned:
			// Its end means nothing, but a renewal changes the fingerprint.
			dr.d.ok("certificate", "%s: %s, until it is renewed (%s)", s.URL, how, until)
		case left < certificateSoon:
			dr.d.add(stateWarn, "certificate", "pvenode cert, or pvecm updatecerts on the node", "%s: %s, expires on %s", s.URL, how, until)
		default:
			dr.d.ok("certificate", "%s: %s, until %s", s.URL, how, until)
		}
	}
}

// checkNodes looks at each node: whether it can be asked itself, its clock, and
// how far back it remembers its tasks.
func (dr *doctor) checkNodes(ctx context.Context, seats []proxmox.Seat) {
	urls := make(map[string]proxmox.Seat)
	for _, s := range seats {
		if s.For != "" {
			urls[s.For] = s
		}
	}
	online := seats[0].Online
	for _, node := range slices.Sorted(maps.Keys(urls)) {
		if _, there := online[node]; !there {
			dr.d.add(stateFail, "node "+node, "correct host.proxmox.nodes", "the cluster has no such node")
		}
	}
	for _, node := range slices.Sorted(maps.Keys(online)) {
		dr.progress("look at node " + node)
		if !online[node] {
			dr.d.add(stateWarn, "node "+node, "bring it back: nothing is launched on it, and what was in flight there waits", "it is offline")
			continue
		}
		s, listed := urls[node]
		switch {
		case !listed && (dr.host.Mode() != proxmox.ModeAttempt || seats[0].Node == node):
			dr.d.ok("node "+node, "online")
		case !listed:
			dr.d.add(stateWarn, "node "+node, "name its URL in host.proxmox.nodes", "online, and its URL is not known: no fence can be confirmed for what runs there")
		case s.Err != nil:
			dr.d.add(stateFail, "node "+node, "correct host.proxmox.nodes, or its certificate", "%s: %v", s.URL, s.Err)
		case s.Node != node:
			dr.d.add(stateFail, "node "+node, "correct host.proxmox.nodes", "at %s it is node %s that answers", s.URL, orDash(s.Node))
		case !s.Quorate:
			dr.d.add(stateFail, "node "+node, "bring it back into the cluster", "at %s it answers, and it is not part of a quorate cluster", s.URL)
		default:
			dr.d.ok("node "+node, "online, answers at %s", s.URL)
		}
		dr.checkClock(ctx, node)
		dr.checkHistory(ctx, node)
	}
}

func (dr *doctor) checkClock(ctx context.Context, node string) {
	const check, remedy = "clock of ", "set the clocks of this machine and the node by the same time server"
	ahead, doubt, err := dr.host.ClockAhead(ctx, node, dr.now)
	limit := time.Duration(dr.c.Limits.ClockSkew)
	size := ahead.Abs() - doubt // what is certain
	switch {
	case err != nil:
		dr.d.add(stateFail, check+node, "give the API token Sys.Audit on /nodes", "%v", err)
	case size > limit:
		dr.d.add(stateFail, check+node, remedy, "it is off by %s, more than limits.clock_skew (%s): nothing is launched", roughly(ahead), limit)
	case size > limit/4:
		dr.d.add(stateWarn, check+node, remedy, "it is off by %s; beyond %s (limits.clock_skew) nothing is launched", roughly(ahead), limit)
	default:
		dr.d.ok(check+node, "within %s of this machine's", max(time.Second, (ahead.Abs()+doubt).Round(time.Second)))
	}
}

// roughly says how far a clock is off, and to which side.
func roughly(ahead time.Duration) string {
	side := "ahead"
	if ahead < 0 {
		side = "behind"
	}
	return fmt.Sprintf("%s (%s)", ahead.Abs().Round(time.Second), side)
}

// checkHistory compares how far back a node remembers its tasks with how long a
// document may be valid: what became of an attempt is found there.
func (dr *doctor) checkHistory(ctx context.Context, node string) {
	const check = "tasks of "
	now := dr.now()
	t, err := dr.host.Tasks(ctx, node, now)
	switch {
	case err != nil:
		dr.d.add(stateFail, check+node, "give the API token Sys.Audit on /nodes", "%v", err)
		return
	case t.Oldest.IsZero():
		dr.d.add(stateWarn, check+node, "let any task run there once, such as the start of a guest",
			"it lists no task that has ended: if the reply to a launch is lost, that no task began can't be shown")
		return
	}
	found := fmt.Sprintf("%s, the oldest ended %s ago, %d within a day", count(t.Rows, "task is listed", "tasks are listed"), span(now.Sub(t.Oldest)), t.LastDay)
	need := max(dr.lifetime, dr.lease())
	if t.Kept > 0 && t.Kept < need {
		dr.d.add(stateWarn, check+node, "recover within that time: after it, what became of a launch whose reply was lost has to be settled by people",
			"%s: at that rate a task may be forgotten after %s, and documents may be valid for %s", found, span(t.Kept), span(need))
		return
	}
	if t.Kept > 0 {
		found += fmt.Sprintf("; at that rate none is forgotten within %s", span(t.Kept))
	}
	dr.d.ok(check+node, "%s", found)
}

func (dr *doctor) lease() time.Duration {
	if l := time.Duration(dr.c.Host.Proxmox.AttemptLease); l > 0 {
		return l
	}
	return proxmox.DefaultAttemptLease
}

// span says a time roughly, in the largest unit that fits twice.
func span(d time.Duration) string {
	switch {
	case d >= 48*time.Hour:
		return strconv.Itoa(int(d/(24*time.Hour))) + " days"
	case d >= 2*time.Hour:
		return strconv.Itoa(int(d/time.Hour)) + " hours"
	case d >= 2*time.Minute:
		return strconv.Itoa(int(d/time.Minute)) + " minutes"
	}
	return strconv.Itoa(max(0, int(d/time.Second))) + " seconds"
}
