package main

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"writ/domain/op"
	"writ/domain/signedop"
)

// document makes all of the document but what is expected of the target.
func (f signFlags) document(now time.Time) (signedop.Document, error) {
	in, err := f.what.intent()
	switch {
	case err != nil:
		return signedop.Document{}, err
	case in.Class.Benign():
		return signedop.Document{}, usagef("--class %s: it is benign and is not ordered by a writ: writ submit --class %s", in.Class, in.Class)
	}
	d := signedop.Document{
		Version: signedop.Version, Audience: f.audience, Class: in.Class, Target: in.Target, Params: in.Params, Role: f.role,
		RequestedBy: f.requestedBy, Reason: f.reason,
	}
	if d.NotBefore, d.ExpiresAt, err = f.validity.times(now); err != nil {
		return signedop.Document{}, err
	}
	if f.nonce == "" {
		d.Nonce = drawNonce()
		return d, nil
	}
	n, err := op.ParseNonce(f.nonce)
	if err != nil {
		return signedop.Document{}, usagef("--nonce: %v", err)
	}
	d.Nonce = n
	return d, nil
}

// validityFlags say when a document counts.
type validityFlags struct {
	notBefore, expiresAt string
	validFor             time.Duration
}

func (f *validityFlags) register(cmd *cobra.Command) {
	fl := cmd.Flags()
	fl.DurationVar(&f.validFor, "valid-for", time.Hour, "how long it may be used, from now or --not-before on")
	fl.StringVar(&f.notBefore, "not-before", "", "when it begins to count, such as 2026-11-23T09:00:00Z (default: now)")
	fl.StringVar(&f.expiresAt, "expires-at", "", "when it stops to count, in place of --valid-for")
}

// times gives not_before and expires_at.
func (f validityFlags) times(now time.Time) (notBefore, expiresAt time.Time, err error) {
	notBefore = now.UTC().Truncate(time.Second)
	if f.notBefore != "" {
		if notBefore, err = parseTime("--not-before", f.notBefore); err != nil {
			return notBefore, expiresAt, err
		}
	}
	if f.expiresAt != "" {
		expiresAt, err = parseTime("--expires-at", f.expiresAt)
		return notBefore, expiresAt, err
	}
	if f.validFor < time.Second {
		return notBefore, expiresAt, usagef("--valid-for: %s is less than a second", f.validFor)
	}
	return notBefore, notBefore.Add(f.validFor.Truncate(time.Second)), nil
}

// parseTime reads a time as people write it in documents.
func parseTime(flag, s string) (time.Time, error) {
	t, err := time.Parse(time.RFC3339, s)
	if err != nil || t.Nanosecond() != 0 {
		return time.Time{}, usagef("%s: %q is not a time in whole seconds such as 2026-11-23T09:00:00Z", flag, s)
	}
	return t.UTC(), nil
}

// drawNonce makes 128 random bits. crypto/rand never fails: it ends the
// program instead.
func drawNonce() op.Nonce {
	var b [16]byte
	_, _ = rand.Read(b[:])
	return op.Nonce(hex.EncodeToString(b[:]))
}

// signHint adds to what is wrong with a document how to put it right here.
func (a *app) signHint(f signFlags, err error) error {
	var bad *signedop.MalformedError
	if !errors.As(err, &bad) {
		return err
	}
	hints := map[string]string{
		"expect.volumes":      "--expect-volume ID for each, or --no-volumes",
		"expect.smbios_uuid":  "--expect-smbios-uuid UUID",
		"expect.name":         "--expect-name HOSTNAME",
		"expect.macs":         "--expect-mac ADDRESS for each, or --no-macs",
		"expect.digest":       "--expect-digest SHA1 or --expect-writ-id ID",
		"expect.snapshot":     "--expect-snapshot-time SECONDS",
		"expect.archive":      "--expect-size BYTES and, where its storage has it, --expect-volume-ctime SECONDS",
		"expect.volume":       "--expect-size BYTES and, where its storage has it, --expect-volume-ctime SECONDS",
		"expect.pool":         "--expect-size BYTES and --expect-member DEVICE for each",
		"expect.pool.members": "--expect-member DEVICE for each",
		"expect.plan":         "--expect-plan DIGEST",
		"expect.disk":         "--expect-size BYTES and --expect-serial or --expect-wwn",
		"params.snapshot":     "--snapshot NAME",
		"params.archive":      "--archive VOLUME-ID",
		"params.storage":      "--storage NAME",
		"audience":            "--audience AGENT/LEDGER",
		"requested_by":        "--requested-by",
		"role":                "--role",
	}
	hint, ok := hints[bad.Field]
	if !ok || f.host.given() && strings.HasPrefix(bad.Field, "expect.") {
		return fmt.Errorf("this can't be ordered: %s: %s", bad.Field, bad.Why)
	}
	return fmt.Errorf("this can't be ordered: %s: %s (give %s)", bad.Field, bad.Why, hint)
}
