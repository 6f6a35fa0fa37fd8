package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"writ/adapters/pebblestore"
	"writ/domain/eventstore"
	"writ/projections/audit"
)

func newAuditExportCmd(a *app) *cobra.Command {
	var store, out string
	cmd := &cobra.Command{
		Use:   "export",
		Short: "Write a ledger as lines of JSON that can be checked anywhere",
		Long: `Writes a ledger as lines of JSON: one event a line with its exact bytes in base64, and
a manifest of counts and digests at the end. writ audit verify --export needs nothing
else.

It is written to FILE.part, which becomes FILE once it is whole. If that was cut
short, the same command goes on where it ended.

An export holds the writs whole, those too that could still be submitted. Keep it as
you keep the ledger.`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if store == "" || out == "" {
				return usagef("--store and --out are required")
			}
			return a.auditExport(cmd.Context(), store, out)
		},
	}
	cmd.Flags().StringVar(&store, "store", "", "folder of a ledger that no service holds")
	cmd.Flags().StringVar(&out, "out", "", "file to write, which must not exist yet; - is standard output")
	return cmd
}

// An exported tells what writ audit export has written.
type exported struct {
	File     string         `json:"file"`
	Manifest audit.Manifest `json:"manifest"`
}

func (a *app) auditExport(ctx context.Context, dir, out string) (err error) {
	if out != "-" {
		if err := mustNotExist(out); err != nil {
			return err
		}
	}
	store, err := openLedgerFolder(dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	m := a.newMeter("written")
	defer m.end()
	if out == "-" {
		w := bufio.NewWriterSize(a.out, 1<<20)
		_, err := audit.NewExporter(w, store.LedgerID(), eventstore.Cursor{}).Export(ctx, store, m.show)
		return errors.Join(err, w.Flush())
	}
	manifest, err := exportToFile(ctx, store, out, m.show)
	if err != nil {
		return err
	}
	m.end()
	return a.show(exported{out, manifest}, func(w io.Writer) {
		fmt.Fprintf(w, "%s: %d events of ledger %s, up to position %d\nsha256 of all lines but the last: %s\n",
			out, manifest.Events, manifest.Ledger, manifest.Last, manifest.SHA256)
	})
}

// exportToFile writes to a file beside the one that is meant, and goes on with
// what an earlier run has left of it. The name itself stands for a whole export
// or for nothing.
func exportToFile(ctx context.Context, store *pebblestore.Store, out string, progress func(audit.Progress)) (manifest audit.Manifest, err error) {
	part := out + ".part"
	f, err := os.OpenFile(part, os.O_RDWR|os.O_CREATE, 0o600) //nolint:gosec // the person names the file
	if err != nil {
		return manifest, fileError("write", part, err)
	}
	w := bufio.NewWriterSize(f, 1<<20)
	x, err := continueExport(f, w, store.LedgerID())
	if err == nil {
		manifest, err = x.Export(ctx, store, progress)
		// What there is by now is kept for the next run.
		err = errors.Join(err, w.Flush())
	} else if errors.Is(err, audit.ErrExportWhole) {
		manifest, err = manifestOf(f)
	}
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return manifest, fmt.Errorf("%s: %w", part, err)
	}
	if err := mustNotExist(out); err != nil {
		return manifest, err
	}
	if err := os.Rename(part, out); err != nil {
		return manifest, fileError("write", out, err)
	}
	return manifest, nil
}

// continueExport begins an export in an empty file, or goes on with one.
func continueExport(f *os.File, w io.Writer, ledger eventstore.LedgerID) (*audit.Exporter, error) {
	first := make([]byte, 4096)
	n, err := f.ReadAt(first, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	if !bytes.Contains(first[:n], []byte("\n")) {
		// Not even the first line was written: nothing is lost.
		return audit.NewExporter(w, ledger, eventstore.Cursor{}), rewind(f, 0)
	}
	x, good, err := audit.ResumeExport(f, w)
	if err != nil {
		return nil, err
	}
	return x, rewind(f, good)
}

func rewind(f *os.File, size int64) error {
	if err := f.Truncate(size); err != nil {
		return err
	}
	_, err := f.Seek(size, io.SeekStart)
	return err
}

// manifestOf reads the manifest of an export that is whole.
func manifestOf(f *os.File) (audit.Manifest, error) {
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return audit.Manifest{}, err
	}
	return audit.ManifestOf(f)
}
