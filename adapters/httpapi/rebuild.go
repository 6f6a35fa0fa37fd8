package httpapi

import (
	"context"
	"net/http"

	"github.com/danielgtaylor/huma/v2"
)

type rebuildInput struct {
	Body struct {
		View string `json:"view" enum:"status" doc:"Which view."`
	}
}

// A Rebuild says what was asked for.
type Rebuild struct {
	View string `json:"view" enum:"status" doc:"The view that is built again."`
}

type rebuildOutput struct{ Body Rebuild }

func (a *API) registerRebuild() {
	if a.cfg.Rebuild == nil {
		return
	}
	huma.Register(a.huma, huma.Operation{
		OperationID: "rebuild-view", Method: http.MethodPost, Path: "/v1/store/rebuild-view", Summary: "Build the view of all ops again",
		Description: "From the ledger's first event on, beside the view there is, which goes on serving until the new one has reached the end of the ledger. " +
			"If that is being done already, nothing changes.",
		DefaultStatus: http.StatusAccepted,
		Security:      []map[string][]string{{bearer: {string(Backup)}}},
		Middlewares:   huma.Middlewares{a.requires(Backup), a.takeBody}, MaxBodyBytes: MaxBodyBytes + 1,
		BodyReadTimeout: -1, // takeBody bounds it
		Responses: a.responses(Rebuild{}, map[int]string{202: "It is being built, or will be in a moment."}, forCallers(map[int]string{
			400: "The body is not JSON.", 408: "The body did not arrive in time.", 413: "The body is too large.",
			415: "The body is not application/json.",
		})),
	}, a.rebuildView)
}

func (a *API) rebuildView(_ context.Context, in *rebuildInput) (*rebuildOutput, error) {
	a.cfg.Rebuild()
	return &rebuildOutput{Body: Rebuild{View: in.Body.View}}, nil
}
