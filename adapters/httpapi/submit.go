package httpapi

import (
	"context"
	"encoding/base64"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"writ/domain/engine"
	"writ/domain/op"
	"writ/domain/signedop"
)

type submitInput struct {
	Wait string `query:"wait" maxLength:"16" example:"30s" doc:"How long to wait for the end of the op: a duration such as 30s, at most 5m. Without it the answer comes as soon as the op is on record. Waiting that ends early harms nothing; the op goes on."`
	Body submitBody
}

type submitBody struct {
	Intent intentBody `json:"intent" doc:"What is asked for. It must say exactly what the signed document says."`
	// The exact bytes are what was signed, is hashed, and goes on record. An
	// envelope embedded as JSON would be re-encoded by every proxy, log and
	// library on its way; base64 arrives as it was sent, or not at all.
	Envelope string `json:"envelope,omitempty" maxLength:"87384" doc:"The writ: the bytes of the DSSE envelope exactly as they are in its file, in standard base64 with padding. It is base64 and not JSON within JSON, because the exact bytes matter and must survive whatever lies between. Left out for a class that needs no signature."`
}

type intentBody struct {
	Class  string      `json:"class" maxLength:"64" example:"guest-destroy" doc:"The class of the op."`
	Target targetBody  `json:"target"`
	Params *paramsBody `json:"params,omitempty"`
}

type targetBody struct {
	Node   string     `json:"node" maxLength:"63" example:"pve1" doc:"For guests a hint: they migrate, and the op follows them. For all else it binds."`
	Guest  *guestBody `json:"guest,omitempty" doc:"Of classes that act on a guest."`
	Volume string     `json:"volume,omitempty" maxLength:"255" example:"local-lvm:vm-105-disk-1" doc:"volume-delete, backup-delete: the id of the volume or backup."`
	Pool   *poolBody  `json:"pool,omitempty" doc:"storage-wipe: the pool that is taken down."`
	Disk   string     `json:"disk,omitempty" maxLength:"64" example:"/dev/sdb" doc:"storage-wipe: the disk that is wiped."`
}

type guestBody struct {
	Type string `json:"type" enum:"qemu,lxc"`
	VMID int    `json:"vmid" minimum:"100" maximum:"999999999"`
}

type poolBody struct {
	Kind        string `json:"kind" enum:"zfs,lvm,lvmthin,directory"`
	Name        string `json:"name" maxLength:"100"`
	VolumeGroup string `json:"volume_group,omitempty" maxLength:"100" doc:"Of a thin pool: the volume group that it is in."`
}

type paramsBody struct {
	Purge *bool `json:"purge,omitempty" doc:"guest-destroy: remove the guest from backup and replication jobs and from HA too."`
	Force *bool `json:"force,omitempty" doc:"guest-destroy of a container: stop it first."`

	Snapshot string `json:"snapshot,omitempty" maxLength:"40" doc:"snapshot-rollback, snapshot-delete, snapshot-create: the snapshot's name."`
	Archive  string `json:"archive,omitempty" maxLength:"255" doc:"restore-overwrite: the volume id of the backup."`
	Storage  string `json:"storage,omitempty" maxLength:"100" doc:"restore-overwrite: where the volumes go; backup-create: where the backup goes."`
	Unique   *bool  `json:"unique,omitempty" doc:"restore-overwrite: give the guest an identity and MAC addresses of its own."`
	Timeout  *int   `json:"timeout,omitempty" minimum:"1" maximum:"86400" doc:"guest-shutdown, guest-reboot: seconds that the guest is given."`

	CleanupDisks  *bool `json:"cleanup_disks,omitempty" doc:"storage-wipe of a pool: wipe the disks that it was on, too."`
	CleanupConfig *bool `json:"cleanup_config,omitempty" doc:"storage-wipe of a pool: remove the storages defined on it, too."`
}

func (b intentBody) intent() op.Intent {
	i := op.Intent{Class: op.Class(b.Class), Target: op.Target{Node: b.Target.Node, Volume: b.Target.Volume, Disk: b.Target.Disk}}
	if g := b.Target.Guest; g != nil {
		i.Target.Guest = &op.Guest{Type: op.GuestType(g.Type), VMID: g.VMID}
	}
	if p := b.Target.Pool; p != nil {
		i.Target.Pool = &op.Pool{Kind: op.PoolKind(p.Kind), Name: p.Name, VolumeGroup: p.VolumeGroup}
	}
	if p := b.Params; p != nil {
		i.Params = op.Params{
			Purge: p.Purge, Force: p.Force, Snapshot: p.Snapshot, Archive: p.Archive, Storage: p.Storage, Unique: p.Unique,
			Timeout: p.Timeout, CleanupDisks: p.CleanupDisks, CleanupConfig: p.CleanupConfig,
		}
	}
	return i
}

type submitOutput struct {
	Status int
	Body   Answer
}

