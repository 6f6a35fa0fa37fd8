package httpapi

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"writ/domain/engine"
	"writ/domain/op"
)

const (
	// maxPlans bounds the plans that are made at a time: each asks the host about
	// every guest and storage.
	maxPlans = 2
	// planTime bounds one of them.
	planTime = time.Minute
)

// A planInput is an intent as a query.
type planInput struct {
	Class string `query:"class" required:"true" maxLength:"64" example:"guest-destroy" doc:"The class of the op."`

	Node            string `query:"node" maxLength:"63" example:"pve1" doc:"The target's node; of a guest it may be left out."`
	Type            string `query:"type" enum:"qemu,lxc" doc:"Of a guest: what kind it is."`
	VMID            int    `query:"vmid" minimum:"100" maximum:"999999999" doc:"Of a guest: its number."`
	Volume          string `query:"volume" maxLength:"255" example:"local-lvm:vm-105-disk-1" doc:"The id of a volume or backup."`
	PoolKind        string `query:"pool_kind" enum:"zfs,lvm,lvmthin,directory" doc:"Of a pool: what kind it is."`
	PoolName        string `query:"pool_name" maxLength:"100" doc:"Of a pool: its name."`
	PoolVolumeGroup string `query:"pool_volume_group" maxLength:"100" doc:"Of a thin pool: the volume group that it is in."`
	Disk            string `query:"disk" maxLength:"64" example:"/dev/sdb" doc:"A whole disk."`

	Purge         string `query:"purge" enum:"true,false" doc:"As the parameter of the op."`
	Force         string `query:"force" enum:"true,false" doc:"As the parameter of the op."`
	Snapshot      string `query:"snapshot" maxLength:"40" doc:"As the parameter of the op."`
	Archive       string `query:"archive" maxLength:"255" doc:"As the parameter of the op."`
	Storage       string `query:"storage" maxLength:"100" doc:"As the parameter of the op."`
	Unique        string `query:"unique" enum:"true,false" doc:"As the parameter of the op."`
	Timeout       int    `query:"timeout" minimum:"1" maximum:"86400" doc:"As the parameter of the op."`
	CleanupDisks  string `query:"cleanup_disks" enum:"true,false" doc:"As the parameter of the op."`
	CleanupConfig string `query:"cleanup_config" enum:"true,false" doc:"As the parameter of the op."`
}

// Resolve implements huma.Resolver. Of a parameter that is given twice one would
// be left out, and one that is given empty would be taken for none: the plan would
// be that of another op than was meant. Unknown ones are refused by the library.
func (*planInput) Resolve(ctx huma.Context) []error {
	u := ctx.URL()
	query := u.Query()
	var wrong []error
	for _, name := range slices.Sorted(maps.Keys(query)) {
		add := func(what string) {
			wrong = append(wrong, &huma.ErrorDetail{Location: "query." + clip(name), Message: what})
		}
		switch values := query[name]; {
		case len(values) > 1:
			add(fmt.Sprintf("given %d times; give it once", len(values)))
		case values[0] == "":
			add("empty; leave it out, or give a value")
		}
	}
	return wrong
}

// intent checks what was asked for as far as that can be done without the host.
func (in *planInput) intent() (op.Intent, *Problem) {
	i := op.Intent{
		Class:  op.Class(in.Class),
		Target: op.Target{Node: in.Node, Volume: in.Volume, Disk: in.Disk},
		Params: op.Params{
			Purge: boolOf(in.Purge), Force: boolOf(in.Force), Unique: boolOf(in.Unique),
			CleanupDisks: boolOf(in.CleanupDisks), CleanupConfig: boolOf(in.CleanupConfig),
			Snapshot: in.Snapshot, Archive: in.Archive, Storage: in.Storage,
		},
	}
	if in.Timeout != 0 {
		i.Params.Timeout = &in.Timeout
	}
	if in.VMID != 0 || in.Type != "" {
		i.Target.Guest = &op.Guest{Type: op.GuestType(in.Type), VMID: in.VMID}
	}
	if in.PoolKind != "" || in.PoolName != "" || in.PoolVolumeGroup != "" {
		i.Target.Pool = &op.Pool{Kind: op.PoolKind(in.PoolKind), Name: in.PoolName, VolumeGroup: in.PoolVolumeGroup}
	}
	if !i.Class.Known() {
		return i, invalid("query.class", fmt.Errorf("%q is no class; there are %v", in.Class, op.Classes()))
	}
	checked := i
	if i.Target.Guest != nil && in.Node == "" {
		checked.Target.Node = "any" // the host knows where it is
	}
	if err := checked.Check(); err != nil {
		field, why, _ := strings.Cut(err.Error(), ": ")
		return i, invalid(queryOf(field), errors.New(why))
	}
	return i, nil
}

func boolOf(text string) *bool {
	if text == "" {
		return nil
	}
	yes := text == "true"
	return &yes
}

// queryOf is the parameter that stands for a member of an intent.
func queryOf(member string) string {
	member = strings.TrimPrefix(strings.TrimPrefix(member, "params."), "target.")
	member = strings.TrimPrefix(member, "guest.")
	return "query." + strings.ReplaceAll(member, "pool.", "pool_")
}

