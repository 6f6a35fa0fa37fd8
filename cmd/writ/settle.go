package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/spf13/cobra"

	"writ/adapters/httpapi"
	"writ/domain/op"
)

// exitConflict says that a resolution does not fit how the op stands.
const exitConflict = 9

// settleWait is how long an answer is waited for: the service may have to ask
// the host, and raise a fence.
const settleWait = 3 * time.Minute

func newRecoveryResolveCmd(a *app) *cobra.Command {
	var f clientFlags
	var retry time.Duration
	cmd := &cobra.Command{
		Use:   "resolve FILE",
		Short: "Hand in a signed resolution",
		Long: `Hands in a resolution, exactly the bytes of the file. It is sent once, unless --retry
lets it be sent again while it is undecided, which is safe: it settles the op at
most once.

Exit codes:
  0  the op is settled, and the resolution on record
  1  it could not be handed in, or the service is at fault
  2  the command line is wrong
  5  refused: the gate's reason is shown, or the resolution is malformed
  8  undecided: the service or the host can't be reached, or recovery is at work on the
     op right now; hand it in again
  9  it does not fit how the op stands (another attempt, something happened since, the
     op has ended), or it says none and something of the attempt may still act`,
		Args: oneArg("the resolution"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if retry < 0 {
				return usagef("--retry: %s is negative", retry)
			}
			file, err := readSigned(args[0])
			if err != nil {
				return err
			}
			if file.resolution == nil {
				return fmt.Errorf("read resolution %s: it is a writ: writ submit delivers it", args[0])
			}
			c, err := f.open()
			if err != nil {
				return err
			}
			return a.showSettlement(c.resolve(cmd.Context(), file, retry))
		},
	}
	f.register(cmd)
	cmd.Flags().DurationVar(&retry, "retry", 0, "for how long to hand it in again while it is undecided")
	return cmd
}

// resolve hands a resolution in, and again while that may help and the time
// lasts.
func (c *client) resolve(ctx context.Context, file *signedFile, retry time.Duration) settlement {
	body := map[string][]byte{"envelope": file.raw} // base64 in JSON
	waiting, cancel := context.WithTimeout(ctx, retry)
	defer cancel()
	for {
		s := c.settle(ctx, "/v1/recovery/"+string(file.nonce())+"/resolve", body)
		s.again = "Hand the same resolution in again; it settles the op at most once."
		if s.Problem != nil {
			s.code = resolveCode(s.Problem)
		}
		if s.code != exitTryAgain || (systemClock{}).Wait(waiting, time.Second) != nil {
			return s
		}
	}
}

func newVoidCmd(a *app) *cobra.Command {
	var f clientFlags
	var reason string
	cmd := &cobra.Command{
		Use:   "void NONCE|FILE.writ --reason TEXT",
		Short: "Take a writ back before it runs",
		Long: `Takes a writ back: from then on its nonce can never run, whoever holds the writ and
whether or not it was ever submitted. The file of the writ will do, or its whole
nonce (writ inspect shows it). Voiding again is safe.

Exit codes:
  0  it is voided, and will never run
  1  the service could not be asked, or is at fault
  2  the command line is wrong
  3  too late: it is under way and may take effect
  5  its nonce is spent already: it has run, or it failed with an effect
  8  undecided: the service can't be reached; void it again`,
		Args: oneArg("the writ's nonce or file"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if reason == "" {
				return usagef("--reason is required: why it is taken back; people and auditors will read it")
			}
			n, err := nonceOrWrit(args[0])
			if err != nil {
				return err
			}
			c, err := f.open()
			if err != nil {
				return err
			}
			s := c.settle(cmd.Context(), "/v1/ops/"+string(n)+"/void", map[string]string{"reason": reason})
			s.again = "Void it again to be certain."
			if s.Problem != nil {
				s.code = voidCode(s.Problem)
			}
			return a.showSettlement(s)
		},
	}
	f.register(cmd)
	cmd.Flags().StringVar(&reason, "reason", "", "why, in one line, for the record (required)")
	return cmd
}

// nonceOrWrit takes a whole nonce as it is, and anything else for a file. Part
// of a nonce is not enough: a writ that was never submitted is not known to the
// service.
func nonceOrWrit(arg string) (op.Nonce, error) {
	if n, err := op.ParseNonce(arg); err == nil {
		return n, nil
	}
	_, u, err := readWrit(arg)
	if err != nil {
		return "", fmt.Errorf("%q is no whole nonce, so it is taken for a file: %w", arg, err)
	}
	return u.Nonce(), nil
}

// A settlement is what resolve and void tell: how the op stands now, or the
// service's problem, or that nobody answered.
type settlement struct {
	Settled *httpapi.Settled `json:"settled,omitempty"`
	Problem *httpapi.Problem `json:"problem,omitempty"`
	Error   string           `json:"error,omitempty"`

	code  int
	again string // what to do if it is undecided
}

func (c *client) settle(ctx context.Context, path string, body any) settlement {
	ctx, cancel := context.WithTimeout(ctx, settleWait)
	defer cancel()
	r, err := c.do(ctx, http.MethodPost, path, body)
	switch {
	case err != nil:
		return settlement{Error: err.Error(), code: exitTryAgain}
	case r.problem != nil:
		return settlement{Problem: r.problem}
	}
	s := settlement{Settled: new(httpapi.Settled)}
	if err := json.Unmarshal(r.body, s.Settled); err != nil {
		return settlement{Error: "the answer can't be read: " + err.Error(), code: exitTryAgain}
	}
	return s
}

func resolveCode(p *httpapi.Problem) int {
	switch {
	case p.Reason == "held":
		return exitTryAgain
	case p.Status == http.StatusConflict:
		return exitConflict
	}
	return problemCode(p)
}

func voidCode(p *httpapi.Problem) int {
	if p.Reason == "in-flight" {
		return exitInFlight
	}
	return problemCode(p)
}

func (a *app) showSettlement(s settlement) error {
	if err := a.show(s, s.text); err != nil {
		return err
	}
	if s.code != exitOK {
		return &toldError{s.code}
	}
	return nil
}

func (s settlement) text(w io.Writer) {
	w = plainWriter{w}
	switch {
	case s.Settled != nil:
		s.settledText(w, s.Settled)
	case s.Problem != nil:
		submitted{}.problemText(w, s.Problem)
		if s.code == exitTryAgain {
			fmt.Fprintln(w, s.again)
		}
	default:
		fmt.Fprintf(w, "undecided: %s\n%s\n", s.Error, s.again)
	}
}

func (settlement) settledText(w io.Writer, r *httpapi.Settled) {
	state := r.State
	if r.Effect != "" {
		state += ", effect " + r.Effect
	}
	fmt.Fprintf(w, "%s: %s\n", state, r.Detail)
	fmt.Fprintf(w, "  nonce     %s\n", r.NonceShort)
	if r.OpID != "" {
		fmt.Fprintf(w, "  op        %s, attempt %d\n", r.OpID, r.Attempt)
	}
	follows := "the nonce is spent: this writ never runs again"
	if !r.Spent {
		follows = "the same writ may be submitted ONCE MORE, while it is valid"
	}
	fmt.Fprintf(w, "  follows   %s\n", follows)
}
