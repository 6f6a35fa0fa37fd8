package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"time"

	"writ/domain/eventstore"
	"writ/domain/op"
	"writ/domain/signedop"
)

// A demoAnswer is what the service says to one delivery.
type demoAnswer struct {
	Status  int    `json:"-"`
	Outcome string `json:"outcome"` // of a success
	Reason  string `json:"reason"`  // of a refusal
	UPID    string `json:"upid"`
	Detail  string `json:"detail"`
}

func (a demoAnswer) word() string {
	if a.Outcome != "" {
		return a.Outcome
	}
	return a.Reason
}

// deliver sends an intent with a writ to the service, as any client would, and
// waits for the op's end.
func (w *demoWorld) deliver(ctx context.Context, intent op.Intent, writ []byte) (demoAnswer, error) {
	type body struct {
		Intent   op.Intent `json:"intent"`
		Envelope []byte    `json:"envelope,omitempty"` // base64 of the exact bytes
	}
	data, err := json.Marshal(body{intent, writ})
	if err != nil {
		return demoAnswer{}, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, w.base+"/v1/ops?wait=30s", bytes.NewReader(data))
	if err != nil {
		return demoAnswer{}, err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Authorization", "Bearer "+w.token)
	resp, err := w.client.Do(req)
	if err != nil {
		return demoAnswer{}, fmt.Errorf("deliver: %w", err)
	}
	defer resp.Body.Close()
	got := demoAnswer{Status: resp.StatusCode}
	reply, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err == nil {
		err = json.Unmarshal(reply, &got)
	}
	if err != nil {
		return demoAnswer{}, fmt.Errorf("deliver: status %d with an answer that can't be read: %w", resp.StatusCode, err)
	}
	return got, nil
}

// order fills in an order to destroy a machine as it stands now: what writ sign
// does with --qemu.
func (w *demoWorld) order(ctx context.Context, vmid int, reason string) (signedop.Document, error) {
	target, ok, err := w.host.FindGuest(ctx, vmid)
	if err != nil || !ok {
		return signedop.Document{}, fmt.Errorf("order for VM %d: found %t: %w", vmid, ok, err)
	}
	seen, err := w.host.ReadGuest(ctx, target)
	if err != nil {
		return signedop.Document{}, err
	}
	now := w.show.now().UTC().Truncate(time.Second)
	return signedop.Document{
		Version: signedop.Version, Nonce: drawNonce(), Audience: w.site.Audience(), Class: op.GuestDestroy,
		Target: target, Expect: expectOf(seen, false), Role: "operator", RequestedBy: "alice",
		NotBefore: now, ExpiresAt: now.Add(time.Hour), Reason: reason,
	}, nil
}

// seal lets people of the demo sign.
func (w *demoWorld) seal(d signedop.Document, names ...string) ([]byte, error) {
	var signers []signedop.Signer
	for _, name := range names {
		for _, p := range w.people {
			if p.name == name {
				signers = append(signers, p.signer)
			}
		}
	}
	return signedop.Seal(d, signers...)
}

// follow shows an op's events as they become durable, until its attempt has
// ended. The channel gives the error, nil if the end was seen.
func (w *demoWorld) follow(ctx context.Context, n op.Nonce) <-chan error {
	done := make(chan error, 1)
	filter := eventstore.Filter{StreamPrefixes: []string{n.Stream()}}
	go func() {
		for notice, err := range w.ledger.Subscribe(ctx, eventstore.Cursor{}, filter) {
			if err != nil {
				done <- err
				return
			}
			if notice.Kind != eventstore.NewEvent {
				continue
			}
			e, err := op.Decode(notice.Event.Type, notice.Event.Data)
			if err != nil {
				done <- err
				return
			}
			w.show.event(e)
			switch e.(type) {
			case *op.Succeeded, *op.Failed, *op.Voided:
				done <- nil
				return
			}
		}
		done <- ctx.Err()
	}()
	return done
}
