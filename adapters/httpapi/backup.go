package httpapi

import (
	"context"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"
)

// backupTime bounds a backup. It is copied, read and compared whole.
const backupTime = 6 * time.Hour

type backupInput struct {
	Body struct {
		Name string `json:"name,omitempty" maxLength:"64" pattern:"^[a-z0-9][a-z0-9._-]*$" doc:"The backup's folder, in the folder that the service keeps backups in. Left out: made from ledger and time."`
	}
}

// A BackupMade tells of a backup that is complete.
type BackupMade struct {
	Path     string    `json:"path" doc:"Where it is, on the machine of the service."`
	Ledger   string    `json:"ledger" doc:"The ledger's id."`
	Position uint64    `json:"position" doc:"Of the last event in it."`
	At       time.Time `json:"at" doc:"When it was complete."`
}

type backupOutput struct{ Body BackupMade }

func (a *API) registerBackup() {
	if a.cfg.Backup == nil {
		return
	}
	huma.Register(a.huma, huma.Operation{
		OperationID: "backup", Method: http.MethodPost, Path: "/v1/store/backup", Summary: "Back up the ledger while it runs",
		Description: "Copies the ledger into a folder on the machine of the service, opens the copy, reads all of it and compares its end. " +
			"It is a copy: whoever runs it in place of the ledger runs one that may know fewer spent nonces than the truth.",
		Security:    []map[string][]string{{bearer: {string(Backup)}}},
		Middlewares: huma.Middlewares{a.requires(Backup), a.takeBody}, MaxBodyBytes: MaxBodyBytes + 1,
		BodyReadTimeout: -1, // as for a submission: whoever waits here must not seem to have gone
		Responses: a.responses(BackupMade{}, map[int]string{200: "It is complete."}, forCallers(map[int]string{
			400: "The body is not JSON.", 403: "The caller lacks the scope.", 408: "The body did not arrive in time.",
			413: "The body is too large.",
			415: "The body is not application/json.", 422: "The request is out of form.", 503: "It could not be made. Nothing of it is left.",
		})),
	}, a.backup)
}

func (a *API) backup(ctx context.Context, in *backupInput) (*backupOutput, error) {
	ctx, cancel := context.WithTimeout(ctx, backupTime)
	defer cancel()
	made, err := a.cfg.Backup(ctx, in.Body.Name)
	if err != nil {
		a.cfg.Log.Error("a backup could not be made", "err", err)
		return nil, problem(http.StatusServiceUnavailable, reasonUnavailable, "no backup was made: "+clip(err.Error()))
	}
	a.cfg.Log.Info("backup made", "path", made.Path, "position", made.Position)
	return &backupOutput{Body: made}, nil
}
