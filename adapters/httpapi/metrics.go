package httpapi

import (
	"context"
	"net/http"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"
)

const metricsPath = "/metrics"

// registerMetrics serves the figures that the configuration has a handler for.
// They say how much is done to how many guests, so they take a scope.
func (a *API) registerMetrics() {
	if a.cfg.Metrics == nil {
		return
	}
	responses := a.responses("", nil, forCallers(nil))
	text := &huma.MediaType{Schema: &huma.Schema{Type: huma.TypeString}}
	responses["200"] = &huma.Response{
		Description: "The figures, in the form that the Accept header asks for.",
		Content:     map[string]*huma.MediaType{"text/plain": text, "application/openmetrics-text": text},
	}
	huma.Register(a.huma, huma.Operation{
		OperationID: "metrics", Method: http.MethodGet, Path: metricsPath, Summary: "Give figures to Prometheus",
		Security: []map[string][]string{{bearer: {string(Read)}}}, Middlewares: huma.Middlewares{a.requires(Read)},
		Responses: responses,
	}, func(context.Context, *struct{}) (*huma.StreamResponse, error) {
		return &huma.StreamResponse{Body: func(c huma.Context) {
			r, w := humago.Unwrap(c)
			a.cfg.Metrics.ServeHTTP(w, r)
		}}, nil
	})
}
