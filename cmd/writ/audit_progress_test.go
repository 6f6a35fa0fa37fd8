package main

import (
	"bytes"
	"testing"
	"time"

	"writ/projections/audit"
)

func TestMeter(t *testing.T) {
	steps := []struct {
		after time.Duration
		p     audit.Progress
	}{
		{0, audit.Progress{Events: 1, Done: 1, Total: 1000}},
		{40 * time.Second, audit.Progress{Events: 4000, Done: 250, Total: 1000}},
		{0, audit.Progress{Events: 4001, Done: 251, Total: 1000}},
		{40 * time.Second, audit.Progress{Events: 8000, Done: 500, Total: 1000}},
		{40 * time.Second, audit.Progress{Events: 9000}},
		{40 * time.Second, audit.Progress{Events: 16000, Done: 1001, Total: 1000}},
	}
	tests := map[string]struct {
		bar, json bool
		want      string
	}{
		"on a terminal": {
			true, false,
			"\r\x1b[K[#######-----------------------] 25 %, 4000 events checked, 100/s, about 2m0s left" +
				"\r\x1b[K[###############---------------] 50 %, 8000 events checked, 100/s, about 1m20s left" +
				"\r\x1b[K9000 events checked, 75/s" +
				"\r\x1b[K[##############################] 100 %, 16000 events checked, 100/s" +
				"\r\x1b[K",
		},
		"elsewhere": {
			false, false,
			"25 %, 4000 events checked, 100/s, about 2m0s left\n50 %, 8000 events checked, 100/s, about 1m20s left\n" +
				"9000 events checked, 75/s\n100 %, 16000 events checked, 100/s\n",
		},
		"for programs": {false, true, ""},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			var out bytes.Buffer
			now := time.Date(2026, 11, 23, 9, 0, 0, 0, time.UTC)
			a := &app{err: &out, now: func() time.Time { return now }, asJSON: tt.json}
			m := a.newMeter("checked")
			m.bar = tt.bar
			for _, s := range steps {
				now = now.Add(s.after)
				m.show(s.p)
			}
			m.end()
			if out.String() != tt.want {
				t.Errorf("got\n%q\nwant\n%q", &out, tt.want)
			}
		})
	}
}
