package proxmox_test

import (
	"strings"
	"testing"
	"time"

	"writ/adapters/proxmox"
)

func TestParseUPID(t *testing.T) {
	u, err := proxmox.ParseUPID("UPID:pve1:00002117:00026D28:6B03E1E0:qmdestroy:110:bars@pve!t1:")
	want := proxmox.UPID{Node: "pve1", PID: 8471, PStart: 159016, Start: 1795416544, Type: "qmdestroy", ID: "110", User: "bars@pve!t1"}
	if err != nil || u != want {
		t.Errorf("got %#v, %v, want %#v", u, err, want)
	}
	if got, want := u.StartTime(), time.Date(2026, 11, 23, 6, 49, 4, 0, time.UTC); !got.Equal(want) {
		t.Errorf("start: got %s, want %s", got, want)
	}
}

func TestUPIDForm(t *testing.T) {
	const good = "UPID:pve1:00002117:00026D28:6B03E1E0:qmdestroy:110:bars@pve!t1:"
	cases := []struct {
		name string
		upid string
		ok   bool
	}{
		{"a token's", good, true},
		{"a user's", "UPID:pve1:00002117:00026D28:6B03E1E0:qmdestroy:110:root@pam:", true},
		{"empty id", "UPID:pve1:00002117:00026D28:6B03E1E0:vzdump::root@pam:", true},
		{"nine digits of process start", "UPID:pve1:00002117:100026D28:6B03E1E0:qmdestroy:110:root@pam:", true},
		{"reassigned disk", "UPID:a-b:00002117:00026D28:6B03E1E0:qmmove:100-scsi0>101-scsi1:root@pam:", true},
		{"empty", "", false},
		{"no colon at the end", strings.TrimSuffix(good, ":"), false},
		{"one colon more", good + ":", false},
		{"lower-case hex", "UPID:pve1:00002117:00026d28:6B03E1E0:qmdestroy:110:root@pam:", false},
		{"ten digits of process start", "UPID:pve1:00002117:1100026D28:6B03E1E0:qmdestroy:110:root@pam:", false},
		{"a zero too many", "UPID:pve1:00002117:000026D28:6B03E1E0:qmdestroy:110:root@pam:", false},
		{"short pid", "UPID:pve1:2117:00026D28:6B03E1E0:qmdestroy:110:root@pam:", false},
		{"dot in the node", "UPID:pve.1:00002117:00026D28:6B03E1E0:qmdestroy:110:root@pam:", false},
		{"hyphen ends the node", "UPID:pve-:00002117:00026D28:6B03E1E0:qmdestroy:110:root@pam:", false},
		{"slash in the id", "UPID:pve1:00002117:00026D28:6B03E1E0:imgdel:a/b:root@pam:", false},
		{"no type", "UPID:pve1:00002117:00026D28:6B03E1E0::110:root@pam:", false},
		{"no user", "UPID:pve1:00002117:00026D28:6B03E1E0:qmdestroy:110::", false},
		{"line feed after it", good + "\n", false},
		{"longer than a file name", "UPID:pve1:00002117:00026D28:6B03E1E0:qmdestroy:110:" + strings.Repeat("u", 250) + "@pam:", false},
		{"invalid UTF-8", "UPID:pve1:00002117:00026D28:6B03E1E0:qmdestroy:1\xff0:root@pam:", false},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			u, err := proxmox.ParseUPID(c.upid)
			if (err == nil) != c.ok {
				t.Fatalf("parse %q: got %v, want accepted %v", c.upid, err, c.ok)
			}
			if c.ok && u.String() != c.upid {
				t.Errorf("round trip: got %q, want %q", u, c.upid)
			}
		})
	}
}

func FuzzParseUPID(f *testing.F) {
	f.Add("UPID:pve1:00002117:00026D28:6B03E1E0:qmdestroy:110:bars@pve!t1:")
	f.Add("UPID:pve1:00002117:100026D28:6B03E1E0:vzdump::root@pam:")
	f.Add("UPID:pve1:0000ABCD:00ABCDEF:68A60E01:qmdestroy:105")
	f.Fuzz(func(t *testing.T, s string) {
		u, err := proxmox.ParseUPID(s)
		if err != nil {
			return
		}
		if u.String() != s {
			t.Errorf("round trip: got %q, want %q", u, s)
		}
		if strings.ContainsAny(s, "/ \n") || strings.Count(s, ":") != 8 {
			t.Errorf("accepted %q", s)
		}
	})
}
