package main

import (
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"writ/adapters/proxmox"
	"writ/domain/op"
)

type enrolFlags struct {
	qemu, lxc int
	host      hostFlags
}

const enrolLong = `Marks a guest, so that it can be told from the next one under its VMID: the line
writ-id:<32 hex digits> is added to its description, below what is there. A container
has no identity of its own; with a mark an order for it stays good when its
configuration changes. A guest that is marked keeps its mark.

The token needs VM.Audit and VM.Config.Options on the guest. Nothing is written if
somebody else changes the guest meanwhile.`

func newEnrolCmd(a *app) *cobra.Command {
	var f enrolFlags
	cmd := &cobra.Command{
		Use:     "enrol --lxc VMID|--qemu VMID",
		Short:   "Mark a guest, so that orders can be bound to it",
		Long:    enrolLong,
		Example: `  writ enrol --config writ.yaml --lxc 106`,
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			switch {
			case (f.qemu != 0) == (f.lxc != 0):
				return usagef("which guest? Give --lxc VMID or --qemu VMID, one of them")
			case !f.host.given():
				return usagef("no host is named: give --config, or --url with --token-id and --token-secret-file")
			}
			if err := f.host.check(cmd); err != nil {
				return err
			}
			return a.enrol(cmd.Context(), f)
		},
	}
	cmd.Flags().IntVar(&f.qemu, "qemu", 0, "VMID of the virtual machine")
	cmd.Flags().IntVar(&f.lxc, "lxc", 0, "VMID of the container")
	f.host.register(cmd)
	return cmd
}

// An enrolled is what enrol tells.
type enrolled struct {
	Guest op.Guest `json:"guest"`
	proxmox.Enrolment
}

func (a *app) enrol(ctx context.Context, f enrolFlags) error {
	g := op.Guest{Type: op.QEMU, VMID: f.qemu}
	if f.lxc != 0 {
		g = op.Guest{Type: op.LXC, VMID: f.lxc}
	}
	host, err := f.host.open()
	if err != nil {
		return err
	}
	defer host.Close()
	node, err := whereIs(ctx, host, g, "")
	if err != nil {
		return err
	}
	done, err := host.Enrol(ctx, op.Target{Node: node, Guest: &g})
	if err != nil {
		return err
	}
	e := enrolled{Guest: g, Enrolment: done}
	return a.show(e, e.text)
}

func (e enrolled) text(w io.Writer) {
	if e.Already {
		fmt.Fprintf(w, "%s %d (node %s) was marked before: writ-id:%s. Nothing was written.\n", e.Guest.Type, e.Guest.VMID, e.Node, e.WritID)
		return
	}
	fmt.Fprintf(w, "%s %d (node %s) is marked: writ-id:%s\n", e.Guest.Type, e.Guest.VMID, e.Node, e.WritID)
}
