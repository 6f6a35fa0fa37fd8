package pvesim

import (
	"regexp"
	"time"
)

// EffectKind says what was done.
type EffectKind string

// The effects on record.
const (
	VolumeFreed    EffectKind = "volume-freed"
	ConfigEmptied  EffectKind = "config-emptied"  // the config is "lock: destroyed" and nothing else
	GuestDestroyed EffectKind = "guest-destroyed" // the config is gone and the VMID free
	GuestStopped   EffectKind = "guest-stopped"
	GuestStarted   EffectKind = "guest-started"
)

// Effect is one thing that really happened to a guest, whoever was told what.
type Effect struct {
	Seq  int        `json:"seq"`
	At   time.Time  `json:"at"` // true time, whatever the node's clock says
	Kind EffectKind `json:"kind"`
	Node string     `json:"node"`
	VMID int        `json:"vmid"`
	// Instance and UUID say which machine it was, of all that had the VMID.
	Instance int    `json:"instance"`
	UUID     string `json:"uuid,omitempty"`
	Name     string `json:"name,omitempty"`
	Volume   string `json:"volume,omitempty"`
	// UPID and Auth name the task; without a task, a synchronous call has only
	// Auth, and a control method neither.
	UPID string `json:"upid,omitempty"`
	Auth string `json:"auth,omitempty"`
}

// Effects returns all effects so far, oldest first. Nothing is ever taken out.
func (s *Sim) Effects() []Effect {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]Effect(nil), s.effects...)
}

// effect puts one on record. A nil task is another administrator's hand.
func (s *Sim) effect(t *task, kind EffectKind, g *guest, volid string) {
	if t == nil {
		s.effectBy("", "", kind, g, volid)
		return
	}
	s.effectBy(t.upid, t.user, kind, g, volid)
}

func (s *Sim) effectBy(upid, auth string, kind EffectKind, g *guest, volid string) {
	uuid, name := g.identity()
	e := Effect{
		Seq: len(s.effects) + 1, At: s.now(), Kind: kind, Node: g.node.name, VMID: g.vmid,
		Instance: g.instance, UUID: uuid, Name: name, Volume: volid, UPID: upid, Auth: auth,
	}
	s.effects = append(s.effects, e)
}

var macPattern = regexp.MustCompile(`(?i)\b[0-9a-f]{2}(:[0-9a-f]{2}){5}\b`)
