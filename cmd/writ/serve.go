package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"
)

type serveFlags struct {
	config, addressFile string
	grace               time.Duration
}

// A serving is what serve tells as soon as it answers.
type serving struct {
	URL      string `json:"url"`
	Audience string `json:"audience"`
	Ledger   string `json:"ledger"`
	Policy   string `json:"policy"`
}

func newServeCmd(a *app) *cobra.Command {
	var f serveFlags
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Run the service",
		Long: `Runs the service until it is interrupted: takes writs over HTTP, decides, carries
them out on the host, and records every step before the next.

SIGHUP reads the policy file again. If it can't be put in force, the policy in force
before stays so, and the log says why. The first SIGINT or SIGTERM ends the service
in order: nothing new is launched, what runs at the host runs on.

Whatever was in flight when it last ended is taken up first: the service asks the
host what became of it, and launches nothing before all of it is taken up. A restart
by itself launches nothing. What the host's evidence does not decide stays in the
recovery queue for people (writ recovery).

A ledger that is an old copy, such as a restored backup, knows fewer spent nonces than
the truth, and must not act. The service compares it with the high-water mark that is
kept beside it, and asks the host for attempts that it knows nothing of; if either tells
of a newer copy, nothing is claimed or launched until people have looked (writ store
accept-rollback). The same holds while its clock disagrees with the host's, and while
the ledger's disk has no room but for the ends of ops.

Each key of the configuration can also be given by an environment variable: WRIT_
and the key in capitals, with _ for each dot.`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.serve(cmd.Context(), f) },
	}
	fl := cmd.Flags()
	fl.StringVar(&f.config, "config", configDefault(), "configuration file; $"+configVariable+" names another default")
	fl.StringVar(&f.addressFile, "address-file", "", "write the URL to this file as soon as it answers, for scripts that listen on port 0")
	fl.DurationVar(&f.grace, "grace", 20*time.Second, "how long ops under way are waited for at the end")
	return cmd
}

func configDefault() string {
	if path := os.Getenv(configVariable); path != "" {
		return path
	}
	return configName
}

func (a *app) serve(ctx context.Context, f serveFlags) (err error) {
	c, err := loadConfig(f.config, os.Environ())
	if err != nil {
		return err
	}
	log := newLogger(c.Log, a.err)
	reload := make(chan os.Signal, 1)
	signal.Notify(reload, syscall.SIGHUP)
	defer signal.Stop(reload)

	s, err := startService(ctx, serviceOptions{Config: c, Log: log, Version: readVersion().Version})
	if err != nil {
		return err
	}
	defer func() {
		log.Info("stopping", "grace", f.grace)
		stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), f.grace)
		defer cancel()
		err = errors.Join(err, s.Stop(stop))
		log.Info("stopped")
	}()
	keepMemorySmall(ctx) // not before: a start uses little, and would collect it over and over
	if err := a.tellServing(s, c, f.addressFile); err != nil {
		return err
	}
	for {
		select {
		case <-ctx.Done():
			return nil
		case err := <-s.Failed:
			return err
		case <-reload:
			if _, err := s.ReloadPolicy(ctx); err != nil {
				log.Error("the policy could not be reloaded; "+afterFailedReload(err), "err", err)
			}
		}
	}
}

// afterFailedReload says what holds now.
func afterFailedReload(err error) string {
	var told *policyProblems
	var line *lineError
	if errors.As(err, &told) || errors.As(err, &line) {
		return "the one in force before stays in force"
	}
	return "the one in force before stays so, unless the new one is on record: then nothing signed runs until a reload succeeds"
}

func (a *app) tellServing(s *service, c *config, addressFile string) error {
	v := serving{URL: s.URL, Audience: s.Audience, Ledger: c.Store.Embedded.Path, Policy: c.Policy.Path}
	if addressFile != "" {
		// Whoever waits for the file never sees half of it.
		if err := replace(addressFile, []byte(s.URL+"\n")); err != nil {
			return err
		}
	}
	return a.show(v, func(w io.Writer) {
		fmt.Fprintf(w, "writ serves %s at %s\n", v.Audience, v.URL)
	})
}
