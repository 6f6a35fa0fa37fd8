//go:build unix

package main

import (
	"os"
	"syscall"
)

// lockFolder waits until no other process holds the folder's lock, and then
// holds it until unlock is called or the process ends.
func lockFolder(dir string) (unlock func(), err error) {
	f, err := os.Open(dir) //nolint:gosec // the path is the operator's
	if err != nil {
		return nil, fileError("lock", dir, err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX); err != nil {
		_ = f.Close()
		return nil, fileError("lock", dir, err)
	}
	return func() { _ = f.Close() }, nil // which gives the lock back
}
