// Package esdb keeps a ledger in an EventStoreDB (KurrentDB) node or cluster.
// [Create] makes a ledger there, [Open] opens it; any number of processes may
// have it open.
//
// # What is used of the official client
//
// The module github.com/EventStore/EventStore-Client-Go/v4 gives the parser of
// connection strings and the generated gRPC stubs. Its client type is not
// used, because it can't be made safe from outside: it builds its connection
// itself and takes no interceptor, so nothing can look at a reply before it
// does. Of replies it does not expect it ends the process (an event without a
// time), panics (a deleted stream without the stream's name) or reports success
// (an append's answer that says nothing). It gives up for good after an outage
// of a second, and callers who wait for it at that moment wait for ever,
// whatever their contexts say. Each of these is a way to lose an op or to hang
// its caller. So the calls are made here, on the stubs: each has a deadline and
// ends with its context, and each reply is checked before it is believed.
//
// # One connection, and always to this ledger
//
// All calls share one connection ([link]). It is dialled once and never
// redialled behind our back: when it ends, a new one is made, and before any
// call may use it the node has to say that it leads and has to show the record
// of this ledger, its id and its store. So an append that expects no stream
// can't end up in another ledger that answers under the same name after an
// outage. Connecting is tried again for as long as somebody asks, with a pause
// that grows to two seconds; there is no number of failures after which it
// ends.
//
// Every call demands the leader. A follower lags, and a read must see every
// append that was acknowledged.
//
// # Outcomes
//
// An append is refused only by what the server says about the expected
// revision. It is done only if the answer has the revision that must come out
// and a position; without a position, if reading then shows exactly these
// events at that place. Everything else is unknown, and the caller repeats it.
// Repeating is safe because every append has ids and an exact expected
// revision: the server compares ids at that place, however old they are. It
// compares ids alone, never bytes; an id must therefore be derived from them.
//
// Reads are repeated here, until the call's time is over. Subscriptions resume
// by themselves behind the last event delivered, for as long as their context
// lives.
//
// # What the database must be
//
// EventStoreDB 23.10 or later, on its own: other streams in it are delivered
// to whoever reads without a filter. The account needs to read $all and to
// write streams; an administrator has both. Nobody else may write, delete or
// set metadata. A stream that was deleted or truncated, by a person, $maxAge,
// $maxCount or $tb, is reported as corrupt as soon as it shows: when its first
// readable event is not revision 0, or the first append to it is answered with
// another revision.
//
// The ledger's own record is the first event of the stream [LedgerStream]. That
// stream is the store's: it is left out of ReadAll and Subscribe, not found by
// ReadStream, and appends to it are refused.
package esdb
