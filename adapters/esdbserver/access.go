package esdbserver

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"strings"

	"github.com/EventStore/EventStore-Client-Go/v4/protos/streams"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
)

// A Password prints as [redacted].
type Password string

// String hides the password.
func (Password) String() string { return "[redacted]" }

// GoString hides the password.
func (Password) GoString() string { return "[redacted]" }

// LogValue hides the password.
func (Password) LogValue() slog.Value { return slog.StringValue("[redacted]") }

// A gatekeeper stands before every call: it asks who calls, turns failures into
// what the protocol says, and keeps a panic in one call from ending the others.
type gatekeeper struct {
	users map[string][sha256.Size]byte // nil: everyone is let in
	log   *slog.Logger
}

func newGatekeeper(users map[string]Password, log *slog.Logger) *gatekeeper {
	g := &gatekeeper{log: log}
	if users != nil {
		g.users = make(map[string][sha256.Size]byte, len(users))
	}
	for name, password := range users {
		g.users[name] = sha256.Sum256([]byte(password))
	}
	return g
}

// open are the calls that need no credentials: a client makes them before it
// has a connection to send any over.
var open = map[string]bool{
	"/event_store.client.server_features.ServerFeatures/GetSupportedMethods": true,
	"/event_store.client.gossip.Gossip/Read":                                 true,
}

var errCredentials = errors.New("wrong user or password")

// admit tells whether the call may be made. Credentials that are given must be
// right, even where none are needed.
func (g *gatekeeper) admit(ctx context.Context, method string) error {
	if g.users == nil {
		return nil
	}
	md, _ := metadata.FromIncomingContext(ctx)
	given := md.Get("authorization")
	if len(given) == 0 {
		if open[method] {
			return nil
		}
		return accessDenied("sign in first: this server takes no anonymous calls")
	}
	if err := g.check(given[0]); err != nil {
		return fail(codes.Unauthenticated, "%v", err)
	}
	return nil
}

func (g *gatekeeper) check(authorization string) error {
	scheme, rest, _ := strings.Cut(authorization, " ")
	if !strings.EqualFold(scheme, "basic") {
		return errors.New("only user and password are taken (Basic)")
	}
	both, err := base64.StdEncoding.DecodeString(strings.TrimSpace(rest))
	if err != nil {
		return errCredentials
	}
	name, password, _ := strings.Cut(string(both), ":")
	got := sha256.Sum256([]byte(password))
	want, known := g.users[name]
	// Compared for an unknown user too, so that the time tells nothing.
	if subtle.ConstantTimeCompare(got[:], want[:]) != 1 || !known {
		return errCredentials
	}
	return nil
}

func (g *gatekeeper) unary(ctx context.Context, req any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (answer any, err error) {
	defer func() {
		err = g.recovered(recover(), info.FullMethod, err)
		var f *failure
		if errors.As(err, &f) {
			// If it does not get through, the status still does.
			_ = grpc.SetTrailer(ctx, f.trailer)
		}
	}()
	if err := g.admit(ctx, info.FullMethod); err != nil {
		return nil, err
	}
	return next(ctx, req)
}

func (g *gatekeeper) stream(srv any, ss grpc.ServerStream, info *grpc.StreamServerInfo, next grpc.StreamHandler) (err error) {
	defer func() {
		err = g.recovered(recover(), info.FullMethod, err)
		var f *failure
		if errors.As(err, &f) {
			ss.SetTrailer(f.trailer)
		}
	}()
	if err := g.admit(ss.Context(), info.FullMethod); err != nil {
		if info.FullMethod == streams.Streams_Append_FullMethodName {
			drain(ss, new(streams.AppendReq), strangerBytes)
		}
		return err
	}
	return next(srv, ss)
}

// recovered turns a panic into an error of this call. What it was doing to the
// store is whole or was not begun; the store sees to that.
func (g *gatekeeper) recovered(panicked any, method string, err error) error {
	if panicked == nil {
		return err
	}
	g.log.Error("internal error in a call", "method", method, "err", fmt.Sprint(panicked), "stack", string(debug.Stack()))
	return fail(codes.Internal, "internal error")
}
