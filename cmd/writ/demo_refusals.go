package main

import (
	"context"
	"strings"
	"time"

	"writ/adapters/pvesim"
	"writ/domain/op"
	"writ/domain/signedop"
)

// A forgery is a writ that must not pass, and why.
type forgery struct {
	name   string
	reason string
	make   func(w *demoWorld, d signedop.Document) (op.Intent, []byte, error)
}

// forgeries are all of a good order for VM 104.
func forgeries() []forgery {
	signed := func(change func(d *signedop.Document), names ...string) func(*demoWorld, signedop.Document) (op.Intent, []byte, error) {
		return func(w *demoWorld, d signedop.Document) (op.Intent, []byte, error) {
			change(&d)
			writ, err := w.seal(d, names...)
			return d.Intent(), writ, err
		}
	}
	return []forgery{
		{"tampered: 104 made 108", "bad-signature", func(w *demoWorld, d signedop.Document) (op.Intent, []byte, error) {
			writ, err := w.seal(d, "bob", "carol")
			if err != nil {
				return op.Intent{}, nil, err
			}
			writ, err = tamper(writ, `"vmid":104`, `"vmid":108`)
			intent := d.Intent()
			intent.Target.Guest = &op.Guest{Type: op.QEMU, VMID: 108}
			return intent, writ, err
		}},
		{"signed by bob alone", "quorum-not-met", signed(func(*signedop.Document) {}, "bob")},
		{"for another ledger", "wrong-audience", signed(func(d *signedop.Document) { d.Audience = "demo/0123456789abcdef" }, "bob", "carol")},
		{"expired a minute ago", "expired", signed(func(d *signedop.Document) {
			d.NotBefore, d.ExpiresAt = d.NotBefore.Add(-time.Hour), d.NotBefore.Add(-time.Minute)
		}, "bob", "carol")},
		{"good, for another VM", "intent-mismatch", func(w *demoWorld, d signedop.Document) (op.Intent, []byte, error) {
			writ, err := w.seal(d, "bob", "carol")
			intent := d.Intent()
			intent.Target.Guest = &op.Guest{Type: op.QEMU, VMID: 108}
			return intent, writ, err
		}},
	}
}

func sceneRefused() scene {
	var build, sandbox pvesim.Guest
	var wanted, reasons []string
	var nonces []op.Nonce
	return scene{
		title: "Writs that are not what they seem",
		story: "Five orders about VM 104 \"build-7\" and VM 108 \"sandbox\", each wrong in one way.",
		play: func(ctx context.Context, w *demoWorld) (err error) {
			build, err = mustGuest(w, 104)
			if err == nil {
				sandbox, err = mustGuest(w, 108)
			}
			if err != nil {
				return err
			}
			for _, f := range forgeries() {
				doc, err := w.order(ctx, 104, "OPS-125: retire build-7")
				if err != nil {
					return err
				}
				intent, writ, err := f.make(w, doc)
				if err != nil {
					return err
				}
				got, err := w.deliver(ctx, intent, writ)
				if err != nil {
					return err
				}
				w.show.answer(f.name, got)
				nonces, wanted, reasons = append(nonces, doc.Nonce), append(wanted, f.reason), append(reasons, got.word())
				w.row(f.name, decided(got), w.doneWords())
			}
			return nil
		},
		claims: func(ctx context.Context, w *demoWorld) ([]claim, error) {
			begun := 0
			for _, n := range nonces {
				events, err := w.events(ctx, n)
				if err != nil {
					return nil, err
				}
				begun += len(events)
			}
			recorded, err := w.refusals(ctx)
			if err != nil {
				return nil, err
			}
			recorded = recorded[max(0, len(recorded)-len(wanted)):]
			return []claim{
				claimEqual("each was refused for its own reason", strings.Join(reasons, ", "), strings.Join(wanted, ", ")),
				claimEqual("the refusals are on record, with these reasons", strings.Join(recorded, ", "), strings.Join(wanted, ", ")),
				claimEqual("none of them became an op", begun, 0),
				w.claimUntouched(),
				w.claimAlive("VM 104 is there as before", build),
				w.claimAlive("VM 108 is there as before", sandbox),
			}, nil
		},
	}
}
