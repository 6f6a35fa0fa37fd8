package main

import (
	"writ/adapters/httpapi/metrics"
	"writ/projections"
)

// watchFigures shows how the service stands to whoever asks for figures.
func (s *service) watchFigures() {
	var room func() (free, total uint64, err error)
	var syncs func() (count uint64, within map[float64]uint64, sum float64)
	if s.Store.embedded != nil {
		room, syncs = s.Store.embedded.Room, s.Store.embedded.SyncTimes
	}
	s.metrics.Watch(metrics.Sources{
		Engine: s.engine, Queue: s.inFlight, QueueLimit: s.opts.Config.Limits.Queue, Room: room, Syncs: syncs,
		Views: map[string]func() projections.Lag{
			"appliedkeys": s.keys.runner.Lag, "recoveryqueue": s.queue.runner.Lag, "attempts": s.attempts.runner.Lag, "status": s.ops.Lag,
		},
	})
}
