package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/spf13/cobra"

	"writ/adapters/httpapi"
	"writ/domain/op"
	"writ/domain/signedop"
)

// Exit codes of submit beside the general ones.
const (
	exitInFlight      = 3 // on record, and not at its end yet
	exitIndeterminate = 4 // may have taken effect: a person must look
	exitRefused       = 5 // refused by the gate, or out of form
	exitPrecondition  = 6 // the target is not as the writ expects
	exitHostFailed    = 7 // the host refused, or its task failed
	exitTryAgain      = 8 // undecided: the same writ may be sent again
)

type submitFlags struct {
	client clientFlags
	what   opFlags
	intent string
	wait   time.Duration
	retry  time.Duration
}

func newSubmitCmd(a *app) *cobra.Command {
	var f submitFlags
	cmd := &cobra.Command{
		Use:   "submit FILE.writ | --class CLASS --qemu VMID|--lxc VMID --node NODE",
		Short: "Deliver a writ to the service, or ask for a benign op",
		Long: `Delivers a writ, exactly the bytes of the file. The same writ may be delivered as
often as you like: it takes effect at most once. It is sent once, unless --retry lets
it be sent again while the service can't be reached or asks for patience, which is
safe for that reason.

A benign op (guest-start, snapshot-create, backup-create) takes nothing away and is
asked for without a writ, where a rule of the policy lets the caller's token do that.
It has no nonce that could tell a second delivery from the first: asked for twice it is
done twice, so it is never sent again by itself.

Exit codes:
  0  it has taken effect, now or before
  1  it could not be delivered, or the service is at fault
  2  the command line is wrong
  3  it is on record and under way, and was not at its end when the wait was over
  4  indeterminate: it may have taken effect; a person must look (writ recovery ls)
  5  refused: the gate's reason is shown, or the writ is malformed, or its nonce spent
  6  the target is not as the writ expects it; nothing was done
  7  the host refused, or its task failed; the effect is shown
  8  undecided: the service or the host can't be reached, or the queue is full;
     deliver the same writ again (of a benign op, see writ ops ls --all first)`,
		Example: `  writ submit guest-destroy-105-6f1c9a0e.writ
  writ submit --class snapshot-create --qemu 105 --node pve1 --snapshot before-upgrade
  writ submit --class backup-create --lxc 106 --node pve1 --storage backups`,
		Args: func(cmd *cobra.Command, args []string) error {
			if cmd.Flags().Changed("class") {
				return noArgs(cmd, args)
			}
			return oneArg("the writ")(cmd, args)
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := f.check(); err != nil {
				return err
			}
			if len(args) == 0 {
				d, err := f.benign()
				if err != nil {
					return err
				}
				return a.submit(cmd.Context(), f, d)
			}
			if odd := given(cmd, opFlagNames()...); len(odd) > 0 {
				return usagef("%s: a writ says itself what is to be done: leave it out", odd[0])
			}
			d, err := readDelivery(args[0], f.intent)
			if err != nil {
				return err
			}
			return a.submit(cmd.Context(), f, d)
		},
	}
	f.client.register(cmd)
	f.what.register(cmd, "")
	fl := cmd.Flags()
	fl.StringVar(&f.intent, "intent", "", "file with the intent as JSON (default: what the writ itself says)")
	fl.DurationVar(&f.wait, "wait", 30*time.Second, "how long to wait for the end of the op, at most 5m; 0 does not wait")
	fl.DurationVar(&f.retry, "retry", 0, "for how long to send it again while it is undecided")
	return cmd
}

// A delivery is the body of a submission.
type delivery struct {
	Intent   op.Intent `json:"intent"`
	Envelope []byte    `json:"envelope,omitempty"` // base64 in JSON; none of a benign op
}

// benign makes the delivery of an op that needs no writ.
func (f *submitFlags) benign() (delivery, error) {
	in, err := f.what.intent()
	switch {
	case err != nil:
		return delivery{}, err
	case !in.Class.Benign():
		return delivery{}, usagef("--class %s: it is ordered by a writ: writ sign --class %s, then writ submit FILE", in.Class, in.Class)
	case in.Target.Node == "":
		return delivery{}, usagef("--node is required: the node that the guest is on, as a hint")
	case f.intent != "":
		return delivery{}, usagef("--intent goes with a writ only")
	case f.retry > 0:
		return delivery{}, usagef("--retry: a benign op that was sent twice can be done twice; look at writ ops ls, then ask again")
	}
	if err := in.Check(); err != nil {
		return delivery{}, usagef("%v", err)
	}
	return delivery{Intent: in}, nil
}

// check refuses command lines that can't be meant.
func (f *submitFlags) check() error {
	if f.wait < 0 || f.wait > httpapi.MaxWait {
		return usagef("--wait: %s is not from 0s to %s", f.wait, httpapi.MaxWait)
	}
	if f.retry < 0 {
		return usagef("--retry: %s is negative", f.retry)
	}
	return nil
}

func (a *app) submit(ctx context.Context, f submitFlags, d delivery) error {
	c, err := f.client.open()
	if err != nil {
		return err
	}
	result := c.submit(ctx, d, f.wait)
	if f.retry > 0 {
		result = a.submitAgain(ctx, c, d, f, result)
	}
	if err := a.show(result, result.text); err != nil {
		return err
	}
	if result.code != exitOK {
		return &toldError{result.code}
	}
	return nil
}

