// Package metrics counts what a service does, for Prometheus.
//
// It decides nothing and is asked by nobody but its handler. What it counts it
// sees from outside: a [Metrics] wraps the ledger and the host that the engine
// is given, observes the interface, and looks at queue and views whenever it is
// asked for figures. None of its wrappers changes a call, an answer or an
// error, and a service without them does the same.
//
// Counters begin at zero with the process. What must be counted over the life
// of a ledger is in the ledger.
//
// Labels take their values from closed sets: classes, reasons, kinds, the names
// of operations. No nonce, no name of a person, guest or caller is ever one.
package metrics

import (
	"net/http"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Buckets of times, in seconds. An append lasts as long as an fsync: from some
// tens of microseconds to what makes people look. A request may wait for the
// end of an op.
var (
	appendBuckets  = []float64{.0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 10}
	requestBuckets = []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 10, 60, 300}
)

// A Metrics counts. All methods may be called concurrently. It implements
// httpapi.Observer.
type Metrics struct {
	registry *prometheus.Registry
	now      func() time.Time
	began    time.Time

	started   *prometheus.CounterVec
	ended     *prometheus.CounterVec
	refusals  *prometheus.CounterVec
	contested prometheus.Counter
	appends   *prometheus.HistogramVec
	newest    newest

	hostCalls  *prometheus.HistogramVec
	hostErrors *prometheus.CounterVec

	requests     *prometheus.CounterVec
	requestTimes *prometheus.HistogramVec
	subscribers  prometheus.Gauge
	left         *prometheus.CounterVec
}

// New gives figures that are all zero, with a registry of their own.
func New(version string, now func() time.Time) *Metrics {
	m := &Metrics{registry: prometheus.NewRegistry(), now: now, began: now()}
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		v := prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
		m.registry.MustRegister(v)
		return v
	}
	histogram := func(name, help string, buckets []float64, labels ...string) *prometheus.HistogramVec {
		v := prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: name, Help: help, Buckets: buckets}, labels)
		m.registry.MustRegister(v)
		return v
	}
	m.started = counter("writ_ops_started_total", "Attempts claimed: OpStarted put on record by this process.", "class")
	m.ended = counter("writ_ops_ended_total",
		"Attempts ended by this process: result succeeded, failed or voided, with the kind of failure and what it did to the host.", "class", "result", "kind", "effect")
	m.refusals = counter("writ_refusals_total", "Submissions that the gate refused, those only counted included.", "reason")
	m.appends = histogram("writ_append_seconds",
		"How long appends to the ledger took until they were durable or refused, group commit and fsync included. outcome: ok, lost (another writer was first), invalid, unknown.", appendBuckets, "outcome")
	m.hostCalls = histogram("writ_host_call_seconds", "How long the host's answers took, by what was asked.", requestBuckets, "call")
	m.hostErrors = counter("writ_host_errors_total",
		"Calls to the host that failed. kind: definite (it started nothing), other-copy (ALARM), timeout, cancelled, unreachable, other.", "call", "kind")
	m.requests = counter("writ_http_requests_total", "Requests answered, by operation and status.", "operation", "status")
	m.requestTimes = histogram("writ_http_request_seconds", "How long requests took, waiting for ops and following events included.", requestBuckets, "operation")
	m.left = counter("writ_subscribers_left_total", "Subscribers that left. why: gone, slow, stopping, unauthorized, unavailable.", "why")
	m.contested = prometheus.NewCounter(prometheus.CounterOpts{
		Name: "writ_contested_total", Help: "ALARM: tasks that the host started for attempts that had ended.",
	})
	m.subscribers = prometheus.NewGauge(prometheus.GaugeOpts{Name: "writ_subscribers", Help: "Subscribers that follow the ledger now."})
	build := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "writ_build_info", Help: "Always 1; the version is a label."}, []string{"version"})
	build.WithLabelValues(version).Set(1)
	m.registry.MustRegister(m.contested, m.subscribers, build,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

// Handler answers with all figures, two requests at a time.
func (m *Metrics) Handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{MaxRequestsInFlight: 2, ErrorHandling: promhttp.ContinueOnError})
}

// Request implements httpapi.Observer.
func (m *Metrics) Request(operation string, status int, took time.Duration) {
	m.requests.WithLabelValues(operation, strconv.Itoa(status)).Inc()
	m.requestTimes.WithLabelValues(operation).Observe(took.Seconds())
}

// Subscribers implements httpapi.Observer.
func (m *Metrics) Subscribers(n int) { m.subscribers.Set(float64(n)) }

// SubscriberLeft implements httpapi.Observer.
func (m *Metrics) SubscriberLeft(why string) { m.left.WithLabelValues(why).Inc() }
