package metrics

import (
	"context"
	"errors"
	"net"
	"syscall"

	"writ/domain/engine"
	"writ/domain/op"
)

// What is asked of the host.
const (
	callFacts   = "facts"
	callTask    = "task"
	callObserve = "observe"
	callLaunch  = "launch"
	callFind    = "find-tasks"
	callFence   = "fence"
	callProbe   = "probe"
)

// Host wraps the host that the engine asks.
func (m *Metrics) Host(h engine.Host) engine.Host { return &host{h, m} }

// Executors wraps what carries out ops.
func (m *Metrics) Executors(byClass map[op.Class]engine.Executor) map[op.Class]engine.Executor {
	out := make(map[op.Class]engine.Executor, len(byClass))
	for class, e := range byClass {
		out[class] = &executor{e, m}
	}
	return out
}

type host struct {
	engine.Host

	m *Metrics
}

// Facts implements [engine.Host].
func (h *host) Facts(ctx context.Context, target op.Target) (op.Facts, error) {
	return observe(h.m, callFacts, func() (op.Facts, error) { return h.Host.Facts(ctx, target) })
}

// Task implements [engine.Host].
func (h *host) Task(ctx context.Context, upid string) (engine.Task, error) {
	return observe(h.m, callTask, func() (engine.Task, error) { return h.Host.Task(ctx, upid) })
}

type executor struct {
	engine.Executor

	m *Metrics
}

// Observe implements [engine.Executor].
func (e *executor) Observe(ctx context.Context, a engine.Attempt) (op.Observed, error) {
	return observe(e.m, callObserve, func() (op.Observed, error) { return e.Executor.Observe(ctx, a) })
}

// Launch implements [engine.Executor]. The error goes through as it is: on what
// it proves depends what is put on record.
func (e *executor) Launch(ctx context.Context, a engine.Attempt, announced *op.Launching) (string, error) {
	return observe(e.m, callLaunch, func() (string, error) { return e.Executor.Launch(ctx, a, announced) })
}

// FindTasks implements [engine.Executor].
func (e *executor) FindTasks(ctx context.Context, announced *op.Launching) (engine.TaskSearch, error) {
	return observe(e.m, callFind, func() (engine.TaskSearch, error) { return e.Executor.FindTasks(ctx, announced) })
}

// Fence implements [engine.Executor].
func (e *executor) Fence(ctx context.Context, announced *op.Launching) (engine.Fence, error) {
	return observe(e.m, callFence, func() (engine.Fence, error) { return e.Executor.Fence(ctx, announced) })
}

// Probe implements [engine.Executor].
func (e *executor) Probe(ctx context.Context, announced *op.Launching, exitStatus string, log []string) (engine.Finding, error) {
	return observe(e.m, callProbe, func() (engine.Finding, error) { return e.Executor.Probe(ctx, announced, exitStatus, log) })
}

// observe measures a call, and gives what it gave.
func observe[T any](m *Metrics, call string, ask func() (T, error)) (T, error) {
	began := m.now()
	v, err := ask()
	m.hostCalls.WithLabelValues(call).Observe(m.now().Sub(began).Seconds())
	if err != nil {
		m.hostErrors.WithLabelValues(call, kindOf(err)).Inc()
	}
	return v, err
}

// kindOf sorts errors for figures, and for nothing else.
func kindOf(err error) string {
	var timeout net.Error
	var dial *net.OpError
	var resolve *net.DNSError
	switch {
	case engine.IsOtherCopy(err):
		return "other-copy"
	case engine.IsDefinite(err):
		return "definite"
	case errors.Is(err, context.Canceled):
		return "cancelled"
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout():
		return "timeout"
	case errors.As(err, &dial), errors.As(err, &resolve), errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, syscall.ECONNRESET):
		return "unreachable"
	}
	return "other"
}
