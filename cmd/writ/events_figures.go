package main

import (
	"writ/adapters/httpapi/metrics"
	"writ/projections"
)

// watchFigures shows how the service stands to whoever asks for figures.
func (s *service) watchFigures() {
	var room func() (free, total uint64, err error)
	if s.Store.embedded != nil {
		room = s.Store.embedded.Room
	}
	s.metrics.Watch(metrics.Sources{
		Engine: s.engine, Queue: s.inFlight, QueueLimit: s.opts.Config.Limits.Queue, Room: room,
		Views: map[string]func() projections.Lag{
			"appliedkeys": s.keys.runner.Lag, "recoveryqueue": s.queue.runner.Lag, "attempts": s.attempts.runner.Lag, "status": s.ops.Lag,
		},
	})
}