func (a *API) registerSubmit() {
	huma.Register(a.huma, huma.Operation{
		OperationID: "submit", Method: http.MethodPost, Path: "/v1/ops", Summary: "Submit a writ",
		Description: "Delivers a writ. Deliver the same one as often as you like: it takes effect at most once. " +
			"A 2xx means that it took effect or still may, and that this is on record; a 503 that the claim is possibly written, so send the same writ again. " +
			"An op of a benign class comes without a writ and has no nonce until it is claimed: each delivery is an op of its own, so after an answer that was lost look at the list of ops first.",
		Security:     []map[string][]string{{bearer: {string(Submit)}}},
		Middlewares:  huma.Middlewares{a.requires(Submit), a.takeBody},
		MaxBodyBytes: MaxBodyBytes + 1,
		// takeBody has read it, within the server's deadline, and this takes the
		// deadline away. From here on the connection is read only to see whether
		// the caller hangs up, and a deadline that passes would look like that.
		BodyReadTimeout: -1,
		Responses: a.responses(Answer{}, map[int]string{
			200: "It has taken effect: succeeded, or already applied before.",
			202: "It is on record and may still take effect: in flight, or indeterminate.",
		}, forCallers(map[int]string{
			400: "The body is not JSON.",
			403: "The gate refused it, with the reason; or the caller lacks the scope.",
			408: "The body did not arrive in time.",
			409: "The nonce is reused for another document, or spent.",
			412: "The target is not as the writ expects it.",
			413: "The body is too large.",
			415: "The body is not application/json.",
			422: "The writ is malformed, or the request is.",
			424: "The host refused the request, or its task failed.",
			429: "The queue is full, or the caller asks too often; nothing was done.",
			503: "Ledger or host can't be reached, or the service is stopping. The claim is possibly written: send the same writ again.",
		})),
	}, a.submit)
}

func (a *API) submit(ctx context.Context, in *submitInput) (*submitOutput, error) {
	wait, err := parseWait(in.Wait)
	if err != nil {
		return nil, invalid("query.wait", err)
	}
	envelope, err := parseEnvelope(in.Body.Envelope)
	if err != nil {
		return nil, invalid("body.envelope", err)
	}
	if a.draining.Err() != nil {
		return nil, problem(http.StatusServiceUnavailable, reasonStopping, "the service is stopping; nothing was done, send the same writ again")
	}
	admit, cancel := context.WithTimeout(ctx, admitTime)
	defer cancel()
	ans := a.cfg.Engine.RunSignedJob(admit, engine.Submission{
		Intent: in.Body.Intent.intent(), Envelope: envelope, SubmittedBy: callerOf(ctx),
	})
	if ans.Outcome == engine.InFlight && wait > 0 {
		ans = a.await(ctx, ans.Nonce, wait)
	}
	status, body, p := answer(ans)
	if len(envelope) == 0 && ans.OpID != "" {
		// Nobody else knows the nonce that was drawn for it, and it is no secret.
		body.Nonce = string(ans.Nonce)
		if p != nil {
			p.Nonce = string(ans.Nonce)
		}
	}
	if p != nil {
		return nil, p
	}
	return &submitOutput{Status: status, Body: body}, nil
}

// await waits for the end of an op, but not beyond the caller's patience or
// the life of the service.
func (a *API) await(ctx context.Context, n op.Nonce, wait time.Duration) engine.Answer {
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	defer context.AfterFunc(a.draining, cancel)() //nolint:contextcheck // the wait ends with either context
	return a.cfg.Engine.Wait(ctx, n)
}

func parseWait(s string) (time.Duration, error) {
	if s == "" {
		return 0, nil
	}
	d, err := time.ParseDuration(s)
	if err != nil {
		return 0, fmt.Errorf("not a duration such as 30s")
	}
	if d < 0 || d > MaxWait {
		return 0, fmt.Errorf("not from 0s to %s", MaxWait)
	}
	return d, nil
}

// parseEnvelope gives the bytes that the caller has in a file. There is one
// encoding of them that is accepted, so what is on record is what was sent.
func parseEnvelope(s string) ([]byte, error) {
	if strings.ContainsAny(s, "\r\n") {
		return nil, fmt.Errorf("not standard base64: it holds a line end (base64 -w0 writes none)")
	}
	raw, err := base64.StdEncoding.Strict().DecodeString(s)
	if err != nil {
		return nil, fmt.Errorf("not standard base64 with padding: %w", err)
	}
	if len(raw) > signedop.MaxEnvelopeBytes {
		return nil, fmt.Errorf("%d bytes, an envelope has at most %d", len(raw), signedop.MaxEnvelopeBytes)
	}
	return raw, nil
}

// invalid says what is out of form in one field.
func invalid(location string, err error) *Problem {
	p := problem(http.StatusUnprocessableEntity, reasonBadRequest, "the request is out of form; see errors")
	p.Errors = []FieldError{{Location: location, Message: clip(err.Error())}}
	return p
}
