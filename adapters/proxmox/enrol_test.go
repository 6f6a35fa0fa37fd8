package proxmox_test

import (
	"errors"
	"regexp"
	"strings"
	"testing"

	"writ/adapters/proxmox"
	"writ/adapters/pvesim"
	"writ/domain/op"
)

func TestEnrol(t *testing.T) {
	for _, kind := range []op.GuestType{op.LXC, op.QEMU} {
		t.Run(string(kind), func(t *testing.T) {
			r := newRig(t)
			r.sim.AddRole("Marks", "VM.Audit", "VM.Config.Options")
			r.sim.Grant("/vms/107", "svc@pve", "Marks", true)
			r.guest(pvesim.Kind(kind), func(g *pvesim.Guest) { g.Description = "of team web\n" })
			first, err := r.host.Enrol(t.Context(), target(kind, 107))
			if err != nil || first.Already || !regexp.MustCompile(`^[0-9a-f]{32}$`).MatchString(first.WritID) {
				t.Fatalf("got %+v, error %v; want a mark that is new", first, err)
			}
			seen, err := r.host.ReadGuest(t.Context(), target(kind, 107))
			if err != nil || seen.WritID != first.WritID {
				t.Errorf("the guest shows mark %q (error %v), want %s", seen.WritID, err, first.WritID)
			}
			if g, ok := r.sim.Guest(107); !ok || !strings.HasPrefix(g.Description, "of team web\n") {
				t.Errorf("description: got %q, want what was there before the mark", g.Description)
			}
			again, err := r.host.Enrol(t.Context(), target(kind, 107))
			if err != nil || !again.Already || again.WritID != first.WritID {
				t.Errorf("the second time: got %+v, error %v; want the mark that it has", again, err)
			}
		})
	}
}

func TestEnrolRefuses(t *testing.T) {
	for name, tt := range map[string]struct {
		description string
		entitled    bool
		want        string
	}{
		"half a mark":                {"writ-id:0a0b", true, "reads like a mark and is none"},
		"two marks":                  {"writ-id:" + strings.Repeat("0a", 16) + "\nwrit-id:" + strings.Repeat("0b", 16), true, "reads like a mark"},
		"a description without room": {strings.Repeat("x", 7000), true, "too long"},
		"a token without the right":  {"", false, "VM.Config.Options"},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			if tt.entitled {
				r.sim.AddRole("Marks", "VM.Audit", "VM.Config.Options")
				r.sim.Grant("/vms/107", "svc@pve", "Marks", true)
			}
			r.guest(pvesim.LXC, func(g *pvesim.Guest) { g.Description = tt.description })
			_, err := r.host.Enrol(t.Context(), target(op.LXC, 107))
			var refused *proxmox.StatusError
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v (by the host: %t), want an error with %q", err, errors.As(err, &refused), tt.want)
			}
		})
	}
	t.Run("no guest", func(t *testing.T) {
		r := newRig(t)
		if _, err := r.host.Enrol(t.Context(), target(op.LXC, 107)); err == nil || !strings.Contains(err.Error(), "no such guest") {
			t.Errorf("got %v, want that there is none", err)
		}
	})
}
