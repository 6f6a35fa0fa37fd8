package esdb

import (
	"github.com/EventStore/EventStore-Client-Go/v4/protos/streams"

	"writ/domain/eventstore"
)

// Parsed gives where a connection string leads and as whom, for tests.
func Parsed(o Options) (where, user string, err error) {
	t, err := parse(o)
	if err != nil {
		return "", "", err
	}
	if t.login != nil {
		user = t.login.user
	}
	return t.String(), user, nil
}

// Understood gives what a message of a read comes to, for fuzzing.
func Understood(r *streams.ReadResp) (eventstore.Recorded, error) { return recorded(r.GetEvent()) }

// Judged gives what an answer to an append of one event comes to.
func Judged(expected eventstore.Expected, r *streams.AppendResp) (eventstore.Appended, error) {
	return judge("s", expected, 1, r)
}
