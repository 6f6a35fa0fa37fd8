package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"writ/adapters/proxmox"
	"writ/domain/engine"
	"writ/domain/op"
	"writ/domain/signedop"
)

// hostFlags say how to read a guest from the host: as the service's
// configuration does, or by a token of the signer's own, for which the right
// to look (role PVEAuditor) is enough.
type hostFlags struct {
	config, url, tokenID, tokenSecretFile, caFile string
	fingerprints                                  []string
}

func (f *hostFlags) register(cmd *cobra.Command) {
	fl := cmd.Flags()
	fl.StringVar(&f.config, "config", "", "read the target from the host of this configuration file")
	fl.StringVar(&f.url, "url", "", "read the target from this Proxmox VE node, such as https://pve1.example:8006")
	fl.StringVar(&f.tokenID, "token-id", "", "with --url: API token, user@realm!name; the role PVEAuditor is enough")
	fl.StringVar(&f.tokenSecretFile, "token-secret-file", "", "with --url: file with the token's secret")
	fl.StringVar(&f.caFile, "ca-file", "", "with --url: certificate authority of the node, in place of the system's")
	fl.StringSliceVar(&f.fingerprints, "fingerprint", nil, "with --url: SHA-256 of the node's certificate, as Proxmox VE shows it")
}

func (f hostFlags) given() bool { return f.config != "" || f.url != "" }

// check refuses half an access.
func (f hostFlags) check(cmd *cobra.Command) error {
	withURL := given(cmd, "token-id", "token-secret-file", "ca-file", "fingerprint")
	switch {
	case f.config != "" && (f.url != "" || len(withURL) > 0):
		return usagef("--config says how to reach the host: leave --url and what goes with it out")
	case f.url == "" && len(withURL) > 0:
		return usagef("%s goes with --url only", withURL[0])
	case f.url != "" && (f.tokenID == "" || f.tokenSecretFile == ""):
		return usagef("--url needs --token-id and --token-secret-file: a token with the role PVEAuditor is enough")
	}
	return nil
}

// open connects to nothing yet: the first question does.
func (f hostFlags) open() (*proxmox.Host, error) {
	if f.config != "" {
		c, err := loadConfig(f.config, os.Environ())
		if err != nil {
			return nil, err
		}
		return c.openHost(nil)
	}
	secret, err := readSecretFile(f.tokenSecretFile)
	if err != nil {
		return nil, fmt.Errorf("--token-secret-file: %w", err)
	}
	return proxmox.New(proxmox.Config{
		BaseURL: f.url, TokenID: f.tokenID, Secret: proxmox.Secret(secret), CAFile: f.caFile, Fingerprints: f.fingerprints,
	}, nil)
}

// fillFromHost reads the target and puts into the document where it is and what
// it looks like. It also gives what would keep the order from running as
// things stand.
func (a *app) fillFromHost(ctx context.Context, f signFlags, d *signedop.Document) ([]string, error) {
	host, err := f.host.open()
	if err != nil {
		return nil, err
	}
	defer host.Close()
	if d.Target.Guest != nil {
		if d.Target.Node, err = whereIs(ctx, host, *d.Target.Guest, f.what.node); err != nil {
			return nil, err
		}
	}
	if err := d.Intent().Check(); err != nil {
		return nil, a.signHint(f, &signedop.MalformedError{Field: field(err), Why: why(err)})
	}
	x := host.Executors()[d.Class]
	if x == nil {
		return nil, fmt.Errorf("class %s: nothing here carries it out", d.Class)
	}
	seen, err := x.Observe(ctx, engine.Attempt{Intent: d.Intent()})
	switch {
	case errors.Is(err, engine.ErrNoExecutor):
		return nil, fmt.Errorf("%w. To sign it all the same leave --config and --url out, and say what to expect by flags", err)
	case err != nil:
		return nil, err
	case !seen.Found && d.Target.Guest != nil:
		return nil, fmt.Errorf("%s %d: the guest went away while it was read", d.Target.Guest.Type, d.Target.Guest.VMID)
	case !seen.Found:
		return nil, fmt.Errorf("the host has no %s", d.Target)
	case d.Params.Snapshot != "" && seen.Snapshot == nil:
		return nil, fmt.Errorf("--snapshot %s: %s %d has no such snapshot", d.Params.Snapshot, seen.Type, seen.VMID)
	case d.Params.Archive != "" && seen.Archive == nil:
		return nil, fmt.Errorf("--archive %s: node %s has no such backup, or the token may not see it (it needs Datastore.Audit, and VM.Backup on its owner)", d.Params.Archive, seen.Node)
	case seen.Template:
		fmt.Fprintf(a.err, "Note: %s %d is a template.\n", seen.Type, seen.VMID)
	}
	d.Target.Node = seen.Node
	d.Expect = expectOf(seen, f.strict)
	unmet := engine.Unmet(d.Intent(), d.Expect, seen)
	if f.plan {
		return unmet, a.expectPlan(ctx, host, d)
	}
	return unmet, nil
}

// whereIs finds the node that a guest is on.
func whereIs(ctx context.Context, host *proxmox.Host, g op.Guest, node string) (string, error) {
	flag := "--" + string(g.Type)
	found, ok, err := host.FindGuest(ctx, g.VMID)
	switch {
	case err != nil:
		return "", err
	case !ok:
		return "", fmt.Errorf("%s %d: the host has no such guest, or the token may not see it (it needs VM.Audit on /vms/%d)", flag, g.VMID, g.VMID)
	case found.Guest.Type != g.Type:
		return "", usagef("%s %d: the host has a guest of type %s under this VMID: use --%s if it is the one you mean", flag, g.VMID, found.Guest.Type, found.Guest.Type)
	case node != "" && node != found.Node:
		return "", fmt.Errorf("--node %s: the guest is on %s: leave --node out, or look again", node, found.Node)
	}
	return found.Node, nil
}

// field and why take apart an error that begins with the name of a field.
func field(err error) string { name, _, _ := strings.Cut(err.Error(), ": "); return name }

func why(err error) string { _, text, _ := strings.Cut(err.Error(), ": "); return text }
