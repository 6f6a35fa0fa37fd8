package proxmox

import (
	"context"
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"sync"

	"writ/domain/engine"
	"writ/domain/op"
)

// A conduct is how the ops of one class are carried out: what all classes have
// in common, from the token to the fence, asks it for what they have not. The
// functions are pure but for observe, further, recheck and probe.
type conduct struct {
	class op.Class

	// forDisk is how it is done to a disk as a whole, where the class has such
	// targets; nil if not.
	forDisk *conduct
	// byRoot: root@pam alone may, with a ticket. No token of the attempt is made.
	byRoot bool

	// observe looks at the target and at whatever else the intent is about.
	observe func(ctx context.Context, h *Host, a engine.Attempt) (op.Observed, error)

	// compose makes the one request of an intent on a target as observed. Node
	// and ids come checked.
	compose func(in op.Intent, seen op.Observed) op.Request

	// form is what requests of the class on the subject may look like. It is
	// written apart from compose: what leaves the process is checked by it.
	form func(s subject) form

	// task gives type and id of the task that the request starts.
	task func(t attempt) (typ, id string)

	// rights are what the attempt's token needs, and nothing beside.
	rights func(t attempt) []right

	// further are rights that the token needs too, and that the announcement does
	// not tell; nil if there are none.
	further func(ctx context.Context, h *Host, t attempt) ([]right, error)

	// refusals match the texts of status 500 with which the host refuses the
	// request before the fork of a task; nil if there are none but the common
	// ones.
	refusals func(t attempt) []*regexp.Regexp

	// idle is what the host answers in the place of a task if it finds nothing
	// to do; empty if it never does.
	idle string

	// untouched match the error texts with which a task ends before it has
	// changed anything.
	untouched []*regexp.Regexp

	// guard tells how far the guest's protection holds back a request that has
	// passed the check of its token; nil if it never does.
	guard func(op.GuestType) guard

	// recheck looks at the target once more, after the attempt's token got its
	// rights: an error says that it is not as it was announced.
	recheck func(ctx context.Context, h *Host, t attempt) error

	// probe tells by the host's state what the attempt did, where the end of
	// its tasks has not decided that already.
	probe func(ctx context.Context, p *probe) (engine.Finding, error)
}

// A guard is how far the guest's protection holds back a request that has passed
// the check of its token.
type guard int

const (
	// unguarded: the host does not ask for the protection.
	unguarded guard = iota
	// guardedEarly: the host reads the protection before it takes the lock that
	// a write of it takes, and not again: a request that is held up in between
	// acts whatever was written since.
	guardedEarly
	// guarded: whatever happens to the guest comes after a read of its
	// protection that no write of it can overtake any more.
	guarded
)

// alwaysGuarded is for classes that are held back whatever the guest's type.
func alwaysGuarded(op.GuestType) guard { return guarded }

// A form is what a request must look like: method and path to the letter, or
// the path by a pattern, all parameters of must, any of may, and no others.
type form struct {
	method    string
	path      string
	pathForm  *regexp.Regexp // in the place of path
	must, may params
}

// A right is one privilege on one object of the host's access control.
type right struct{ object, privilege string }

// conducts gives how each class is carried out. Nobody changes what it gives.
var conducts = sync.OnceValue(func() []*conduct {
	return slices.Concat(
		[]*conduct{destroyConduct(), restoreConduct(), backupConduct(), wipeConduct()},
		powerConducts(),
		snapshotConducts(),
		volumeConducts(),
	)
})

// Executors gives an executor for every class that this Host can carry out.
func (h *Host) Executors() map[op.Class]engine.Executor {
	all := make(map[op.Class]engine.Executor)
	for _, c := range conducts() {
		all[c.class] = &executor{host: h, conduct: c}
	}
	return all
}

// conductOf gives how a class is carried out, nil if it is not.
func conductOf(class op.Class) *conduct {
	all := conducts()
	i := slices.IndexFunc(all, func(c *conduct) bool { return c.class == class })
	if i < 0 {
		return nil
	}
	return all[i]
}

// on gives how it is done to a target.
func (c *conduct) on(t op.Target) *conduct {
	if t.Disk != "" && c.forDisk != nil {
		return c.forDisk
	}
	return c
}

// An attempt is an announcement, taken apart and checked.
type attempt struct {
	conduct *conduct
	request op.Request
	target  op.Target
	node    string   // that carries the request out
	guest   op.Guest // zero if the target is none
	seen    op.Observed
}

// mutation is the announced request.
func (t attempt) mutation() mutation {
	return mutation{kind: acts, by: t.subject(), request: t.request}
}

func (t attempt) subject() subject {
	return subject{conduct: t.conduct, node: t.node, guest: t.guest, target: t.target, seen: t.seen}
}

func (t attempt) guard() guard {
	if t.conduct.guard == nil {
		return unguarded
	}
	return t.conduct.guard(t.guest.Type)
}

// note tells what it is about, in the comment of a token.
func (t attempt) note() string {
	if t.target.Guest != nil {
		return fmt.Sprintf("target=%s/%d", t.guest.Type, t.guest.VMID)
	}
	return "target=" + strings.ReplaceAll(t.target.Key(), " ", "_")
}

// query is the announced query, empty if it can't be read.
func (t attempt) query() url.Values {
	q, err := url.ParseQuery(t.request.Query)
	if err != nil {
		return nil
	}
	return q
}

// onGuest makes the right of a class that acts on a guest.
func onGuest(privilege string) func(attempt) []right {
	return func(t attempt) []right { return []right{{"/vms/" + vmidText(t.guest.VMID), privilege}} }
}

// boolean is how the host takes a boolean in a query: 1 and 0 are the only ones.
func boolean(b bool) string {
	if b {
		return "1"
	}
	return "0"
}

// setBool sets a parameter that was given.
func setBool(q url.Values, name string, value *bool) {
	if value != nil {
		q.Set(name, boolean(*value))
	}
}

// observeGuest is for classes that are about a guest and nothing else.
func observeGuest(ctx context.Context, h *Host, a engine.Attempt) (op.Observed, error) {
	return h.ReadGuest(ctx, a.Intent.Target)
}
