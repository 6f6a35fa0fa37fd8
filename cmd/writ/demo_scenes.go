package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"writ/adapters/pvesim"
	"writ/domain/op"
	"writ/domain/signedop"
)

// demoScenes gives the scenes in order. Each call makes them anew: they keep
// what they saw for their claims.
func demoScenes() []scene {
	return []scene{sceneUnsigned(), sceneSigned(), sceneRedelivered(), sceneRefused(), sceneReused(), sceneCrash(), sceneAccount()}
}

func mustGuest(w *demoWorld, vmid int) (pvesim.Guest, error) {
	g, ok := w.sim.Guest(vmid)
	if !ok {
		return g, fmt.Errorf("the simulated cluster has no guest %d", vmid)
	}
	return g, nil
}

func sceneUnsigned() scene {
	var web pvesim.Guest
	var got demoAnswer
	return scene{
		title: "An order that nobody signed",
		story: "A client with a valid API token asks to destroy VM 105 \"web-3\".",
		play: func(ctx context.Context, w *demoWorld) (err error) {
			if web, err = mustGuest(w, 105); err != nil {
				return err
			}
			got, err = w.deliver(ctx, op.Intent{
				Class: op.GuestDestroy, Target: op.Target{Node: web.Node, Guest: &op.Guest{Type: op.QEMU, VMID: 105}},
			}, nil)
			if err != nil {
				return err
			}
			w.show.answer("destroy VM 105", got)
			w.row("destroy VM 105, unsigned", decided(got), w.doneWords())
			return nil
		},
		claims: func(ctx context.Context, w *demoWorld) ([]claim, error) {
			ops, err := w.opsOnRecord(ctx)
			if err != nil {
				return nil, err
			}
			reasons, err := w.refusals(ctx)
			if err != nil {
				return nil, err
			}
			return []claim{
				claimEqual("it was refused as unsigned", decided(got), "refused: unsigned"),
				w.claimUntouched(),
				w.claimAlive("VM 105 is there as before", web),
				claimEqual("the refusal is on record, and no op", fmt.Sprintf("%v, %d ops", reasons, len(ops)), "[unsigned], 0 ops"),
			}, nil
		},
	}
}

func sceneSigned() scene {
	var web pvesim.Guest
	var doc signedop.Document
	var got demoAnswer
	var atDoor <-chan []string
	return scene{
		title: "The same order, signed",
		story: "alice asks for it; bob and carol read what it is about and sign exactly that: this\n" +
			"machine with these disks, not whatever has number 105 by then.",
		play: func(ctx context.Context, w *demoWorld) (err error) {
			if web, err = mustGuest(w, 105); err != nil {
				return err
			}
			if doc, err = w.order(ctx, 105, "OPS-123: retire web-3"); err != nil {
				return err
			}
			writ, err := w.seal(doc, "bob", "carol")
			if err != nil {
				return err
			}
			w.kept.intent, w.kept.writ = doc.Intent(), writ
			following, stop := context.WithTimeout(ctx, 30*time.Second)
			defer stop() // also ends the look at the door, if nobody came
			if atDoor, err = w.lookAtDoor(following, 105, doc.Nonce); err != nil {
				return err
			}
			shown := w.follow(following, doc.Nonce)
			if got, err = w.deliver(ctx, doc.Intent(), writ); err != nil {
				return err
			}
			if got.Status != http.StatusOK {
				stop() // there may be no end to wait for; the claims will tell
				if err := <-shown; err != nil && !errors.Is(err, context.Canceled) {
					return fmt.Errorf("follow the ledger: %w", err)
				}
			} else if err := <-shown; err != nil {
				return fmt.Errorf("follow the ledger: %w", err)
			}
			w.show.answer("destroy VM 105, signed", got)
			w.row("destroy VM 105, signed by two", decided(got), w.doneWords())
			return nil
		},
		claims: func(ctx context.Context, w *demoWorld) ([]claim, error) {
			o, err := w.onRecord(ctx, doc.Nonce)
			if err != nil {
				return nil, err
			}
			signers, err := w.signersOnRecord(o)
			if err != nil {
				return nil, err
			}
			door := <-atDoor
			return []claim{
				claimEqual("it succeeded", got.word(), "succeeded"),
				claimEqual("when the request came to the host's door, its announcement was in the ledger", fmt.Sprint(door),
					fmt.Sprint([]string{op.TypeStarted, op.TypeLaunching})),
				claimEqual("the host was asked to destroy VM 105 once", w.deletes(105), 1),
				claimEqual("that machine was destroyed, once", w.destroyed(web), 1),
				claimEqual("the ledger says so, in an unbroken chain", o.State.String(), op.StateSucceeded.String()),
				claimEqual("the ledger holds the writ, and its signatures are good", signers, "bob and carol"),
				claimEqual("every effect on it was by the task on record", w.strangeEffects(o, web), 0),
			}, nil
		},
	}
}

