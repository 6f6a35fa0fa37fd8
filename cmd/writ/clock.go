package main

import (
	"context"
	"crypto/rand"
	"time"

	"writ/domain/op"
)

// systemClock is the machine's clock. It implements engine.Clock.
type systemClock struct{}

// Now gives the time in UTC, with a reading of the monotonic clock.
func (systemClock) Now() time.Time { return time.Now().UTC() }

// Wait lets time pass.
func (systemClock) Wait(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// drawClaim gives 128 bits from the operating system's generator, which ends
// the program rather than give bad ones.
func drawClaim() op.Claim {
	var c op.Claim
	_, _ = rand.Read(c[:])
	return c
}
