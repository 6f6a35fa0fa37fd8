package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"
)

// demoTime bounds the whole demo; it takes a few seconds.
const demoTime = 2 * time.Minute

func newDemoCmd(a *app) *cobra.Command {
	var keep bool
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "See in ten seconds what writ does, on a simulated cluster",
		Long: `Starts a simulated Proxmox VE cluster and the whole service in this process, lets
them talk over real HTTP on loopback, and plays six scenes. Each ends with claims,
and each claim is checked in code against the simulated host's own account of what
happened to its guests and against the ledger, never against what the service says
of itself. The exit code is 0 only if all of them hold.

Nothing is left behind, unless --keep lets it run on for you to try things.`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.demo(cmd.Context(), demoScenes(), keep) },
	}
	cmd.Flags().BoolVar(&keep, "keep", false, "let everything run on at the end, until Ctrl-C")
	return cmd
}

// A scene is one thing to see. It is played once, then its claims are checked.
type scene struct {
	title string
	story string
	// play does what is asked. An error means that the scene could not be
	// played, not that a claim failed.
	play func(ctx context.Context, w *demoWorld) error
	// claims compares the host's account and the ledger with what must hold.
	claims func(ctx context.Context, w *demoWorld) ([]claim, error)
}

// A claim is one sentence that must be true.
type claim struct {
	Text  string `json:"claim"`
	Holds bool   `json:"holds"`
	Found string `json:"found,omitempty"` // what is there instead, if it doesn't
}

// claimEqual claims that what was found is what must be.
func claimEqual[T comparable](text string, found, want T) claim {
	if found == want {
		return claim{Text: text, Holds: true}
	}
	return claim{Text: text, Found: fmt.Sprintf("%v, where %v must be", found, want)}
}

// demo plays the scenes and tells whether every claim held.
func (a *app) demo(ctx context.Context, scenes []scene, keep bool) (err error) {
	playing, cancel := context.WithTimeout(ctx, demoTime)
	defer cancel()
	show := newDemoShow(a)
	w, err := newDemoWorld(playing, a, show)
	if err != nil {
		return fmt.Errorf("start the demo: %w", err)
	}
	defer func() { err = errors.Join(err, w.close()) }()

	w.keep = keep
	show.opening(w)
	checked, failed := 0, 0
	for i, s := range scenes {
		show.scene(i+1, s)
		w.beginScene(i + 1)
		if err := s.play(playing, w); ctx.Err() != nil {
			return errInterrupted
		} else if err != nil {
			return fmt.Errorf("scene %d: %w", i+1, err)
		}
		claims, err := s.claims(playing, w)
		if err != nil {
			return fmt.Errorf("scene %d: check the claims: %w", i+1, err)
		}
		if len(claims) == 0 {
			return fmt.Errorf("scene %d claims nothing, and so shows nothing", i+1)
		}
		for _, c := range claims {
			checked++
			if !c.Holds {
				failed++
			}
			show.claim(c)
		}
	}
	show.summary(w, checked, failed)
	if keep {
		show.keeping(w)
		<-ctx.Done()
	}
	if failed > 0 {
		return &toldError{exitFailed}
	}
	return nil
}

// close ends what runs and removes the folder.
func (w *demoWorld) close() error {
	var errs []error
	for i := len(w.closers) - 1; i >= 0; i-- {
		errs = append(errs, w.closers[i]())
	}
	errs = append(errs, os.RemoveAll(w.dir))
	return errors.Join(errs...)
}