// lookAtDoor stops the request to destroy a guest as it arrives at the host,
// before anything is done about it, looks which events the ledger holds by
// then, and lets it pass. The channel gives the events, or none if no such
// request came.
func (w *demoWorld) lookAtDoor(ctx context.Context, vmid int, n op.Nonce) (<-chan []string, error) {
	stop, err := w.sim.Inject(pvesim.Fault{
		Kind: pvesim.FaultHold, Point: pvesim.PointArrival, Method: http.MethodDelete, Path: fmt.Sprintf("/nodes/*/qemu/%d", vmid),
	})
	if err != nil {
		return nil, err
	}
	found := make(chan []string, 1)
	go func() {
		defer close(found)
		defer stop.Release()
		select {
		case <-stop.Reached():
			events, err := w.events(ctx, n)
			if err != nil {
				events = []string{err.Error()}
			}
			found <- events
		case <-ctx.Done():
		}
	}()
	return found, nil
}

// strangeEffects counts the effects on a machine that the op's task on record
// did not make.
func (w *demoWorld) strangeEffects(o op.Op, g pvesim.Guest) int {
	n := 0
	for _, e := range w.sim.Effects() {
		if e.Instance == g.Instance && (o.Running == nil || e.UPID != o.Running.UPID) {
			n++
		}
	}
	return n
}

// deliveries is how often the writ of scene 3 is delivered at once.
const deliveries = 50

func sceneRedelivered() scene {
	var cache pvesim.Guest
	var doc signedop.Document
	var done, others int
	var later demoAnswer
	return scene{
		title: "One writ, delivered 50 times at once, and again later",
		story: "A retry loop gone wild sends the signed order for VM 106 \"cache-2\" over 50 connections.",
		play: func(ctx context.Context, w *demoWorld) (err error) {
			if cache, err = mustGuest(w, 106); err != nil {
				return err
			}
			if doc, err = w.order(ctx, 106, "OPS-124: retire cache-2"); err != nil {
				return err
			}
			writ, err := w.seal(doc, "bob", "carol")
			if err != nil {
				return err
			}
			answers, err := w.deliverAtOnce(ctx, deliveries, doc.Intent(), writ)
			if err != nil {
				return err
			}
			for _, a := range answers {
				if a.Status == 200 {
					done++
				} else {
					others++
				}
			}
			w.show.say("%d deliveries at once: %d answered that it is done, %d anything else", deliveries, done, others)
			if later, err = w.deliver(ctx, doc.Intent(), writ); err != nil {
				return err
			}
			w.show.answer("the same writ later", later)
			w.row(fmt.Sprintf("destroy VM 106, sent %d+1 times", deliveries), fmt.Sprintf("%d of %d told: it is done", done, deliveries), w.doneWords())
			return nil
		},
		claims: func(ctx context.Context, w *demoWorld) ([]claim, error) {
			events, err := w.events(ctx, doc.Nonce)
			if err != nil {
				return nil, err
			}
			return []claim{
				claimEqual("all of them were told the same: done", done, deliveries),
				claimEqual("the one later: already applied", later.word(), "already-applied"),
				claimEqual("the host was asked to destroy VM 106 once", w.deletes(106), 1),
				claimEqual("that machine was destroyed, once", w.destroyed(cache), 1),
				claimEqual("the ledger holds one attempt, begun once and ended once", fmt.Sprint(events),
					fmt.Sprint([]string{op.TypeStarted, op.TypeLaunching, op.TypeTaskRunning, op.TypeSucceeded})),
			}, nil
		},
	}
}

// deliverAtOnce sends the same thing n times, all at the same moment.
func (w *demoWorld) deliverAtOnce(ctx context.Context, n int, intent op.Intent, writ []byte) ([]demoAnswer, error) {
	answers, errs := make([]demoAnswer, n), make([]error, n)
	var all sync.WaitGroup
	now := make(chan struct{})
	for i := range n {
		all.Go(func() {
			<-now
			answers[i], errs[i] = w.deliver(ctx, intent, writ)
		})
	}
	close(now)
	all.Wait()
	for _, err := range errs {
		if err != nil {
			return nil, err
		}
	}
	return answers, nil
}

// decided is a decision in the table's words.
func decided(a demoAnswer) string {
	switch {
	case a.Outcome != "":
		return a.Outcome
	case a.Status == http.StatusForbidden:
		return "refused: " + a.Reason
	}
	return "not done: " + a.Reason
}
