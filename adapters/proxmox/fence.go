package proxmox

import (
	"context"
	"errors"
	"fmt"
	"time"

	"writ/domain/engine"
	"writ/domain/op"
)

// fenceTimeout bounds how long a node is given to see that a token is dead; where
// all is well that takes some 20 ms.
const fenceTimeout = 30 * time.Second

// A fencing puts up the fence against one attempt's request that may still be on
// its way. Where it may be, and what stops it there:
//
//   - before the check of its credential, at the guest's node: the token is dead,
//     and that node was seen to know. The acknowledgement of the write alone would
//     not do, it comes from another copy of the cluster's files.
//   - past that check, its task not begun, or begun and waiting: the guest's
//     protection. The write that sets it takes the lock that a destroy works
//     under, and a destroy reads it again under that lock: so when the write is
//     acknowledged, every destroy of this guest has either ended or will fail.
//     So it is with a restore over a virtual machine (restoreGuard); not with one
//     over a container, nor with any other class.
//
// Neither stands in for the other: the first does not reach what has passed the
// check, and the second can be lifted by anyone who may, upon which a request
// still waiting with a good token would destroy the guest.
type fencing struct {
	host    *Host
	target  attempt
	before  op.Observed
	opID    string
	number  int
	who     sender
	reasons []string
	gone    bool
	digest  string
}

func (f *fencing) say(format string, args ...any) {
	f.reasons = append(f.reasons, fmt.Sprintf(format, args...))
}

// Fence implements engine.Executor. It may be repeated at will: what stands is not
// written again. It makes a token's expiry and a guest's protection only ever
// stricter; to lift the protection, once a person has looked, is that person's.
//
// With the attempt's own token it is confirmed only if each part stands: the
// token is dead, as the guest's node itself says; the guest is the announced one
// and is protected; and that node's tasks were looked through once more. With a
// shared token it is never confirmed: the protection holds only until a person
// lifts it, and a request that still waits then destroys the guest.
//
// A request that the guest's protection does not hold back, or only if it comes
// early enough, has no such part, and its fence is never confirmed either. Where
// it may come early enough the guest is protected nevertheless.
//
// Protection can't be set on a guest that does not exist, so a fence that finds
// it gone is never confirmed: a request that had passed the check in time could
// still destroy a guest that gets the VMID next.
//
// A task of the attempt that has begun is not what a fence is about: it is named
// in the reasons and must be looked for with FindTasks. An error means that the
// announcement makes no sense, or that ctx has ended.
func (x *executor) Fence(ctx context.Context, announced *op.Launching) (engine.Fence, error) {
	t, err := x.announced(announced)
	if err != nil {
		return engine.Fence{}, fmt.Errorf("fence: %w", err)
	}
	who, err := x.host.senderOf(announced)
	if err != nil {
		return engine.Fence{}, fmt.Errorf("fence: %w", err)
	}
	f := &fencing{host: x.host, target: t, before: announced.Observed, opID: announced.OpID, number: announced.Attempt, who: who}
	token := f.killToken(ctx)
	guest := false
	switch {
	case t.guard() == guarded:
		guest = f.protect(ctx)
	case t.guard() == guardedEarly:
		// Confirmed, it would let effect none go on record while the request
		// waits for the guest's lock with the protection of before in its hand.
		f.protect(ctx)
		f.say("the host reads the protection of a container before it takes the lock of its configuration, and not again: a %s that waits in between is not held back. "+
			"Look whether one is still waiting on node %s, or restart pvedaemon and pveproxy there, before it is settled", t.conduct.class, t.node)
	case !t.conduct.byRoot:
		f.say("nothing at the host holds back a request of class %s that had passed the check of its token: look whether one is still waiting on node %s, "+
			"or restart pvedaemon and pveproxy there, before it is settled", t.conduct.class, t.node)
	}
	tasks := f.look(ctx, announced)
	if err := ctx.Err(); err != nil {
		return engine.Fence{}, fmt.Errorf("fence %s: %w", announced.Target, err)
	}
	return engine.Fence{Confirmed: token && guest && tasks, Gone: f.gone, Digest: f.digest, Reasons: f.reasons}, nil
}

