package proxmox

import (
	"fmt"
	"regexp"
	"strconv"
	"time"
)

// A UPID is the id of a task, taken apart. The parser takes what Proxmox VE
// writes, upper-case hex: its files go by this very text, so that a UPID in
// lower case names no task at all.
type UPID struct {
	Node   string
	PID    uint32
	PStart uint64 // start of the process in clock ticks since the node's boot
	Start  uint32 // UNIX seconds by the node's clock, taken before the fork
	Type   string // such as qmdestroy
	ID     string // what it acts on; empty for some types
	User   string // user@realm, or user@realm!token
}

// maxUPID is the longest file name, and a task's log is a file of that name.
const maxUPID = 255

// Proxmox VE: pve-common UPID.pm, with its writer's upper case.
var upidForm = regexp.MustCompile(
	`^UPID:([a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?):([0-9A-F]{8}):([0-9A-F]{8,9}):([0-9A-F]{8}):([^:\s/]+):([^:\s/]*):([^:\s/]+):$`)

// ParseUPID accepts exactly what Proxmox VE can have written: parsing and
// String are inverse to each other.
func ParseUPID(s string) (UPID, error) {
	m := upidForm.FindStringSubmatch(s)
	if m == nil || len(s) > maxUPID || clipTo(s, maxUPID) != s {
		return UPID{}, fmt.Errorf("%q is not a UPID, the id that Proxmox VE gives a task", clip(s))
	}
	hex := func(field string) uint64 {
		n, err := strconv.ParseUint(field, 16, 64)
		if err != nil {
			panic("proxmox: internal error: the form of a UPID let pass " + field)
		}
		return n
	}
	u := UPID{
		Node: m[1], PID: uint32(hex(m[2])), PStart: hex(m[3]), Start: uint32(hex(m[4])),
		Type: m[5], ID: m[6], User: m[7],
	}
	if u.String() != s {
		return UPID{}, fmt.Errorf("%q is not a UPID: its numbers are not in the form that Proxmox VE writes", clip(s))
	}
	return u, nil
}

// String gives the UPID as Proxmox VE writes it.
func (u UPID) String() string {
	return fmt.Sprintf("UPID:%s:%08X:%08X:%08X:%s:%s:%s:", u.Node, u.PID, u.PStart, u.Start, u.Type, u.ID, u.User)
}

// StartTime is when the task began, by the clock of its node.
func (u UPID) StartTime() time.Time { return time.Unix(int64(u.Start), 0).UTC() }
