package proxmox_test

import (
	"testing"
	"time"
)

// The host's time is that of a node of the quorum, to the second.
func TestTimeOfTheHost(t *testing.T) {
	r := newAttemptRig(t)
	began := time.Now().Truncate(time.Second)
	got, err := r.host.Time(t.Context())
	if err != nil || got.Before(began) || got.After(time.Now()) {
		t.Errorf("got %s, %v; want from %s to now", got, err, began)
	}
}
