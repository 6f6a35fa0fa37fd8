package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"

	"github.com/spf13/cobra"

	"writ/adapters/pebblestore"
	"writ/projections/audit"
)

// exitUnsound says that a record was read and does not hold.
const exitUnsound = 10

const auditLong = `Replays a ledger and checks it without trusting the service that wrote it: every
event, chain hash, transition, signature and decision. See docs/audit.md, which also
shows how one op is checked by hand, with ssh-keygen, jq and sha256sum.

  writ audit verify --store DIR       check a ledger's folder, or
  writ audit verify --export FILE     an export of it, or
  writ audit verify --url URL         what a running service exports
  writ audit export --store DIR --out FILE
  writ audit why NONCE --export FILE  the story of one op in plain words

A folder can be opened by one program at a time: while the service runs, use an
export of it, or a backup of the folder. A folder is opened as the service opens it,
so work on a copy if not one byte of it may change.`

func newAuditCmd(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use: "audit", Short: "Check the record, export it, tell the story of an op", Long: auditLong, Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newAuditVerifyCmd(a), newAuditExportCmd(a), newAuditWhyCmd(a))
	return cmd
}

// auditFlags say what is audited.
type auditFlags struct {
	store, export string
	service       clientFlags
}

func (f *auditFlags) register(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.store, "store", "", "folder of a ledger that no service holds")
	cmd.Flags().StringVar(&f.export, "export", "", "file that writ audit export wrote; - is standard input")
	f.service.register(cmd)
}

// An auditSource is what is audited, opened.
type auditSource struct {
	audit.Source

	store *pebblestore.Store // nil if it is not one
	close func() error
}

// open opens the one source that is named.
func (f *auditFlags) open(ctx context.Context, a *app, cmd *cobra.Command) (*auditSource, error) {
	if err := oneOf(cmd, "store", "export", "url"); err != nil {
		return nil, err
	}
	switch {
	case f.store != "":
		s, err := openLedgerFolder(f.store)
		if err != nil {
			return nil, err
		}
		return &auditSource{Source: audit.OfStore(s), store: s, close: s.Close}, nil
	case f.export != "":
		return f.openExport(a)
	case cmd.Flags().Changed("url") || os.Getenv(urlVariable) != "":
		return f.openService(ctx)
	}
	return nil, usagef("nothing to read: give --store DIR, --export FILE or --url URL")
}

// wholeCache is the store's cache for reading all of a ledger: events come in
// another order than they lie in, so what finds them is best kept in memory.
const wholeCache = 64 << 20

func openLedgerFolder(dir string) (*pebblestore.Store, error) {
	s, err := pebblestore.Open(dir, pebblestore.Options{CacheBytes: wholeCache})
	if err != nil {
		return nil, fmt.Errorf("%w (while a service holds the folder, read a backup or an export of it, or give --url)", err)
	}
	return s, nil
}

func (f *auditFlags) openExport(a *app) (*auditSource, error) {
	if f.export == "-" {
		src, err := audit.OpenExport(a.in, 0)
		if err != nil {
			return nil, err
		}
		return &auditSource{Source: src, close: func() error { return nil }}, nil
	}
	file, err := os.Open(f.export)
	if err != nil {
		return nil, fileError("read", f.export, err)
	}
	size := int64(0)
	if info, err := file.Stat(); err == nil && info.Mode().IsRegular() {
		size = info.Size()
	}
	src, err := audit.OpenExport(file, size)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", f.export, err), file.Close())
	}
	return &auditSource{Source: src, close: file.Close}, nil
}

// openService reads the export of a running service as it comes.
func (f *auditFlags) openService(ctx context.Context) (*auditSource, error) {
	c, err := f.service.open()
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.base+"/v1/audit/export", nil)
	if err != nil {
		return nil, err
	}
	if c.token != nil {
		req.Header.Set("Authorization", "Bearer "+string(c.token))
	}
	resp, err := c.http.Do(req)
	if err != nil {
		var ue *url.Error
		if errors.As(err, &ue) {
			err = ue.Err
		}
		return nil, fmt.Errorf("ask %s: %w", c.base, err)
	}
	if resp.StatusCode != http.StatusOK {
		data, _ := io.ReadAll(io.LimitReader(resp.Body, maxReplyBytes)) // what it says is only shown
		_ = resp.Body.Close()
		r, err := readReply(c.base, resp, data)
		switch {
		case err != nil:
			return nil, err
		case r.problem != nil:
			return nil, fmt.Errorf("ask %s for its export: %s: %s", c.base, resp.Status, r.problem.Detail)
		}
		return nil, fmt.Errorf("ask %s for its export: %s", c.base, resp.Status)
	}
	src, err := audit.OpenExport(resp.Body, resp.ContentLength)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", c.base, err), resp.Body.Close())
	}
	return &auditSource{Source: src, close: resp.Body.Close}, nil
}
