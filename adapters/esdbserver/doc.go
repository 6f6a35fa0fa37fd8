// Package esdbserver serves a ledger over EventStoreDB's gRPC protocol, so that
// any EventStoreDB or KurrentDB client, in any language, reads it and follows
// it. [New] makes a [Server] over an event store, [Server.Serve] answers the
// calls that come in through a listener.
//
// A server is read-only unless it is given a [Writer]: appends, deletes and
// tombstones are answered with the protocol's access-denied error, whoever
// asks. Beside the service it must stay so, because the engine alone may write
// into the ledger of ops. A writable one serves a store that is nobody else's.
//
// What is offered: ServerFeatures, Streams (Read with catch-up subscriptions,
// and Append, Delete, Tombstone if writable) and Gossip for the one member that
// there is. BatchAppend and persistent subscriptions are answered with
// UNIMPLEMENTED and not advertised, upon which the clients use Append or say
// that the server has no such feature.
//
// What the protocol knows and the port does not is kept as events like any
// others, and applied when reading:
//
//   - The metadata of stream x is the newest event of stream $$x. A soft delete
//     writes such an event with $tb, the first revision to show, beyond every
//     revision; nothing is removed.
//   - A tombstone is an event of type $streamDeleted at the end of its stream.
//     It shows as revision 2^63-1.
//   - Events whose content is not JSON carry a mark behind their type, which
//     [StoredType] describes. Data and metadata are never changed.
//
// An append of more events than the store takes at once ([eventstore.MaxAppendEvents])
// is written in parts, one right behind the other: a reader may see the first
// ones before the last, and after a crash in between they stand there until the
// append is repeated, which completes it. A shorter one is whole or not there.
//
// Nothing of it is collected at start: a stream's state is told by its own
// newest event and that of its metadata stream, so the time to start does not
// depend on the length of the ledger.
//
// A subscription reads history from the store and is live from then on: all
// live subscriptions share one follower of the store and the newest events in
// memory, a fixed number of them. A subscriber that takes longer than that
// holds is told so (fell_behind), reads on from the store, and is told again
// when it has caught up. Neither an append nor another subscriber waits for it,
// and nothing is kept for it.
//
// All users are equal: who signs in may read everything, who does not sign in
// may do nothing. Access lists in the metadata of streams are kept and shown,
// and not enforced. A server without users lets everyone in; only a loopback
// address or a network that others protect is a place for that.
package esdbserver
