package main

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"writ/adapters/proxmox"
)

func (a *app) doctorBypass(ctx context.Context, f doctorFlags) error {
	dr, done, err := a.openDoctor(f)
	if err != nil {
		return err
	}
	now, err := dr.host.Time(ctx) // by which the host judges what has expired
	if err != nil {
		now = dr.now()
	}
	b, err := dr.host.Bypass(ctx, now, dr.progress)
	done()
	if err != nil {
		return err
	}
	if err := a.show(b, func(w io.Writer) { bypassText(plainWriter{w}, palette(isTerminal(a.out)), b) }); err != nil {
		return err
	}
	if !b.Complete {
		return &toldError{exitFailed}
	}
	return nil
}

// bypassText shows who can do what, by which entry of the host's access control.
func bypassText(w plainWriter, p palette, b proxmox.Bypass) {
	fmt.Fprint(w, "Who can destroy something without a writ:\n\n")
	active := 0
	for _, h := range b.Holders {
		holderText(w, p, h)
		if h.State == proxmox.HolderActive {
			active++
		}
	}
	fmt.Fprint(w, "writ itself:\n\n")
	for _, h := range b.Own {
		holderText(w, p, h)
	}
	if len(b.Own) == 0 {
		fmt.Fprint(w, "  nothing of it was found\n\n")
	}
	if len(b.Attempts) > 0 {
		fmt.Fprint(w, "Tokens of attempts that are still good:\n\n")
	}
	for _, h := range b.Attempts {
		holderText(w, p, h)
	}
	fmt.Fprintf(w, "%s beside writ and its attempts, of which the host takes %d now; %s of attempts that it takes no more.\n",
		count(len(b.Holders), "user or token", "users and tokens"), active, count(b.Spent, "token", "tokens"))
	for _, u := range b.Unread {
		fmt.Fprint(w.w, p.paint(stateFail.colour(), "not complete"))
		fmt.Fprintf(w, ": %s\n", u)
	}
}

func holderText(w plainWriter, p palette, h proxmox.Holder) {
	fmt.Fprintf(w, "  %s", h.Who)
	switch {
	case h.State != proxmox.HolderActive:
		fmt.Fprint(w, " (")
		fmt.Fprint(w.w, p.paint(stateWarn.colour(), string(h.State)))
		fmt.Fprint(w, ")")
	case h.Expires != nil:
		fmt.Fprintf(w, " (until %s)", h.Expires.Format(time.RFC3339))
	}
	fmt.Fprint(w, "\n")
	switch h.As {
	case "":
	case "root@pam":
		fmt.Fprint(w, "    all that root@pam can, but for what takes itself, such as wiping disks\n")
	default:
		fmt.Fprintf(w, "    all that %s can: the token is not separated from its user\n", h.As)
	}
	for _, g := range h.By {
		by := ""
		if g.Group != "" {
			by = ", by group " + g.Group
		}
		fmt.Fprintf(w, "    by %s %s%s\n", g.Path, g.Role, by)
		for _, l := range g.Lets {
			name := strings.Join(l.Privileges, ", ")
			if name != "" {
				name = " (" + name + ")"
			}
			fmt.Fprintf(w, "      %s%s%s\n", l.What, where(l), name)
		}
	}
	fmt.Fprint(w, "\n")
}

// where says on which objects.
func where(l proxmox.Power) string {
	if len(l.On) == 1 && l.On[0] == "/" {
		return ""
	}
	text := ": " + strings.Join(l.On, ", ")
	if len(l.Except) > 0 {
		text += " but not " + strings.Join(l.Except, ", ")
	}
	return text
}
