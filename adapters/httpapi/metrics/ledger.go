package metrics

import (
	"context"
	"errors"
	"strings"
	"sync"
	"time"

	"writ/domain/eventstore"
	"writ/domain/op"
)

// Store wraps the ledger that the engine writes to: it measures appends, and
// counts what they put on record.
func (m *Metrics) Store(s eventstore.Store) eventstore.Store { return &store{s, m} }

type store struct {
	eventstore.Store

	m *Metrics
}

// Append implements [eventstore.Appender].
func (s *store) Append(ctx context.Context, stream eventstore.StreamID, expected eventstore.Expected, events ...eventstore.Proposed) (eventstore.Appended, error) {
	began := s.m.now()
	done, err := s.Store.Append(ctx, stream, expected, events...)
	ended := s.m.now()
	s.m.appends.WithLabelValues(outcome(err)).Observe(ended.Sub(began).Seconds())
	// An append that is repeated because its outcome was unknown is counted
	// when its answer is definite: once.
	if err == nil {
		if strings.HasPrefix(string(stream), op.StreamPrefix) {
			s.m.newest.advance(done.Position, ended)
		}
		for _, e := range events {
			s.m.count(e.Type, e.Data)
		}
	}
	return done, err
}

func outcome(err error) string {
	var wrong *eventstore.WrongRevisionError
	switch {
	case err == nil:
		return "ok"
	case errors.As(err, &wrong):
		return "lost"
	case eventstore.Definite(err):
		return "invalid"
	}
	return "unknown"
}

// count counts an event that is on record. One that can't be read is not
// counted; whoever reads the ledger will be told of it.
func (m *Metrics) count(typ string, data []byte) {
	switch typ {
	case op.TypeRefused:
		var r op.Refused
		if op.Unmarshal(data, &r) == nil {
			m.refusals.WithLabelValues(r.Reason).Inc()
		}
		return
	case op.TypeRefusalsCounted:
		var r op.RefusalsCounted
		if op.Unmarshal(data, &r) == nil {
			for reason, n := range r.ByReason {
				m.refusals.WithLabelValues(reason).Add(float64(max(0, n)))
			}
		}
		return
	case op.TypeContested:
		m.contested.Inc()
		return
	case op.TypeLaunching, op.TypeTaskRunning:
		return // nothing is counted of them
	}
	e, err := op.Decode(typ, data)
	if err != nil {
		return
	}
	class := string(op.HeaderOf(e).Class)
	switch e := e.(type) {
	case *op.Started:
		m.started.WithLabelValues(class).Inc()
	case *op.Succeeded:
		m.ended.WithLabelValues(class, "succeeded", "", string(op.EffectDone)).Inc()
	case *op.Failed:
		m.ended.WithLabelValues(class, "failed", string(e.Kind), string(e.Effect)).Inc()
	case *op.Voided:
		m.ended.WithLabelValues(class, "voided", "", "").Inc()
	}
}

// newest is the newest event of an op that this process put on record.
type newest struct {
	mu       sync.Mutex // guards what follows
	position eventstore.Position
	at       time.Time
}

// advance takes appends in any order: they are answered concurrently.
func (n *newest) advance(p eventstore.Position, at time.Time) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if p > n.position || n.at.IsZero() {
		n.position, n.at = p, at
	}
}

func (n *newest) get() (eventstore.Position, time.Time) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.position, n.at
}
