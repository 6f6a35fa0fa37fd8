package esdbserver

import (
	"context"

	"github.com/EventStore/EventStore-Client-Go/v4/protos/serverfeatures"
	"github.com/EventStore/EventStore-Client-Go/v4/protos/shared"
)

// serverVersion is the EventStoreDB whose behaviour is spoken: clients decide by
// it what to expect. From 22.6 on positions are in stream reads too, from 23 on
// subscriptions tell when they have caught up. It must begin with three
// numbers.
const serverVersion = "24.10.0"

type features struct {
	serverfeatures.UnimplementedServerFeaturesServer
	writable bool
}

// GetSupportedMethods lists what this server does; clients look for the names in
// lower case, and take what is not listed for missing.
func (f *features) GetSupportedMethods(context.Context, *shared.Empty) (*serverfeatures.SupportedMethods, error) {
	const streamsName = "event_store.client.streams.streams"
	methods := []*serverfeatures.SupportedMethod{
		{ServiceName: "event_store.client.server_features.serverfeatures", MethodName: "getsupportedmethods"},
		{ServiceName: "event_store.client.gossip.gossip", MethodName: "read"},
		{ServiceName: streamsName, MethodName: "read", Features: []string{"position", "events"}},
	}
	if f.writable {
		for _, name := range []string{"append", "delete", "tombstone"} {
			methods = append(methods, &serverfeatures.SupportedMethod{ServiceName: streamsName, MethodName: name})
		}
	}
	return &serverfeatures.SupportedMethods{EventStoreServerVersion: serverVersion, Methods: methods}, nil
}
