package httpapi

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"writ/domain/eventstore"
	"writ/domain/op"
	"writ/projections/audit"
)

const (
	linesType = "application/x-ndjson"
	// maxAudits bounds the audits and exports that run at a time: each reads the
	// whole ledger.
	maxAudits = 2
	// auditWorkers check events for one report. It is little: the service has
	// other work. Whoever is in a hurry verifies an export elsewhere.
	auditWorkers = 1
)

type exportInput struct {
	After string `query:"after" maxLength:"160" doc:"A cursor: only what is behind it. Without it the export is of the whole ledger."`
}

func (a *API) registerAudit() {
	schema := &huma.Schema{Type: huma.TypeObject, AdditionalProperties: true}
	stream := func(id, path, summary, text, kind, what string, scope Scope, schema *huma.Schema) huma.Operation {
		responses := a.responses("", nil, forCallers(map[int]string{
			412: "The cursor is of another ledger or store, or from beyond this ledger's end.",
			503: "The service is stopping, or other audits are under way.",
		}))
		responses["200"] = &huma.Response{Description: what, Content: map[string]*huma.MediaType{kind: {Schema: schema}}}
		return huma.Operation{
			OperationID: id, Method: http.MethodGet, Path: path, Summary: summary, Description: text, Responses: responses,
			Security: []map[string][]string{{bearer: {string(scope)}}}, Middlewares: huma.Middlewares{a.requires(scope)},
		}
	}
	huma.Register(a.huma, stream("audit-report", "/v1/audit/report", "Verify the whole ledger",
		"Reads every event, checks every chain, transition and signature, and takes every decision again. It takes as long as that takes; "+
			"while it runs, an empty line comes every 15 s. A report that is not complete says why. It is the service's word about itself: an auditor "+
			"who does not trust the service verifies an export.",
		"application/json", "The report, as writ audit verify --json prints it.", Read, schema), a.auditReport)
	huma.Register(a.huma, stream("audit-export", "/v1/audit/export", "Give the records as lines of JSON",
		"One event a line, its data bytes in base64, then a manifest with counts and digest; an export without one was cut off. It holds the ledger "+
			"whole, writs that could still be submitted too, and so takes the scope backup.",
		linesType, "The lines.", Backup, &huma.Schema{Type: huma.TypeString}), a.auditExport)
}

// streamed gives an answer that is written for as long as it takes, if there
// is room for one more, and ends with the service.
func (a *API) streamed(kind string, write func(ctx context.Context, w io.Writer) error) *huma.StreamResponse {
	return &huma.StreamResponse{Body: func(c huma.Context) {
		r, w := humago.Unwrap(c)
		select {
		case a.audits <- struct{}{}:
			defer func() { <-a.audits }()
		default:
			send(w, problem(http.StatusServiceUnavailable, reasonBusy, "other audits are under way, each of which reads the whole ledger; ask again later"), a.cfg.Log)
			return
		}
		if a.draining.Err() != nil {
			send(w, problem(http.StatusServiceUnavailable, reasonStopping, "the service is stopping; ask again once it is back"), a.cfg.Log)
			return
		}
		noteStreaming(w)
		w.Header().Set(contentTypeHeader, kind)
		if r.Method == http.MethodHead {
			return
		}
		ctx, cancel := context.WithCancel(r.Context())
		defer cancel()
		defer context.AfterFunc(a.draining, cancel)()
		rc := http.NewResponseController(w)
		err := rc.SetReadDeadline(time.Time{}) // as for those who follow the ledger
		if err == nil || errors.Is(err, http.ErrNotSupported) {
			err = write(ctx, &patient{w: w, rc: rc})
		}
		if err != nil {
			a.cfg.Log.Warn("an audit was cut off", "caller", callerOf(c.Context()), "err", err)
			panic(http.ErrAbortHandler) // so that nobody takes a part for the whole
		}
	}}
}

// patient writes to a caller who may take long over the whole, and not over
// any part of it.
type patient struct {
	w  http.ResponseWriter
	rc *http.ResponseController
}

// Write implements io.Writer, and sends at once.
func (p *patient) Write(b []byte) (int, error) {
	if err := p.rc.SetWriteDeadline(time.Now().Add(answerTime)); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return 0, err
	}
	n, err := p.w.Write(b)
	if err == nil {
		err = p.rc.Flush()
	}
	if err == nil {
		_ = p.rc.SetWriteDeadline(time.Time{}) // as for those who follow the ledger
	}
	return n, err
}

func (a *API) auditReport(context.Context, *struct{}) (*huma.StreamResponse, error) {
	return a.streamed("application/json", func(ctx context.Context, w io.Writer) error { //nolint:contextcheck // it is the request's, and ends with the service too
		type result struct {
			report *audit.Report
			err    error
		}
		done := make(chan result, 1)
		go func() {
			r, err := audit.Verify(ctx, audit.OfStore(a.cfg.Ledger), audit.Options{Workers: auditWorkers})
			done <- result{r, err}
		}()
		beat := time.NewTicker(heartbeat)
		defer beat.Stop()
		for {
			select {
			case <-beat.C:
				// White space before a value is part of no JSON value.
				if _, err := io.WriteString(w, "\n"); err != nil {
					beat.Stop() // ctx ends with the connection, and with it the audit
				}
			case r := <-done:
				if ctx.Err() != nil {
					return r.err
				}
				text, err := op.Marshal(r.report) // after an error it says itself that it is not complete
				if err != nil {
					return err
				}
				_, err = w.Write(append(text, '\n'))
				return err
			}
		}
	}), nil
}

func (a *API) auditExport(ctx context.Context, in *exportInput) (*huma.StreamResponse, error) {
	var after eventstore.Cursor
	if in.After != "" {
		var p *Problem
		if after, p = a.readCursor(ctx, "query.after", in.After); p != nil {
			return nil, p
		}
	}
	return a.streamed(linesType, func(ctx context.Context, w io.Writer) error { //nolint:contextcheck // as above
		out := bufio.NewWriterSize(w, 64<<10)
		if _, err := audit.NewExporter(out, a.cfg.Ledger.LedgerID(), after).Export(ctx, a.cfg.Ledger, nil); err != nil {
			return err
		}
		return out.Flush()
	}), nil
}
