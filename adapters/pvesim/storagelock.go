package pvesim

import "time"

// diskLock and backupLock name the lock files of a node that disk management
// and backups take.
var (
	diskLock   = flockKey{kind: "pve-diskmanage"}
	backupLock = flockKey{kind: "vzdump"}
)

// storageLock is the lock of one storage: of the cluster for a shared one, of
// the node otherwise.
func (st *storage) storageLock(n *node) (key flockKey, failed func(why string) string) {
	if st.Shared {
		return flockKey{kind: Kind("storage " + st.ID)}, func(why string) string {
			if why == "got timeout" {
				why = "got lock request timeout"
			}
			return "cfs-lock 'storage-" + st.ID + "' error: " + why
		}
	}
	return flockKey{node: n.name, kind: Kind("storage " + st.ID)}, lockFailure("/var/lock/pve-manager/pve-storage-" + st.ID)
}

func lockFailure(path string) func(why string) string {
	return func(why string) string { return "can't lock file '" + path + "' - " + why }
}

// takeLock waits for a lock that the worker keeps until it ends, or until
// unlock; failed words what it dies of otherwise.
func (t *task) takeLock(key flockKey, limit time.Duration, failed func(why string) string, resume func(failure string)) {
	s := t.s
	l := s.flocks[key]
	if l == nil {
		l = &lock{}
		s.flocks[key] = l
	}
	if l.held {
		t.print("trying to acquire lock...")
		t.waiting = failed
	}
	waited := l.held
	abandon := s.acquire(l, limit, func(got bool) {
		t.waiting, t.abandon = nil, nil
		if !got {
			resume(failed("got timeout"))
			return
		}
		t.release = append(t.release, func() { s.release(l) })
		if waited {
			t.print(" OK")
		}
		resume("")
	})
	if t.waiting != nil {
		t.abandon = abandon
	}
}

// HoldStorageLock takes the lock of a storage on node, as another task would. It
// reports false if there is no such storage or somebody has the lock.
func (s *Sim) HoldStorageLock(node, id string) (release func(), ok bool) {
	release = func() {}
	s.do(func() {
		n, st := s.nodes[node], s.stores[id]
		if n == nil || st == nil {
			return
		}
		key, _ := st.storageLock(n)
		l := s.flocks[key]
		if l == nil {
			l = &lock{}
			s.flocks[key] = l
		}
		release, ok = s.hold(l)
	})
	return release, ok
}

// withStorageConfig runs write under the cluster-wide lock of storage.cfg on
// behalf of node n, and then calls done with the failure of either.
func (s *Sim) withStorageConfig(n *node, write func() string, done func(failure string)) {
	if !n.quorate {
		// The lock lives in /etc/pve: the caller polls for ten seconds.
		s.after(lockTimeout, func() { done("cfs-lock 'file-storage_cfg' error: no quorum!") })
		return
	}
	done(write())
}
