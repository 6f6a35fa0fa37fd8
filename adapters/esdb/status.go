package esdb

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"writ/domain/eventstore"
)

// errLate ends what takes longer than the options allow.
var errLate = errors.New("no answer within the call's time")

// A callError is a gRPC status without gRPC's types: they stay in this
// package. It never proves that an append did not happen.
type callError struct {
	code codes.Code
	why  string
}

func (e *callError) Error() string {
	switch e.code {
	case codes.Unauthenticated:
		return e.why + " (user or password are wrong, or missing)"
	case codes.PermissionDenied:
		return e.why + " (the account must be allowed to read $all and to write streams)"
	}
	return e.why
}

// A notLeaderError says that a node does not lead, and perhaps who does.
type notLeaderError struct {
	leader string // host:port; empty if it did not say
}

func (e *notLeaderError) Error() string {
	if e.leader == "" {
		return "the node is not the leader"
	}
	return "the node is not the leader, which is " + e.leader
}

// ended gives the error of a context that has ended: ours if it is our limit
// that was reached, otherwise the context's own, which the caller may test.
func ended(ctx context.Context) error {
	if cause := context.Cause(ctx); errors.Is(cause, errLate) {
		return cause
	}
	return ctx.Err()
}

// plain gives a gRPC error as ours; a context's error stays what it is.
func plain(err error) error {
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	s := status.Convert(err)
	return &callError{code: s.Code(), why: fmt.Sprintf("%s: %s", s.Code(), clip(s.Message()))}
}

// maxMessageText bounds what a server can put into our errors and logs.
const maxMessageText = 300

func clip(s string) string {
	if len(s) > maxMessageText {
		return s[:maxMessageText] + "…"
	}
	return s
}

// errDeleted says that a stream was deleted for good. Which one, the caller
// knows better than the trailer.
var errDeleted = errors.New("deleted for good")

// deletedFrom names the stream that was deleted, if that is the error.
func deletedFrom(stream eventstore.StreamID, err error) error {
	if errors.Is(err, errDeleted) {
		return &eventstore.CorruptError{Stream: stream, Why: "it was deleted for good (tombstone)"}
	}
	return err
}

// failed says what a call that ended with a status means, and gives the link
// up if it can't be used any more. began is the link's time when the call
// began.
func (c *client) failed(ctx context.Context, l *link, began int64, err error, trailer metadata.MD) error {
	switch code := status.Code(err); {
	case ctx.Err() != nil:
		// Other callers' silence would be ended one by one; a link on which
		// nothing at all was heard for a whole call is dead.
		if errors.Is(ended(ctx), errLate) && l.silentSince(began) {
			c.leave(l, "")
		}
		return ended(ctx)
	case first(trailer, "exception") == "not-leader":
		not := &notLeaderError{leader: leaderIn(trailer)}
		c.leave(l, not.leader)
		return not
	case first(trailer, "exception") == "stream-deleted":
		return errDeleted
	case code == codes.Unavailable && (!l.alive() || c.target.node == ""):
		// Of a cluster, another node may lead by now. A single node that
		// answers so is busy, and would not be less so after reconnecting.
		c.leave(l, "")
	case code == codes.OK:
		return &callError{code: codes.Unknown, why: "the call ended without an answer"}
	}
	return plain(err)
}

func first(md metadata.MD, key string) string {
	if v := md.Get(key); len(v) > 0 {
		return v[0]
	}
	return ""
}

func leaderIn(trailer metadata.MD) string {
	host, port := first(trailer, "leader-endpoint-host"), first(trailer, "leader-endpoint-port")
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 || host == "" || len(host) > 255 {
		return ""
	}
	return net.JoinHostPort(host, port)
}

// lasting tells whether asking again would get the same answer.
func lasting(err error) bool {
	var corrupt *eventstore.CorruptError
	var odd *replyError
	if errors.As(err, &corrupt) || errors.As(err, &odd) || errors.Is(err, eventstore.ErrClosed) ||
		errors.Is(err, eventstore.ErrStreamNotFound) || errors.Is(err, context.Canceled) ||
		errors.Is(err, context.DeadlineExceeded) || errors.Is(err, errLate) || errors.Is(err, errDeleted) {
		return true
	}
	var call *callError
	if !errors.As(err, &call) {
		return false
	}
	switch call.code {
	case codes.Unauthenticated, codes.PermissionDenied, codes.InvalidArgument, codes.Unimplemented:
		return true
	}
	return false
}

// A replyError says that a server's answer makes no sense. Nothing follows
// from such an answer, least of all that an append happened or did not.
type replyError struct {
	why    string
	inside error // nil, or what the caller may ask for
}

func (e *replyError) Error() string {
	if e.inside != nil {
		return fmt.Sprintf("the server's answer makes no sense: %s: %s", e.inside, e.why)
	}
	return "the server's answer makes no sense: " + e.why
}

func (e *replyError) Unwrap() error { return e.inside }

func nonsense(format string, args ...any) error {
	return &replyError{why: fmt.Sprintf(format, args...)}
}

// several is more than one error in one line.
type several []error

// together gives all of several errors, or the only one.
func together(errs ...error) error {
	if len(errs) == 1 {
		return errs[0]
	}
	return several(errs)
}

func (s several) Error() string {
	said := make([]string, len(s))
	for i, err := range s {
		said[i] = err.Error()
	}
	return strings.Join(said, "; ")
}

func (s several) Unwrap() []error { return s }
