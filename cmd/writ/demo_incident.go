package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"writ/adapters/pvesim"
	"writ/domain/op"
	"writ/domain/signedop"
)

func sceneReused() scene {
	var old, young pvesim.Guest
	var second signedop.Document
	var again, signedAnew demoAnswer
	var lostWithout int
	return scene{
		title: "The incident: the number belongs to somebody else by now",
		story: "In September 2026 a controller destroyed eleven healthy VMs: each delete was sent again\n" +
			"after Proxmox had given the freed VMID 107 to the next machine. Here it is once more.",
		play: func(ctx context.Context, w *demoWorld) (err error) {
			if old, err = mustGuest(w, 107); err != nil {
				return err
			}
			if lostWithout, err = withoutWrit(ctx, old.VMID); err != nil {
				return err
			}
			w.show.say("first without writ, on a cluster of its own: two deletes of VM 107, %d machines destroyed", lostWithout)
			w.row("without writ: DELETE 107, sent twice", "-", fmt.Sprintf("%d machines destroyed", lostWithout))

			first, err := w.order(ctx, 107, "OPS-126: scale down worker-1")
			if err != nil {
				return err
			}
			writ, err := w.seal(first, "bob", "carol")
			if err != nil {
				return err
			}
			got, err := w.deliver(ctx, first.Intent(), writ)
			if err != nil {
				return err
			}
			w.show.answer("now with writ", got)
			w.row("destroy VM 107 \"worker-1\", signed", decided(got), w.doneWords())

			if young, err = w.takeOver(old); err != nil {
				return err
			}
			w.show.say("at once, VMID 107 goes to a new machine, %q, with a disk of the same name", young.Name)
			before := len(w.effects())
			if again, err = w.deliver(ctx, first.Intent(), writ); err != nil {
				return err
			}
			w.show.answer("the old writ again", again)
			w.row("the same writ again", decided(again), w.doneSince(before))

			// A controller that makes a new order for each retry, and people
			// who sign it in the belief that worker-1 is still there.
			second = first
			second.Nonce = drawNonce()
			if writ, err = w.seal(second, "bob", "carol"); err != nil {
				return err
			}
			if signedAnew, err = w.deliver(ctx, second.Intent(), writ); err != nil {
				return err
			}
			w.show.answer("a new writ for worker-1", signedAnew)
			w.row("a new writ, signed for \"worker-1\"", decided(signedAnew), w.doneSince(before))
			return nil
		},
		claims: func(ctx context.Context, w *demoWorld) ([]claim, error) {
			o, err := w.onRecord(ctx, second.Nonce)
			if err != nil {
				return nil, err
			}
			ended := o.State.String()
			if o.Failed != nil {
				ended = fmt.Sprintf("%s, effect %s, sent: %t", o.Failed.Kind, o.Failed.Effect, o.Launching != nil)
			}
			return []claim{
				claimEqual("without writ the new machine was lost", lostWithout, 2),
				claimEqual("with writ the old machine was destroyed, once", w.destroyed(old), 1),
				w.claimAlive("THE NEW MACHINE LIVES, and nothing ever touched it", young),
				claimEqual("the host was asked to destroy VM 107 once, by the first order", w.deletes(107), 1),
				claimEqual("the old writ again: already applied, nothing done", again.word(), "already-applied"),
				claimEqual("the new writ: stopped right before launch, nothing sent", ended, "precondition, effect none, sent: false"),
			}, nil
		},
	}
}

