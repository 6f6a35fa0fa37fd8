package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/term"
)

// Questions are put on standard error, so that what a command prints can be
// piped away, and only if standard input is a terminal: nobody is asked what
// nobody can answer.

// canAsk tells whether a person sits at the other end.
func (a *app) canAsk() bool {
	f, ok := a.in.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// confirm asks for a yes. Anything but "y" or "yes" is a no.
func (a *app) confirm(ctx context.Context, question string) (bool, error) {
	if !a.canAsk() {
		return false, usagef("standard input is no terminal, so nobody can be asked %q: check what is shown above and add --yes", question)
	}
	fmt.Fprintf(a.err, "%s [y/N] ", question)
	line, err := untilInterrupted(ctx, func() (string, error) {
		return bufio.NewReader(io.LimitReader(a.in, 1024)).ReadString('\n')
	})
	if err != nil && line == "" {
		fmt.Fprintln(a.err)
		if errors.Is(err, errInterrupted) {
			return false, err
		}
		return false, nil
	}
	switch strings.ToLower(strings.TrimSpace(line)) {
	case "y", "yes":
		return true, nil
	}
	return false, nil
}

// agreed asks for consent, unless it was given beforehand. A no is told, and
// ends the program with exitFailed.
func (a *app) agreed(ctx context.Context, already bool, question string) (bool, error) {
	if already {
		return true, nil
	}
	ok, err := a.confirm(ctx, question)
	if err != nil {
		return false, err
	}
	if !ok {
		fmt.Fprintln(a.err, "Not signed. Nothing was written.")
		return false, &toldError{exitFailed}
	}
	return true, nil
}

// askSecret reads a line that is not shown.
func (a *app) askSecret(ctx context.Context, prompt string) ([]byte, error) {
	f, ok := a.in.(*os.File)
	if !ok || !a.canAsk() {
		return nil, usagef("standard input is no terminal, so nobody can be asked for the passphrase: use --passphrase-file")
	}
	terminal := int(f.Fd())
	asFound, err := term.GetState(terminal)
	if err != nil {
		return nil, fmt.Errorf("read passphrase: %w", err)
	}
	fmt.Fprint(a.err, prompt)
	secret, err := untilInterrupted(ctx, func() ([]byte, error) { return term.ReadPassword(terminal) })
	fmt.Fprintln(a.err)
	if err != nil {
		// Whoever interrupts must get back a terminal that shows what is typed.
		return nil, fmt.Errorf("read passphrase: %w", errors.Join(err, term.Restore(terminal, asFound)))
	}
	return secret, nil
}

// untilInterrupted reads from a person, who may rather end the program. The
// read itself can't be ended; the program does not wait for it.
func untilInterrupted[T any](ctx context.Context, read func() (T, error)) (T, error) {
	type result struct {
		value T
		err   error
	}
	got := make(chan result, 1)
	go func() {
		value, err := read()
		got <- result{value, err}
	}()
	select {
	case r := <-got:
		return r.value, r.err
	case <-ctx.Done():
		var none T
		return none, errInterrupted
	}
}

var errInterrupted = errors.New("interrupted")

// readSecretFile reads a file that holds one secret; a line end after it does
// not belong to it.
func readSecretFile(path string) ([]byte, error) {
	data, err := readBounded(path, 4096)
	if err != nil {
		return nil, err
	}
	secret := bytes.TrimRight(data, "\r\n")
	if len(secret) == 0 {
		return nil, fmt.Errorf("secret file %s: empty", path)
	}
	if bytes.ContainsAny(secret, "\r\n") {
		return nil, fmt.Errorf("secret file %s: more than one line", path)
	}
	return secret, nil
}
