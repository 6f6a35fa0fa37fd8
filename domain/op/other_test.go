package op_test

import (
	"reflect"
	"testing"
	"time"

	"writ/domain/op"
)

// The events that are not in an op's stream stay readable, too.
func TestOtherEventsAsStored(t *testing.T) {
	at := time.Date(2026, 11, 23, 9, 0, 0, 0, time.UTC)
	tests := map[string]any{
		op.TypeTookOver:         &op.TookOver{Agent: "lab", Instance: "node-a", Epoch: 7, At: at},
		op.TypeAlive:            &op.Alive{Agent: "lab", Instance: "node-a", Epoch: 7, At: at},
		op.TypeAlive + ".last":  &op.Alive{Agent: "lab", Instance: "node-a", Epoch: 7, At: at, Leaving: true},
		op.TypeUPIDAdopted:      &op.UPIDAdopted{UPID: "UPID:pve1:0000C0DE:00000007:656E0A00:qmdestroy:105:writ@pve!a:", OpID: "op", Agent: "lab", Instance: "node-a", At: at},
		op.TypeContested:        &op.Contested{Agent: "lab", Instance: "node-a", At: at, NonceShort: "6f1c9a0e…", OpID: "op", Attempt: 2, UPID: "UPID:pve1:", State: "failed"},
		op.TypeRefusalsCounted:  &op.RefusalsCounted{Agent: "lab", Instance: "node-a", From: at, To: at.Add(time.Minute), ByReason: map[string]int{"unsigned": 3, "expired": 1}},
		op.TypeStoreClosed:      &op.StoreClosed{At: at, By: "root", To: "esdb-0011223344556677"},
		op.TypeRollbackAccepted: &op.RollbackAccepted{Audience: "00112233445566ff", At: at, By: "root", Reason: "disk lost, restored", Attempts: []string{"writ@pve!w-00-1"}},
	}
	for name, e := range tests {
		t.Run(name, func(t *testing.T) {
			data, err := op.Marshal(e)
			if err != nil {
				t.Fatal(err)
			}
			golden(t, "other/"+name+".v1.data.json", data)
			again := reflect.New(reflect.TypeOf(e).Elem()).Interface()
			if err := op.Unmarshal(data, again); err != nil || !reflect.DeepEqual(again, e) {
				t.Errorf("read back: got %+v (error %v), want %+v", again, err, e)
			}
			if got, ok := op.TimeOf(data); name != op.TypeRefusalsCounted && (!ok || !got.Equal(at)) {
				t.Errorf("time: got %s, %t; want %s", got, ok, at)
			}
		})
	}
}