// withoutWrit plays the incident with bare API calls, on a simulated cluster of
// its own, and counts the machines lost. It also shows that the host's account
// would tell, if writ failed.
func withoutWrit(ctx context.Context, vmid int) (lost int, err error) {
	sim, err := pvesim.New(pvesim.Options{Seed: 2}) // tasks are over before they are answered
	if err != nil {
		return 0, err
	}
	defer sim.Close()
	secret, err := simAccess(sim)
	if err != nil {
		return 0, err
	}
	for _, name := range []string{"worker-1", "payments-db"} {
		if _, err := sim.AddGuest(pvesim.Guest{VMID: vmid, Name: name, Disks: []string{"local-lvm:8"}}); err != nil {
			return 0, err
		}
		got := sim.Do(ctx, pvesim.Request{
			Method: http.MethodDelete, Path: fmt.Sprintf("/api2/json/nodes/pve1/qemu/%d", vmid),
			Header: http.Header{"Authorization": {"PVEAPIToken=" + simToken + "=" + secret}},
		})
		if got.Status != http.StatusOK {
			return 0, fmt.Errorf("bare delete of VM %d: status %d", vmid, got.Status)
		}
	}
	return countDestroyed(sim), nil
}

func countDestroyed(sim *pvesim.Sim) int {
	n := 0
	for _, e := range sim.Effects() {
		if e.Kind == pvesim.GuestDestroyed {
			n++
		}
	}
	return n
}

// takeOver gives a VMID that has just become free to the next machine, as
// Proxmox VE does when it is asked for the next free one.
func (w *demoWorld) takeOver(old pvesim.Guest) (pvesim.Guest, error) {
	young, err := w.sim.AddGuest(pvesim.Guest{
		VMID: old.VMID, Node: old.Node, Name: "payments-db", Disks: []string{"local-lvm:8"}, MACs: []string{""},
	})
	if err != nil {
		return young, err
	}
	if len(young.Disks) != 1 || young.Disks[0] != old.Disks[0] {
		return young, errors.New("the simulated host gave the new disk another name than the old one had: the scene shows nothing")
	}
	return young, nil
}

// doneSince tells what happened on the host after the first n effects of the
// scene.
func (w *demoWorld) doneSince(n int) string {
	seen := w.seenEffects
	w.seenEffects += n
	defer func() { w.seenEffects = seen }()
	return w.doneWords()
}

// sceneAccount compares the two witnesses as a whole, with the service stopped,
// and then lets it start again.
func sceneAccount() scene {
	var ops []op.Op
	var again demoAnswer
	return scene{
		title: "The account, and a restart",
		story: "The service is stopped. Its ledger is read from disk and compared with what happened\n" +
			"on the host, one by one. Then it starts again, and the writ of scene 2 comes once more.",
		play: func(ctx context.Context, w *demoWorld) (err error) {
			if err := w.stopService(ctx); err != nil {
				return err
			}
			if err := w.onDisk(func() error { ops, err = w.opsOnRecord(ctx); return err }); err != nil {
				return err
			}
			w.show.say("on disk: %d ops; on the host: %d machines destroyed", len(ops), countDestroyed(w.sim))
			if err := w.startService(ctx); err != nil {
				return err
			}
			if again, err = w.deliver(ctx, w.kept.intent, w.kept.writ); err != nil {
				return err
			}
			w.show.answer("the writ of scene 2", again)
			w.row("the writ of scene 2, after a restart", decided(again), w.doneWords())
			return nil
		},
		claims: func(_ context.Context, w *demoWorld) ([]claim, error) {
			var succeeded, destroyed []string // UPIDs
			unended, strangers := 0, 0
			for _, o := range ops {
				if o.Applied() {
					succeeded = append(succeeded, o.Running.UPID)
				}
				if o.State.InFlight() {
					unended++
				}
			}
			for _, e := range w.sim.Effects() {
				if e.Kind == pvesim.GuestDestroyed {
					destroyed = append(destroyed, e.UPID)
				}
				if !slices.Contains(succeeded, e.UPID) {
					strangers++
				}
			}
			slices.Sort(succeeded)
			slices.Sort(destroyed)
			return []claim{
				claimEqual("each machine destroyed has its succeeded op, and each of these its machine",
					strings.Join(destroyed, ", "), strings.Join(succeeded, ", ")),
				claimEqual("no effect on the host came from anything but an op on record", strangers, 0),
				claimEqual("every op has ended", unended, 0),
				claimEqual("after the restart: already applied", again.word(), "already-applied"),
				w.claimUntouched(),
			}, nil
		},
	}
}
