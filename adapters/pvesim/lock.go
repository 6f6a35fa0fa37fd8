package pvesim

import "time"

// flockKey names the lock file of one guest config. It is keyed by kind and
// VMID, not by guest: that is why a waiting worker acts on whichever guest has
// the VMID by then.
type flockKey struct {
	node string
	kind Kind
	vmid int
}

// lock is an exclusive lock with waiters in order of arrival.
type lock struct {
	held    bool
	waiters []*waiter
}

type waiter struct {
	granted func()
	live    bool
}

// acquire calls then(true) under the mutex once the lock is had, or then(false)
// when limit has passed first. The returned function gives up waiting without
// calling then; it does nothing once then was called.
func (s *Sim) acquire(l *lock, limit time.Duration, then func(got bool)) (abandon func()) {
	if !l.held {
		l.held = true
		then(true)
		return func() {}
	}
	w := &waiter{live: true}
	cancel := s.after(limit, func() {
		w.live = false
		then(false)
	})
	w.granted = func() {
		cancel()
		then(true)
	}
	l.waiters = append(l.waiters, w)
	return func() {
		w.live = false
		cancel()
	}
}

// release passes the lock to the next live waiter.
func (s *Sim) release(l *lock) {
	for len(l.waiters) > 0 {
		w := l.waiters[0]
		l.waiters = l.waiters[1:]
		if w.live {
			w.live = false
			w.granted()
			return
		}
	}
	l.held = false
}

// flock returns the lock of a config file.
func (s *Sim) flock(n *node, kind Kind, vmid int) *lock {
	k := flockKey{n.name, kind, vmid}
	l := s.flocks[k]
	if l == nil {
		l = &lock{}
		s.flocks[k] = l
	}
	return l
}

func flockPath(kind Kind, vmid int) string {
	if kind == LXC {
		return "/run/lock/lxc/pve-config-" + itoa(vmid) + ".lock"
	}
	return "/var/lock/qemu-server/lock-" + itoa(vmid) + ".conf"
}

// HoldConfigLock takes the lock of a guest's config file on node, as another
// process would, waiting behind nobody: it reports false if somebody has it.
// Release it with the returned function.
func (s *Sim) HoldConfigLock(node string, kind Kind, vmid int) (release func(), ok bool) {
	s.do(func() {
		n := s.nodes[node]
		if n == nil {
			return
		}
		release, ok = s.hold(s.flock(n, kind, vmid))
	})
	return release, ok
}

// HoldUserConfig takes the cluster-wide lock of user.cfg, as a slow writer
// elsewhere would. It reports false if somebody has it.
func (s *Sim) HoldUserConfig() (release func(), ok bool) {
	s.do(func() { release, ok = s.hold(&s.userCfg) })
	return release, ok
}

func (s *Sim) hold(l *lock) (func(), bool) {
	if l.held {
		return func() {}, false
	}
	l.held = true
	released := false
	return func() {
		s.do(func() {
			if !released {
				released = true
				s.release(l)
			}
		})
	}, true
}

// withUserConfig runs write under the lock of user.cfg on behalf of node n, and
// then calls done with the lock's own failure, or "" if write ran.
func (s *Sim) withUserConfig(n *node, write func(), done func(lockErr string)) {
	if !n.quorate {
		// The lock lives in /etc/pve, which refuses writes: the caller polls for
		// ten seconds and nothing is ever written.
		s.after(lockTimeout, func() { done("cfs-lock 'file-user_cfg' error: no quorum!") })
		return
	}
	if n.view != nil {
		s.after(lockTimeout, func() { done("cfs-lock 'file-user_cfg' error: got lock request timeout") })
		return
	}
	s.acquire(&s.userCfg, lockTimeout, func(got bool) {
		if !got {
			done("cfs-lock 'file-user_cfg' error: got lock request timeout")
			return
		}
		s.after(s.pace.Write, func() {
			write()
			s.release(&s.userCfg)
			done("")
		})
	})
}