// A Plan is what an op would do to the host as things stand.
type Plan struct {
	Class     string     `json:"class"`
	Target    Target     `json:"target"`
	Digest    string     `json:"digest,omitempty" doc:"SHA-256 over class, target and what is taken away. As expect.plan of a signed document it keeps the op from running once more, less or something else would be lost. Left out if not all that would be taken away could be read."`
	TakesAway []PlanItem `json:"takes_away" nullable:"false" doc:"What nobody gets back once the op has run."`
	Stops     []PlanItem `json:"stops" nullable:"false" doc:"Guests that would not run on."`
	Remains   []PlanItem `json:"remains" nullable:"false" doc:"What the op leaves: backups, and what others have."`
	Obstacles []string   `json:"obstacles" nullable:"false" doc:"What would keep the op from running, with what to do: by the look that is also taken right before a launch."`
	Unknown   []PlanGap  `json:"unknown" nullable:"false" doc:"What could not be read, and so is in none of the lists."`
}

// A PlanItem is one thing that a plan is about.
type PlanItem struct {
	Kind  string    `json:"kind" enum:"config,disk-pool,volume,content,snapshot,backup,replication,backup-job,ha,membership,acl,linked-clone,device,storage,guest"`
	Name  string    `json:"name"`
	Size  *int64    `json:"size,omitempty" doc:"Bytes, as provisioned."`
	Made  time.Time `json:"made,omitzero" doc:"Of snapshots and backups: when, by the host's clock. Of content: since when it is lost."`
	Note  string    `json:"note,omitempty" doc:"More, for people."`
	Users []string  `json:"users,omitempty" nullable:"false" doc:"Others that refer to it."`
}

// A PlanGap is something that could not be read.
type PlanGap struct {
	What      string `json:"what"`
	Why       string `json:"why" doc:"And what to do, such as which privilege to give."`
	TakenAway bool   `json:"taken_away" doc:"It is about what is taken away: the plan has no digest."`
}

// PlanOf gives a plan in this interface's form.
func PlanOf(p op.Plan) Plan {
	v := Plan{
		Class: string(p.Class), Target: viewOf(p.Target), TakesAway: planItems(p.TakesAway), Stops: planItems(p.Stops), Remains: planItems(p.Remains),
		Obstacles: append([]string{}, p.Obstacles...), Unknown: make([]PlanGap, 0, len(p.Unknown)),
	}
	for _, g := range p.Unknown {
		v.Unknown = append(v.Unknown, PlanGap(g))
	}
	if d, err := p.Digest(); err == nil {
		v.Digest = d.String()
	}
	return v
}

func planItems(items []op.PlanItem) []PlanItem {
	views := make([]PlanItem, 0, len(items))
	for _, i := range items {
		v := PlanItem{Kind: string(i.Kind), Name: i.Name, Size: i.Size, Note: i.Note, Users: i.Users}
		if i.Time != 0 {
			v.Made = time.Unix(i.Time, 0).UTC()
		}
		views = append(views, v)
	}
	return views
}

type planOutput struct{ Body Plan }

func (a *API) registerPlan() {
	if a.cfg.Plan == nil {
		return
	}
	huma.Register(a.huma, huma.Operation{
		OperationID: "plan", Method: http.MethodGet, Path: "/v1/plan", Summary: "Tell what an op would take away",
		Security: []map[string][]string{{bearer: {string(Read)}}}, Middlewares: huma.Middlewares{a.requires(Read)},
		Description: "Reads the host, changes nothing and promises nothing: it tells how things stand now. Of target and params give those " +
			"that the op has. That there is no such target is an obstacle, and no error.",
		Responses: a.responses(Plan{}, map[int]string{200: "The plan."}, forCallers(map[int]string{
			503: "The host can't be reached or does not let the service look at the target, other plans are being made, or the service is stopping.",
		})),
	}, a.plan)
}

func (a *API) plan(ctx context.Context, in *planInput) (*planOutput, error) {
	intent, wrong := in.intent()
	if wrong != nil {
		return nil, wrong
	}
	select {
	case a.plans <- struct{}{}:
		defer func() { <-a.plans }()
	default:
		return nil, problem(http.StatusServiceUnavailable, reasonBusy, "other plans are being made, each of which asks the host about all of its guests; ask again")
	}
	if a.draining.Err() != nil {
		return nil, problem(http.StatusServiceUnavailable, reasonStopping, "the service is stopping; ask again once it is back")
	}
	ctx, cancel := context.WithTimeout(ctx, planTime)
	defer cancel()
	defer context.AfterFunc(a.draining, cancel)() //nolint:contextcheck // it ends with the service too
	p, err := a.cfg.Plan(ctx, intent)
	switch {
	case errors.Is(err, engine.ErrNoExecutor):
		return nil, problem(http.StatusUnprocessableEntity, string(op.KindNoExecutor), clip(err.Error()))
	case err != nil:
		a.cfg.Log.Warn("a plan could not be made", "class", in.Class, "err", err)
		return nil, problem(http.StatusServiceUnavailable, reasonUnavailable, "the target can't be looked at: "+clip(err.Error()))
	}
	return &planOutput{Body: PlanOf(p)}, nil
}