func readDelivery(path, intentPath string) (delivery, error) {
	if intentPath == "" {
		raw, u, err := readWrit(path)
		if err != nil {
			return delivery{}, err
		}
		return delivery{Intent: u.UnverifiedDocument().Intent(), Envelope: raw}, nil
	}
	// With an intent of its own, whatever the file holds is the service's to
	// judge.
	raw, err := readBounded(path, signedop.MaxEnvelopeBytes)
	if err != nil {
		return delivery{}, err
	}
	text, err := readBounded(intentPath, maxYAMLBytes)
	if err != nil {
		return delivery{}, err
	}
	d := delivery{Envelope: raw}
	if err := op.Unmarshal(text, &d.Intent); err != nil {
		return delivery{}, fmt.Errorf("intent %s: %w", intentPath, err)
	}
	return d, nil
}

// A submitted is what submit tells: the service's answer or its problem, or
// that there was none.
type submitted struct {
	Answer  *httpapi.Answer  `json:"answer,omitempty"`
	Problem *httpapi.Problem `json:"problem,omitempty"`
	Error   string           `json:"error,omitempty"` // nobody answered
	Tries   int              `json:"tries"`

	code   int
	again  time.Duration // how long the service asks to wait
	benign bool          // nothing tells a second delivery from the first
}

func (c *client) submit(ctx context.Context, d delivery, wait time.Duration) submitted {
	// The service answers when the wait is over. Only one that is gone does not.
	ctx, cancel := context.WithTimeout(ctx, wait+2*time.Minute)
	defer cancel()
	out := submitted{Tries: 1, benign: len(d.Envelope) == 0}
	r, err := c.do(ctx, http.MethodPost, "/v1/ops?wait="+wait.String(), d)
	switch {
	case err != nil:
		out.Error, out.code = err.Error(), exitTryAgain
	case r.problem != nil:
		out.Problem, out.code, out.again = r.problem, problemCode(r.problem), r.retryAfter
	default:
		out.Answer = new(httpapi.Answer)
		if err := json.Unmarshal(r.body, out.Answer); err != nil {
			out.Answer, out.Error, out.code = nil, "the answer can't be read: "+err.Error(), exitTryAgain
			return out
		}
		out.code = answerCode(r.status, out.Answer.Outcome)
	}
	return out
}

func answerCode(status int, outcome string) int {
	switch {
	case status == http.StatusOK:
		return exitOK
	case outcome == "indeterminate":
		return exitIndeterminate
	default:
		return exitInFlight
	}
}

func problemCode(p *httpapi.Problem) int {
	switch p.Status {
	case http.StatusForbidden, http.StatusConflict, http.StatusUnprocessableEntity:
		if p.Reason == "scope-missing" || p.Reason == "bad-request" {
			return exitFailed // the caller's mistake, and none of the writ
		}
		return exitRefused
	case http.StatusPreconditionFailed:
		return exitPrecondition
	case http.StatusFailedDependency:
		return exitHostFailed
	case http.StatusTooManyRequests, http.StatusServiceUnavailable:
		return exitTryAgain
	default:
		return exitFailed
	}
}

// submitAgain sends the same writ again while that may help and the time
// lasts.
func (a *app) submitAgain(ctx context.Context, c *client, d delivery, f submitFlags, last submitted) submitted {
	ctx, cancel := context.WithTimeout(ctx, f.retry)
	defer cancel()
	pause := 250 * time.Millisecond
	for tries := 1; last.code == exitTryAgain; tries++ {
		if (systemClock{}).Wait(ctx, max(pause, last.again)) != nil {
			break
		}
		pause = min(2*pause, 15*time.Second)
		// The time for trying bounds the beginning of a try, not its end: an
		// answer that is under way is worth waiting for.
		last = c.submit(context.WithoutCancel(ctx), d, f.wait)
		last.Tries = tries + 1
	}
	return last
}

func (s submitted) text(w io.Writer) {
	w = plainWriter{w}
	switch {
	case s.Answer != nil:
		s.answerText(w, s.Answer)
	case s.Problem != nil:
		s.problemText(w, s.Problem)
	case s.benign:
		fmt.Fprintf(w, "undecided: %s\nIt may have been done. See writ ops ls --all before you ask again: that would be an op of its own.\n", s.Error)
	default:
		fmt.Fprintf(w, "undecided: %s\nDeliver the same writ again; it takes effect at most once.\n", s.Error)
	}
}

func (s submitted) answerText(w io.Writer, a *httpapi.Answer) {
	fmt.Fprintf(w, "%s: %s\n", a.Outcome, a.Detail)
	row := func(name, value string) {
		if value != "" {
			fmt.Fprintf(w, "  %-9s %s\n", name, value)
		}
	}
	row("op", fmt.Sprintf("%s, attempt %d", a.OpID, a.Attempt))
	row("nonce", cmp.Or(a.Nonce, a.NonceShort))
	row("state", fmt.Sprintf("%s since %s", a.State, a.Since.Format(time.RFC3339)))
	row("upid", a.UPID)
}

func (s submitted) problemText(w io.Writer, p *httpapi.Problem) {
	fmt.Fprintf(w, "%s: %s\n", p.Reason, p.Detail)
	for _, e := range p.Errors {
		fmt.Fprintf(w, "  %s: %s\n", e.Location, e.Message)
	}
	if p.OpID != "" {
		fmt.Fprintf(w, "  op        %s, attempt %d, %s\n", p.OpID, p.Attempt, p.State)
	}
	if p.Nonce != "" {
		fmt.Fprintf(w, "  nonce     %s\n", p.Nonce)
	}
	if p.Effect != "" {
		fmt.Fprintf(w, "  effect    %s\n", p.Effect)
	}
}
