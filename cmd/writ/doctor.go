package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"writ/adapters/proxmox"
	"writ/domain/op"
)

const doctorLong = `Looks at everything that a service needs, changes nothing, and says of each thing what
it found and what to do: the host's API and which node answers, its version and
certificates, quorum, clocks and task history of each node; as whom requests are sent, the
service user, its roles and its tokens; which privileges the policy's classes need and are
missing, and which are there and not needed; the policy, keys that end soon, and the
ledger with its disk. Then it prints the pveum commands that make up the difference:
the least that these classes need.

With --bypass it lists instead who can still destroy guests without a writ: every user,
group member and API token of the cluster, by which path and role, and what they can
destroy. Users that are disabled or have expired are marked. It needs a token with
Sys.Audit on /access and Pool.Audit on /pool; what can't be read is said.

While a service runs its ledger is not opened; the service is asked how it is instead,
where the configuration says that it listens, or at --url.

Exit code 0: nothing fails (warnings may stand), or with --bypass the list is complete.
Exit code 1: something fails, or the list is not complete.`

type doctorFlags struct {
	config string
	bypass bool
	client clientFlags
	ask    bool // --url was given
}

func newDoctorCmd(a *app) *cobra.Command {
	var f doctorFlags
	cmd := &cobra.Command{
		Use:     "doctor",
		Short:   "Check host, rights, policy and ledger, and say what to do",
		Long:    doctorLong,
		Example: "  writ doctor --config writ.yaml\n  writ doctor --config writ.yaml --bypass",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			f.ask = len(given(cmd, "url")) > 0
			if f.bypass {
				return a.doctorBypass(cmd.Context(), f)
			}
			return a.doctor(cmd.Context(), f)
		},
	}
	fl := cmd.Flags()
	fl.StringVar(&f.config, "config", configDefault(), "configuration file; $"+configVariable+" names another default")
	fl.BoolVar(&f.bypass, "bypass", false, "list who can destroy guests without a writ")
	f.client.register(cmd)
	return cmd
}

// A findingState is how one thing is.
type findingState string

const (
	stateOK   findingState = "ok"
	stateWarn findingState = "warn" // it works, and could be better or soon stop to
	stateFail findingState = "fail"
)

// A finding is what one check has found.
type finding struct {
	Check  string       `json:"check"`
	State  findingState `json:"state"`
	Found  string       `json:"found"`
	Remedy string       `json:"remedy,omitempty"`
}

// A diagnosis is what doctor tells.
type diagnosis struct {
	OK     bool      `json:"ok"` // nothing fails
	Checks []finding `json:"checks"`
	// Commands set the host up, as root on any node; empty if it is as it should
	// be.
	Commands []string `json:"commands"`
	// FromNothing: who has what could not be read, so the commands are for a host
	// that knows nothing of writ yet.
	FromNothing bool `json:"from_nothing"`
}

func (d *diagnosis) add(state findingState, check, remedy, format string, args ...any) {
	d.Checks = append(d.Checks, finding{check, state, fmt.Sprintf(format, args...), remedy})
}

func (d *diagnosis) ok(check, format string, args ...any) { d.add(stateOK, check, "", format, args...) }

// A doctor looks at one service.
type doctor struct {
	c        *config
	flags    doctorFlags
	now      func() time.Time
	host     *proxmox.Host
	progress func(what string)
	d        diagnosis

	classes  map[op.Class]proxmox.Reach // that the policy allows
	lifetime time.Duration              // the longest that a document may be valid
	unasked  bool                       // the host could not be asked
}

// openDoctor reads the configuration, as a service does.
func (a *app) openDoctor(f doctorFlags) (*doctor, func(), error) {
	c, err := loadConfig(f.config, os.Environ())
	if err != nil {
		return nil, nil, err
	}
	host, err := c.openHost(nil)
	if err != nil {
		return nil, nil, err
	}
	line := a.newWaitLine()
	dr := &doctor{c: c, flags: f, now: a.now, host: host, progress: line.show, d: diagnosis{Checks: []finding{}, Commands: []string{}}}
	return dr, func() { line.end(); host.Close() }, nil
}

func (a *app) doctor(ctx context.Context, f doctorFlags) error {
	dr, done, err := a.openDoctor(f)
	if err != nil {
		return err
	}
	// The policy first: what is needed follows from it.
	policy := dr.checkPolicy()
	dr.checkHost(ctx)
	dr.checkRights(ctx)
	dr.d.Checks = append(dr.d.Checks, policy...)
	dr.checkLedger(ctx)
	done()
	if err := ctx.Err(); err != nil {
		return err
	}
	dr.d.OK = !slices.ContainsFunc(dr.d.Checks, func(f finding) bool { return f.State == stateFail })
	if err := a.show(dr.d, func(w io.Writer) { dr.d.text(plainWriter{w}, palette(isTerminal(a.out))) }); err != nil {
		return err
	}
	if !dr.d.OK {
		return &toldError{exitFailed}
	}
	return nil
}
