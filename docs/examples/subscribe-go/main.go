// Subscribe-go follows the ops of a ledger with the official EventStoreDB
// client, and shows what every subscriber needs: a checkpoint, a filter, and
// going on by itself after the subscription was dropped.
//
//	SUBSCRIBE_TO='esdb://reader:secret@writ.example:2113?tlsCAFile=ca.crt' subscribe-go -checkpoint ops.checkpoint
//
// The connection string comes from the environment because it may hold a
// password, and everybody on a machine can read the arguments of its programs.
//
// Each event is delivered at least once: the checkpoint is stored after the
// event was handled, so an event whose handling was cut off comes again.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/EventStore/EventStore-Client-Go/v4/esdb"
)

const (
	minPause = 500 * time.Millisecond // before the first try to subscribe again
	maxPause = 30 * time.Second
)

func main() {
	prefix := flag.String("prefix", "op-", "only events of streams whose names begin with this")
	file := flag.String("checkpoint", "", "file that keeps how far this subscriber has come (required)")
	flag.Parse()
	if *file == "" {
		fmt.Fprintln(os.Stderr, "-checkpoint is missing: name a file")
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM) //nolint:forbidigo // the first context of the program
	err := follow(ctx, os.Getenv("SUBSCRIBE_TO"), *prefix, checkpoint(*file))
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// follow subscribes until ctx ends, again and again behind the last event that
// was handled. It returns an error only for what trying again can't mend.
func follow(ctx context.Context, url, prefix string, c checkpoint) error {
	conf, err := esdb.ParseConnectionString(url)
	if err != nil {
		return fmt.Errorf("SUBSCRIBE_TO: %w", err)
	}
	conf.Logger = esdb.NoopLogging()
	for pause := minPause; ; pause = min(2*pause, maxPause) {
		from, err := c.load()
		if err != nil {
			return err
		}
		came, err := subscribe(ctx, conf, prefix, from, c)
		if final(err) {
			return err
		}
		if came { // it worked for a while: this is a new outage
			pause = minPause
		}
		select {
		case <-ctx.Done():
			return nil
		default:
		}
		fmt.Fprintf(os.Stderr, "dropped: %v; trying again in %v\n", err, pause)
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return nil
		}
	}
}

// subscribe follows once, until the subscription is dropped, which always ends
// in an error. It says whether anything came.
//
// Each try has a client of its own: a client of version 4.2.0 whose tries to
// connect have all failed stays dead, and answers ConnectionClosed for ever.
func subscribe(ctx context.Context, conf *esdb.Configuration, prefix string, from esdb.AllPosition, c checkpoint) (came bool, err error) {
	client, err := esdb.NewClient(conf)
	if err != nil {
		return false, err
	}
	defer func() { _ = client.Close() }()
	s, err := client.SubscribeToAll(ctx, esdb.SubscribeToAllOptions{
		From:   from, // exclusive: what comes is behind it
		Filter: &esdb.SubscriptionFilter{Type: esdb.StreamFilterType, Prefixes: []string{prefix}},
	})
	if err != nil {
		return false, err
	}
	defer func() { _ = s.Close() }()
	for {
		m := s.Recv()
		switch {
		case m.EventAppeared != nil:
			e := m.EventAppeared.OriginalEvent()
			if err := handle(e); err != nil {
				return came, err
			}
			err = c.store(e.Position)
		case m.CheckPointReached != nil:
			// Nothing up to here passed the filter: next time it need not be
			// searched again.
			err = c.store(*m.CheckPointReached)
		case m.CaughtUp != nil:
			fmt.Println("caught up")
		case m.FellBehind != nil:
			fmt.Println("fell behind")
		case m.SubscriptionDropped != nil:
			return came, m.SubscriptionDropped.Error
		}
		if err != nil {
			return came, err
		}
		came = true
	}
}

// handle is where the work of a subscriber goes. If it fails, the event comes
// again.
func handle(e *esdb.RecordedEvent) error {
	_, err := fmt.Printf("event %d %s@%d %s\n", e.Position.Commit, e.StreamID, e.EventNumber, e.EventType)
	return err
}

// final tells whether trying again is of no use until a person has done
// something.
func final(err error) bool {
	var e *esdb.Error
	if !errors.As(err, &e) {
		return false
	}
	switch e.Code() {
	case esdb.ErrorCodeUnauthenticated, // wrong user or password
		esdb.ErrorCodeAccessDenied,       // not signed in, or may not read $all
		esdb.ErrorCodeUnsupportedFeature: // not an event store at all
		return true
	default:
		return false
	}
}
