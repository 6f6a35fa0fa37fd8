package main

import (
	"context"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"writ/adapters/proxmox"
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
	fl.StringVar(&f.config, "config", "", "read the guest from the host of this configuration file")
	fl.StringVar(&f.url, "url", "", "read the guest from this Proxmox VE node, such as https://pve1.example:8006")
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
		return nil, err
	}
	return proxmox.New(proxmox.Config{
		BaseURL: f.url, TokenID: f.tokenID, Secret: proxmox.Secret(secret), CAFile: f.caFile, Fingerprints: f.fingerprints,
	}, nil)
}

// fillFromHost reads the guest and puts into the document where it is and what
// it looks like. It also gives what would keep the order from running as
// things stand.
func (a *app) fillFromHost(ctx context.Context, f signFlags, d *signedop.Document) ([]string, error) {
	host, err := f.host.open()
	if err != nil {
		return nil, err
	}
	defer host.Close()
	vmid, flag := d.Target.Guest.VMID, "--"+string(d.Target.Guest.Type)
	found, ok, err := host.FindGuest(ctx, vmid)
	switch {
	case err != nil:
		return nil, err
	case !ok:
		return nil, fmt.Errorf("%s %d: the host has no such guest, or the token may not see it (it needs VM.Audit on /vms/%d)", flag, vmid, vmid)
	case found.Guest.Type != d.Target.Guest.Type:
		return nil, usagef("%s %d: the host has a guest of type %s under this VMID: use --%s if it is the one you mean", flag, vmid, found.Guest.Type, found.Guest.Type)
	case f.node != "" && f.node != found.Node:
		return nil, fmt.Errorf("--node %s: the guest is on %s: leave --node out, or look again", f.node, found.Node)
	}
	seen, err := host.ReadGuest(ctx, found)
	switch {
	case err != nil:
		return nil, err
	case !seen.Found:
		return nil, fmt.Errorf("%s %d: the guest went away while it was read", flag, vmid)
	case seen.Template:
		fmt.Fprintf(a.err, "Note: %s %d is a template.\n", strings.TrimPrefix(flag, "--"), vmid)
	}
	d.Target.Node = seen.Node
	d.Expect = expectOf(seen, f.strict)
	if d.Class != op.GuestDestroy {
		return nil, nil
	}
	return obstacles(*d, seen), nil
}
