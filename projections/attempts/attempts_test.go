package attempts_test

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"writ/domain/eventstore"
	"writ/domain/eventstore/storetest"
	"writ/domain/op"
	"writ/projections"
	"writ/projections/attempts"
	"writ/projections/viewtest"
)

// announcedIn builds the view of a ledger.
func announcedIn(t *testing.T, store eventstore.Store) *attempts.Announced {
	t.Helper()
	view := viewtest.NewMemory()
	announced := attempts.New(view)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	r := projections.New(store, "memory", view, announced, slog.New(slog.DiscardHandler))
	ended := make(chan error, 1)
	go func() { ended <- r.Run(ctx) }()
	if err := r.WaitCaughtUp(ctx); err != nil {
		t.Fatal(err)
	}
	cancel()
	_ = <-ended
	return announced
}

func TestWhoAnnouncedACredential(t *testing.T) {
	store := storetest.NewMemory("3f9c2ab41d6e4a70")
	sent := viewtest.NewStory(t, store, viewtest.Nonce(1))
	sent.Started()
	rec := sent.Launching()
	claimed := viewtest.NewStory(t, store, viewtest.Nonce(2))
	claimed.Started()
	corrupt := viewtest.NewStory(t, store, viewtest.Nonce(3))
	corrupt.Started()
	corrupt.Write(op.TypeLaunching, []byte(`{"credential":"writ@pve!forged"`))

	e, err := op.Decode(rec.Type, rec.Data)
	if err != nil {
		t.Fatal(err)
	}
	announced := announcedIn(t, store)
	for credential, want := range map[string]op.Nonce{
		e.(*op.Launching).Credential: viewtest.Nonce(1), "writ@pve!w-stranger-1": "", "": "", "writ@pve!forged": "",
	} {
		if got, found, err := announced.By(t.Context(), credential); err != nil || got != want || found != (want != "") {
			t.Errorf("%q: got %q, %t (error %v), want %q", credential, got, found, err, want)
		}
	}
}