// killToken is the token's part. True: whoever asks the guest's node with it from
// now on is refused.
func (f *fencing) killToken(ctx context.Context) bool {
	switch {
	case f.target.conduct.byRoot:
		f.say("the request was sent with a ticket of %s, which can't be made void: one still waiting in the host would wipe whatever disk is at %s then; "+
			"restart pvedaemon and pveproxy on node %s before it is settled", rootUser, f.target.target.Disk, f.target.node)
		return false
	case f.who.name == "":
		f.say("the request was sent with a token that others use too, so it can't be made void: once the guest's protection is lifted, "+
			"a request still waiting in the host would destroy the guest; restart pvedaemon and pveproxy on node %s before", f.target.node)
		return false
	case f.who.stranger != "":
		f.say("the attempt's token can't be made void: %s", f.who.stranger)
		return false
	}
	by := f.target.subject()
	by.user, by.token = f.host.service.user, f.who.name
	at, other, err := f.host.quorateNode(ctx, f.target.node)
	if err == nil {
		_, err = f.host.retire(ctx, at, by, fmt.Sprintf("writ tombstone op=%s attempt=%d %s", f.opID, f.number, f.target.note()))
	}
	switch {
	case err != nil:
		f.say("the attempt's token could not be made void: %v", err)
	case other:
		f.say("the attempt's token was made void through another node (%s)", at.base.Host)
	default:
		f.say("the attempt's token was made void through the guest's own node, there was no other to ask")
	}
	// Asked for even after an error: the write may have got through, or the token
	// may have been made void before.
	if err := f.readBack(ctx, by); err != nil {
		f.say("node %s is not known to refuse the attempt's token: %v. If it can't be asked, its own clock ends the token at the end of its lease, "+
			"after which it starts nothing new; ask again, and look at its tasks, when it is back", f.target.node, err)
		return false
	}
	f.say("node %s itself shows the token as void", f.target.node)
	return true
}

// Pauses between two looks at a node that does not know yet.
const (
	firstPause = 20 * time.Millisecond
	lastPause  = 2 * time.Second
)

// readBack waits until the guest's node itself shows the token as dead.
func (f *fencing) readBack(ctx context.Context, by subject) error {
	ctx, cancel := context.WithTimeout(ctx, f.host.fenceTimeout)
	defer cancel()
	at, err := f.host.directly(ctx, f.target.node)
	if err != nil {
		return err
	}
	var known error // what was last seen of the node
	for pause := firstPause; ; pause = min(2*pause, lastPause) {
		t, found, err := f.host.readToken(ctx, at, by)
		switch {
		case err != nil && known != nil && ctx.Err() != nil:
			return known // only this last question was cut short
		case err != nil && !unreachable(err):
			return err
		case err == nil && found && t.Expire == dead:
			return nil
		case err == nil && found:
			known = errors.New("it still shows the token as good, it is behind the others")
		case err == nil:
			known = errors.New("it shows no such token yet, it is behind the others")
		default:
			known = err
		}
		if wait(ctx, pause) != nil {
			return known
		}
	}
}

// wait returns when d has passed, or with an error when ctx has ended.
func wait(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// look is the last part: the node's tasks, once more.
func (f *fencing) look(ctx context.Context, announced *op.Launching) bool {
	var s engine.TaskSearch
	s.Exact = f.who.name != ""
	tr, err := f.host.trailOf(ctx, f.target, announced, f.who)
	if err == nil {
		err = f.host.searchNode(ctx, tr, &s)
	}
	if err != nil {
		f.say("the tasks of node %s could not be looked through: %v", f.target.node, err)
		return false
	}
	for _, upid := range s.UPIDs {
		f.say("a task that can be this attempt's has begun, follow it: %s", upid)
	}
	if len(s.UPIDs) == 0 {
		f.say("no task of the attempt was found on node %s", f.target.node)
	}
	f.reasons = append(f.reasons, s.Reasons...)
	return true
}
