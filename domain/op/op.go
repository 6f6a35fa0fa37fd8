// Package op is the aggregate of writ: one requested operation, identified by
// its nonce, whose whole life is the stream of its events.
//
// The package knows which events there are (events.go), in which order they
// may follow one another (machine.go), how a stream of them is folded into a
// state (fold.go), and how each is bound to all before it (chain.go). It does
// no I/O, reads no clock and makes no random number: the same stream always
// folds into the same Op, on the launcher, in a replica and at an auditor's
// desk.
//
// The state machine is consulted before every append and again at every fold,
// so an illegal stream can neither be written by this program nor be read by
// it without a *CorruptStreamError.
package op

import (
	"fmt"
	"strings"
)

// Bounds of a nonce in hexadecimal digits: 128 to 512 bits.
const (
	MinNonceDigits = 32
	MaxNonceDigits = 128
)

// A Nonce is an op's identity, anti-replay token and idempotency key in one:
// 128 to 512 random bits as lower-case hex. Who knows the nonce of a writ that
// has not run yet may be able to present it, so it is never logged whole.
type Nonce string

// ParseNonce accepts exactly the canonical form.
func ParseNonce(s string) (Nonce, error) {
	switch {
	case len(s) < MinNonceDigits:
		return "", fmt.Errorf("nonce: %d hex digits, at least %d are required (128 random bits)", len(s), MinNonceDigits)
	case len(s) > MaxNonceDigits:
		return "", fmt.Errorf("nonce: %d hex digits, at most %d are allowed", len(s), MaxNonceDigits)
	case len(s)%2 != 0:
		return "", fmt.Errorf("nonce: %d hex digits, an even number is required (whole bytes)", len(s))
	}
	for i := range len(s) {
		if !isHexDigit(s[i]) {
			return "", fmt.Errorf("nonce: byte %d is not a lower-case hex digit", i)
		}
	}
	return Nonce(s), nil
}

// NonceOf makes a nonce of random bits, for an op that nobody has signed.
func NonceOf(random Claim) Nonce { return Nonce(hexText(random[:])) }

func isHexDigit(c byte) bool { return '0' <= c && c <= '9' || 'a' <= c && c <= 'f' }

const streamPrefix = "op-"

// StreamPrefix is what the streams of all ops begin with.
const StreamPrefix = streamPrefix

// Stream is the name of the op's stream.
func (n Nonce) Stream() string { return streamPrefix + string(n) }

// NonceOfStream gives the nonce whose stream this is; false for the name of
// any other stream.
func NonceOfStream(stream string) (Nonce, bool) {
	s, ok := strings.CutPrefix(stream, streamPrefix)
	if !ok {
		return "", false
	}
	n, err := ParseNonce(s)
	return n, err == nil
}

// Short is how a nonce is shown to people and logs: enough to recognise it,
// too little to use it.
func (n Nonce) Short() string {
	if len(n) <= 8 {
		return string(n)
	}
	return string(n[:8]) + "…"
}

// String is Short, so that a nonce that is printed by accident is not shown
// whole. Convert to string for the nonce itself.
func (n Nonce) String() string { return n.Short() }

// GoString is Short, quoted.
func (n Nonce) GoString() string { return fmt.Sprintf("%q", n.Short()) }
