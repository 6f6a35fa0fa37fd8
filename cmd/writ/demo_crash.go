package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"time"

	"writ/adapters/pvesim"
	"writ/domain/op"
	"writ/domain/signedop"
)

// sceneCrash kills the service, as a process of its own, while the host is at
// work on what it was asked to do.
func sceneCrash() scene {
	var build pvesim.Guest
	var doc signedop.Document
	var atKill []string
	var again demoAnswer
	return scene{
		title: "Killed in the middle",
		story: "The service now runs as a process of its own. The host has taken the order and is at\n" +
			"work; its answer is on the way. At this moment the service is killed, without warning.",
		play: func(ctx context.Context, w *demoWorld) (err error) {
			if build, err = mustGuest(w, 104); err != nil {
				return err
			}
			if doc, err = w.order(ctx, 104, "OPS-127: retire build-7"); err != nil {
				return err
			}
			writ, err := w.seal(doc, "alice", "carol", "bob")
			if err != nil {
				return err
			}
			if err := w.stopService(ctx); err != nil {
				return err
			}
			if err := w.killUnderWay(ctx, doc, writ); err != nil {
				return err
			}
			if err := w.onDisk(func() error { atKill, err = w.events(ctx, doc.Nonce); return err }); err != nil {
				return err
			}
			if err := w.startService(ctx); err != nil {
				return err
			}
			w.show.say("started again: it launches nothing, but asks the host what became of the request")
			following, stop := context.WithTimeout(ctx, 30*time.Second)
			defer stop()
			if err := <-w.follow(following, doc.Nonce); err != nil {
				return fmt.Errorf("follow the ledger: %w", err)
			}
			if again, err = w.deliver(ctx, doc.Intent(), writ); err != nil {
				return err
			}
			w.show.answer("the writ again", again)
			w.row("destroy VM 104, service killed", decided(again), w.doneWords())
			return nil
		},
		claims: func(ctx context.Context, w *demoWorld) ([]claim, error) {
			o, err := w.onRecord(ctx, doc.Nonce)
			if err != nil {
				return nil, err
			}
			adopted := o.Running != nil && o.Running.Adopted
			return []claim{
				claimEqual("at the kill the announcement was the last thing on record", fmt.Sprint(atKill),
					fmt.Sprint([]string{op.TypeStarted, op.TypeLaunching})),
				claimEqual("the host was asked to destroy VM 104 once", w.deletes(104), 1),
				claimEqual("that machine was destroyed, once", w.destroyed(build), 1),
				claimEqual("the next start found the host's task and took it for its own", adopted, true),
				claimEqual("the op succeeded, in an unbroken chain", o.State.String(), op.StateSucceeded.String()),
				claimEqual("every effect on it was by the task on record", w.strangeEffects(o, build), 0),
				claimEqual("the writ again: already applied", again.word(), "already-applied"),
			}, nil
		},
	}
}

// killUnderWay delivers a writ to a service in a process of its own, and kills
// that process when the host has begun to carry the order out, before it hears
// of that.
func (w *demoWorld) killUnderWay(ctx context.Context, doc signedop.Document, writ []byte) error {
	stop, err := w.sim.Inject(pvesim.Fault{
		Kind: pvesim.FaultHold, Point: pvesim.PointReply, Method: http.MethodDelete, Path: fmt.Sprintf("/nodes/*/qemu/%d", doc.Target.Guest.VMID),
	})
	if err != nil {
		return err
	}
	defer stop.Release()
	service, err := w.startProcess(ctx)
	if err != nil {
		return err
	}
	defer service.kill()
	w.base = service.url
	calling, hangUp := context.WithCancel(ctx)
	defer hangUp()
	ended := make(chan error, 1)
	go func() {
		_, err := w.deliver(calling, doc.Intent(), writ)
		ended <- err
	}()
	select {
	case <-stop.Reached():
	case err := <-ended:
		return fmt.Errorf("the order ended before the host had begun: %w", err)
	case <-ctx.Done():
		return ctx.Err()
	}
	service.kill()
	_ = <-ended // the caller hears nothing any more
	w.show.say("killed; the caller got no answer")
	return nil
}

// startProcess runs writ serve by the configuration file, and gives its URL
// once it answers.
func (w *demoWorld) startProcess(ctx context.Context) (*process, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	address := w.path("address")
	if err := os.Remove(address); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	var log strings.Builder
	cmd := exec.CommandContext(ctx, self, //nolint:gosec // this program, with files of the demo's own
		"serve", "--config", w.path("writ.yaml"), "--address-file", address)
	cmd.Args[0] = "writ"
	cmd.Stderr = &log
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	p := &process{cmd: cmd, ended: make(chan struct{})}
	go func() {
		_ = cmd.Wait() // how it ended is not asked
		close(p.ended)
	}()
	look := time.NewTicker(20 * time.Millisecond)
	defer look.Stop()
	for {
		if url, err := os.ReadFile(address); err == nil { //nolint:gosec // of the demo's own folder
			p.url = strings.TrimSpace(string(url))
			return p, nil
		}
		select {
		case <-look.C:
		case <-p.ended:
			return nil, fmt.Errorf("the service did not start: %s", log.String())
		case <-ctx.Done():
			p.kill()
			return nil, ctx.Err()
		}
	}
}

// A process is a service in a process of its own.
type process struct {
	cmd   *exec.Cmd
	url   string
	ended chan struct{}
}

// kill ends it as a power failure would, and waits until it is gone.
func (p *process) kill() {
	_ = p.cmd.Process.Kill() // it may be gone already
	<-p.ended
}
