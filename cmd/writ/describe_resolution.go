package main

import (
	"fmt"
	"io"
	"time"

	"writ/domain/op"
	"writ/domain/signedop"
)

// A verdictWords is what a resolution says, in plain words, and what follows from it.
type verdictWords struct{ says, follows string }

func wordsOf(r signedop.Resolution) verdictWords {
	const spent = "The nonce is spent: this writ never runs again. Whoever still wants it done signs a new one, over the guest as it is then."
	switch {
	case r.Verdict == signedop.VerdictSucceeded:
		return verdictWords{
			"It SUCCEEDED: this attempt did all that the writ orders.",
			"It is on record as done, on your word. The nonce is spent: this writ never runs again.",
		}
	case r.Effect == op.EffectNone:
		return verdictWords{
			"It FAILED WITHOUT ANY EFFECT: this attempt changed nothing, and no request or task of it can act any more.",
			"THE SAME WRIT MAY RUN ONCE MORE, while it is valid, as soon as anybody submits it. If you are wrong, it is done twice. " +
				"The service takes this only if it can itself make certain that nothing of the attempt can act any more.",
		}
	case r.Effect == op.EffectPartial:
		return verdictWords{"It FAILED HALF-WAY: this attempt did a part of what the writ orders.", spent}
	default:
		return verdictWords{"It FAILED, and what it did is not known: nothing, a part, or all of it.", spent}
	}
}

// describeResolution tells a person in plain words what a resolution claims,
// and what follows from it once it is handed in.
func describeResolution(w io.Writer, r signedop.Resolution, now time.Time) {
	c := wordsOf(r)
	fmt.Fprintf(w, "  Attempt %d of op %s\n\n", r.Attempt, r.Nonce.Short())
	fmt.Fprintf(w, "  The claim:    %s\n", c.says)
	fmt.Fprintf(w, "  What follows: %s\n", c.follows)
	if r.Effect != op.EffectNone {
		// Of effect none the service makes certain itself.
		fmt.Fprint(w, "  Mind:         writ no longer holds other orders for this target back. If a request of the attempt can still be on\n"+
			"                its way in the host, it may act later, on whatever has the target's number then.\n")
	}
	fmt.Fprintln(w)
	row := func(name, format string, args ...any) {
		fmt.Fprintf(w, "  %-13s %s\n", name, fmt.Sprintf(format, args...))
	}
	row("Reason", "%s", r.Reason)
	row("Requested by", "%s", r.RequestedBy)
	row("Signed as", "%s", r.Role)
	row("For", "%s (agent/ledger)", r.Audience)
	row("Valid", "%s, and only as long as event %d is the newest of the op", validity(r.NotBefore, r.ExpiresAt, now), r.Revision)
}
