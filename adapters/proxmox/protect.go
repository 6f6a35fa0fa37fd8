package proxmox

import (
	"context"
	"net/http"
	"net/url"
	"strings"

	"writ/domain/op"
)

// protectTries is how often a guest whose configuration changes is looked at again.
const protectTries = 3

// protect is the guest's part. True: the guest is the announced one, and every
// destroy of it that has not ended will fail.
func (f *fencing) protect(ctx context.Context) bool {
	for range protectTries {
		now, ok := f.identify(ctx)
		if !ok {
			return false
		}
		if now.Protection {
			// Who set it took the same lock, so what is said above holds for
			// whichever destroy came before.
			f.digest = now.Digest
			f.say("the guest is protected (protection=1); the fence stands while it stays so. A person lifts it when the op is settled")
			return true
		}
		err := f.setProtection(ctx, now)
		if err == nil {
			f.say("protection was set on the guest (protection=1, digest %s before)", now.Digest)
			continue // read it back
		}
		if isConflict(err) || isMissing(err, now.Node, f.target.guest) {
			continue // refused: it is not as it was just read, look again
		}
		// Whether it took effect is not known for all of these: only a look tells.
		if again, ok := f.identify(ctx); ok && again.Protection {
			f.digest = again.Digest
			f.say("the guest is protected (protection=1), though the answer to setting it was lost")
			return true
		}
		if e := asStatus(err); e != nil && e.Status == http.StatusForbidden {
			f.say("the guest could not be protected: %v: give VM.Config.Options on /vms/%d", err, f.target.guest.VMID)
		} else {
			f.say("the guest could not be protected: %v", err)
		}
		return false
	}
	f.say("the guest could not be protected: its configuration changes all the time")
	return false
}

// identify reads the guest, wherever it is, and tells whether it is the announced
// one, as a quorate node sees it.
func (f *fencing) identify(ctx context.Context) (op.Observed, bool) {
	where, err := f.host.locate(ctx, f.before.Node, f.target.guest)
	switch {
	case err != nil:
		f.say("the guest could not be read, so it was not protected: %v", err)
		return op.Observed{}, false
	case !where.found:
		f.gone = true
		f.say("there is no guest to protect: a request already past the check of its token could hit the next guest with VMID %d", f.target.guest.VMID)
		return op.Observed{}, false
	}
	now := where.config.seen
	state, err := f.host.stateAt(ctx, f.host.at(now.Node))
	switch {
	case err != nil:
		f.say("whether node %s is part of the quorum could not be asked, so the guest was not protected: %v", now.Node, err)
		return op.Observed{}, false
	case !state.quorate || !state.online[now.Node]:
		f.say("node %s is not part of a quorate cluster: nothing can be written there and nothing is proven; ask again when it is back", now.Node)
		return op.Observed{}, false
	case now.Lock == "destroyed":
		f.say("a destroy of the guest ended half-way (lock: destroyed), it can't be protected; only root on node %s can remove what is left", now.Node)
		return op.Observed{}, false
	}
	p := probe{guest: f.target.guest, before: f.before}
	alike := p.liken(now)
	switch is := alike.verdict(false); {
	case is == same, is == undecided && len(alike.unequal) == 0 && now.Digest == f.before.Digest:
		return now, true
	case is == different:
		f.gone = true
		f.say("VMID %d is another guest by now, which is not writ's to protect: %s", f.target.guest.VMID, alike.String())
	default:
		f.say("it can't be told whether the guest is the announced one, so it was not protected: %s", alike.String())
	}
	return op.Observed{}, false
}

// setProtection makes the host refuse to destroy the guest, if its configuration
// is still the one that was read. The node that has the guest does it itself.
func (f *fencing) setProtection(ctx context.Context, now op.Observed) error {
	h, at := f.host, f.host.at(now.Node)
	query := url.Values{"digest": {now.Digest}, "protection": {"1"}}
	m := mutation{
		kind: protects, by: subject{node: now.Node, guest: f.target.guest},
		request: op.Request{Method: http.MethodPut, Path: guestPath(now.Node, f.target.guest) + "/config", Query: query.Encode()},
	}
	var err error
	if h.service != nil {
		_, err = h.sendOwn(ctx, at, m)
	} else {
		_, err = h.send(ctx, at, m, h.shared, h.pollTimeout)
	}
	return err
}

// isConflict tells whether a write was refused because the configuration is not
// the one that was read.
func isConflict(err error) bool {
	e := asStatus(err)
	return e != nil && e.Status == http.StatusInternalServerError &&
		(strings.HasPrefix(e.Text(), "checksum mismatch") || strings.HasPrefix(e.Text(), "detected modified configuration"))
}
