package httpapi

import (
	"context"
	"maps"
	"net/http"
	"sync"
	"time"

	"github.com/danielgtaylor/huma/v2"
)

const (
	healthPath = "/healthz"
	readyPath  = "/readyz"
	// readyTime bounds all checks together. readyAge is how long an answer is
	// given again: anybody may ask, and asking must not be a way to keep the
	// ledger and the host busy.
	readyTime = 5 * time.Second
	readyAge  = time.Second

	// surveyedCheck holds once all that was in flight at the start is taken up:
	// before, ops are claimed and wait. launchingCheck holds while ops are let
	// go at all.
	surveyedCheck  = "surveyed"
	launchingCheck = "launching"
)

// Health says that the process answers.
type Health struct {
	Status string `json:"status" enum:"ok"`
}

// Readiness says whether requests should be sent here.
type Readiness struct {
	Ready bool `json:"ready"`
	// Checks are by name; what is wrong is in the log, as anybody may ask.
	// That nothing is launched any more is the exception: nobody may miss why.
	Checks map[string]string `json:"checks" doc:"Each check by its name: ok or failing. What is wrong stands in the service's log; of launching, which failed for good until a person has looked, it is said here too."`
}

type healthOutput struct{ Body Health }

type readyOutput struct {
	Status int
	Body   Readiness
}

func (a *API) registerHealth() {
	huma.Register(a.huma, huma.Operation{
		OperationID: "health", Method: http.MethodGet, Path: healthPath, Summary: "Tell that the process answers",
		Responses: a.responses(Health{}, map[int]string{200: "It does."}, nil),
	}, func(context.Context, *struct{}) (*healthOutput, error) {
		return &healthOutput{Body: Health{Status: "ok"}}, nil
	})
	responses := a.responses(Readiness{}, map[int]string{200: "They should."}, nil)
	responses["503"] = &huma.Response{Description: "Not now.", Content: responses["200"].Content}
	huma.Register(a.huma, huma.Operation{
		OperationID: "ready", Method: http.MethodGet, Path: readyPath, Summary: "Tell whether requests should be sent here",
		Responses: responses,
	}, a.ready)
}

// A readiness is the last answer.
type readiness struct {
	mu     sync.Mutex // held over the checks: they run once at a time
	at     time.Time
	failed map[string]bool
}

func (a *API) ready(ctx context.Context, _ *struct{}) (*readyOutput, error) {
	out := &readyOutput{Status: http.StatusOK, Body: Readiness{Ready: true, Checks: make(map[string]string)}}
	for name, failed := range a.checked(ctx) {
		out.Body.Checks[name] = "ok"
		if failed {
			out.Status, out.Body.Ready, out.Body.Checks[name] = http.StatusServiceUnavailable, false, "failing"
		}
	}
	out.Body.Checks[launchingCheck] = "ok"
	if err := a.cfg.Engine.Halted(); err != nil {
		out.Status, out.Body.Ready, out.Body.Checks[launchingCheck] = http.StatusServiceUnavailable, false, "failing: "+clip(err.Error())
	}
	return out, nil
}

// checked gives which checks there are and whether they failed.
func (a *API) checked(ctx context.Context) map[string]bool {
	// The answer is for all who ask in the same second, so it does not depend
	// on whether this one stays.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), readyTime)
	defer cancel()
	r := &a.readiness
	r.mu.Lock()
	defer r.mu.Unlock()
	if age := a.cfg.Now().Sub(r.at); r.failed == nil || age >= readyAge || age < 0 {
		r.failed = make(map[string]bool)
		for _, c := range a.cfg.Ready {
			err := c.Test(ctx)
			if err != nil {
				a.cfg.Log.Warn("not ready", "check", c.Name, "err", err)
			}
			r.failed[c.Name] = err != nil
		}
		r.at = a.cfg.Now() // at the end: whoever waited for slow checks gets their answer
	}
	failed := maps.Clone(r.failed)
	// These cost nothing to ask, so they are never of a second ago.
	failed["running"] = a.draining.Err() != nil
	failed[surveyedCheck] = !ended(a.cfg.Engine.Surveyed())
	return failed
}

func ended(done <-chan struct{}) bool {
	select {
	case <-done:
		return true
	default:
		return false
	}
}
