package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"
)

// Exit codes. Programs may rely on them.
const (
	exitOK     = 0
	exitFailed = 1 // the command could not do what was asked
	exitUsage  = 2 // the command line is wrong
)

// An app is what every command works with: its streams, its clock, and how to
// show things.
type app struct {
	in       io.Reader
	out, err io.Writer
	now      func() time.Time
	asJSON   bool // --json: one object a line on out, nothing else there
}

// run is the whole program but for the process around it; tests start it too.
func run(ctx context.Context, args []string, in io.Reader, out, errw io.Writer) int {
	a := &app{in: in, out: out, err: errw, now: time.Now}
	root := newRootCmd(a)
	root.SetArgs(args)
	root.SetIn(in)
	root.SetOut(out)
	root.SetErr(errw)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return exitOK
	}
	var usage *usageError
	code := exitFailed
	if errors.As(err, &usage) {
		code = exitUsage
	}
	var told *toldError
	if errors.As(err, &told) {
		return told.code
	}
	a.tellError(err)
	return code
}

func newRootCmd(a *app) *cobra.Command {
	root := &cobra.Command{
		Use:           "writ",
		Short:         "Signed one-shot orders for destructive operations on Proxmox VE, each exactly once",
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          cobra.NoArgs,
	}
	root.PersistentFlags().BoolVar(&a.asJSON, "json", false, "print JSON, one object a line, for programs")
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return &usageError{err} })
	root.AddCommand(commands(a)...)
	return root
}

// A usageError says that the command line is wrong.
type usageError struct{ err error }

func (e *usageError) Error() string { return e.err.Error() }
func (e *usageError) Unwrap() error { return e.err }

func usagef(format string, args ...any) error { return &usageError{fmt.Errorf(format, args...)} }

// A toldError ends the program with a code after the command has itself shown
// what there is to show.
type toldError struct{ code int }

func (e *toldError) Error() string { return fmt.Sprintf("exit code %d", e.code) }

func (a *app) tellError(err error) {
	if a.asJSON {
		_ = json.NewEncoder(a.err).Encode(map[string]string{"error": err.Error()})
		return
	}
	fmt.Fprintf(a.err, "writ: %v\n", err)
}

// show prints v as one line of JSON, or calls text to print it for people.
func (a *app) show(v any, text func(w io.Writer)) error {
	if a.asJSON {
		enc := json.NewEncoder(a.out)
		enc.SetEscapeHTML(false)
		return enc.Encode(v)
	}
	text(a.out)
	return nil
}

// isTerminal tells whether w is a terminal that may be written to in colour.
func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd())) && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"
}
