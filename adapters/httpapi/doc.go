// Package httpapi is the way in over HTTP: submit a writ, ask how an op
// stands, take a writ back, settle an op that the evidence does not decide,
// follow the ledger, audit it. It decides nothing. What it is given it bounds, checks for form,
// and hands to the engine; what the engine answers it puts into a status, a
// reason for programs and a sentence for people.
//
// The contract of a status: a 2xx to a submission means that the op took
// effect or still may, and that this is on record. Any other means that this
// submission did nothing, with one exception: 503 says that the claim is
// possibly written. Sending the same writ again is always safe, and tells.
//
// Every error is an application/problem+json document (RFC 9457) with a reason
// from a closed set. Envelopes, tokens and whole nonces never reach the log.
//
// Those who follow the ledger (GET /v1/events) read it at their own pace:
// nothing is kept for a slow one, who is cut off and goes on from its cursor.
// Whoever may read is never shown an envelope that could still be submitted;
// the rule stands in events_shown.go.
//
// An [API] is a handler; [API.Serve] puts a server with bounds on time and
// size around it. Callers are told apart by bearer tokens, of which only the
// SHA-256 is known here, or by TLS client certificates. Where neither is
// configured the server listens on loopback addresses alone, and answers only
// requests that are addressed to one.
package httpapi
