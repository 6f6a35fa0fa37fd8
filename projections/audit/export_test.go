package audit_test

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"writ/domain/eventstore"
	"writ/domain/op"
	"writ/projections/audit"
)

var update = flag.Bool("update", false, "rewrite golden files")

// golden compares with a file of testdata.
func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, got, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s: got (rewrite with -update and read the difference):\n%s\nwant:\n%s", path, got, want)
	}
}

func export(t testing.TB, l audit.Ledger) []byte {
	t.Helper()
	var out bytes.Buffer
	if _, err := audit.NewExporter(&out, ledger, eventstore.Cursor{}).Export(context.Background(), l, nil); err != nil {
		t.Fatalf("export: %v", err)
	}
	return out.Bytes()
}

func TestAnExportTellsWhatItsStoreTells(t *testing.T) {
	m := wholeRecord(t).memory
	data := export(t, m)
	golden(t, "export.ndjson", data)
	got, want := verifyExport(t, data), verify(t, m, audit.Options{})
	want.Source = "export"
	g, err := op.Marshal(got)
	if err != nil {
		t.Fatal(err)
	}
	w, err := op.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(g, w) || !got.Sound {
		t.Errorf("got\n%s\nwant\n%s", g, w)
	}
}

func TestDamagedExports(t *testing.T) {
	whole := export(t, wholeRecord(t).memory)
	lines := bytes.SplitAfter(whole, []byte("\n"))
	lines = lines[:len(lines)-1] // behind the last line end there is none
	join := func(l [][]byte) []byte { return bytes.Join(l, nil) }
	without := func(i int) []byte {
		return append(join(lines[:i]), join(lines[i+1:])...)
	}
	tests := map[string]struct {
		data []byte
		kind audit.Kind
		says string
	}{
		"the manifest is missing":      {join(lines[:len(lines)-1]), audit.Incomplete, "an end without one"},
		"the last line is cut off":     {whole[:len(whole)-1], audit.Incomplete, "cut off"},
		"something behind the end":     {append(bytes.Clone(whole), lines[3]...), audit.Incomplete, "more lines"},
		"a line taken out":             {without(8), audit.Incomplete, "events 51"},
		"a time changed":               {bytes.Replace(whole, []byte(`"recorded_at":"2026-11-23T09:00:01Z"`), []byte(`"recorded_at":"2026-11-23T09:00:02Z"`), 1), audit.Incomplete, "sha256"},
		"a line that is no JSON":       {append(append(join(lines[:5]), "damaged\n"...), join(lines[5:])...), audit.Unreadable, "line 6"},
		"a line that is far too long":  {append(append(join(lines[:5]), strings.Repeat("x", 3<<20)+"\n"...), join(lines[5:])...), audit.Unreadable, "longer than"},
		"an id in another form":        {bytes.Replace(whole, []byte(`"id":"`), []byte(`"id":"{`), 1), audit.Unreadable, "UUID"},
		"a member that is not known":   {bytes.Replace(whole, []byte(`{"position":`), []byte(`{"place":1,"position":`), 1), audit.Unreadable, "place"},
		"an export from the middle on": {fromMiddle(t), audit.Incomplete, "from behind position"},
		"an event that its store lost": {lost(t), audit.Unreadable, "a checksum does not fit"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			r := verifyExport(t, tt.data)
			for _, f := range r.Findings {
				if f.Kind == tt.kind && strings.Contains(f.Found, tt.says) {
					if r.Sound {
						t.Error("the report calls it sound")
					}
					return
				}
			}
			t.Errorf("got %+v, want %s that says %q", r.Findings, tt.kind, tt.says)
		})
	}
}

func fromMiddle(t *testing.T) []byte {
	t.Helper()
	r := wholeRecord(t)
	var out bytes.Buffer
	after := eventstore.After(r.events()[10].Position)
	if _, err := audit.NewExporter(&out, ledger, after).Export(context.Background(), r.memory, nil); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func lost(t *testing.T) []byte {
	t.Helper()
	l := wholeEvents(t)
	for i := range l {
		l[i].Position = eventstore.Position(i + 1)
	}
	return export(t, unreadable{l, 7})
}

func TestWhatIsNoExport(t *testing.T) {
	for name, data := range map[string]string{
		"nothing":           "",
		"another file":      "hello\n",
		"an unended line":   `{"writ_export":1,"ledger":"3f9c2ab41d6e4a70","after":0}`,
		"a version to come": `{"writ_export":2,"ledger":"3f9c2ab41d6e4a70","after":0}` + "\n",
		"a member more":     `{"writ_export":1,"ledger":"3f9c2ab41d6e4a70","after":0,"x":1}` + "\n",
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := audit.OpenExport(strings.NewReader(data), 0); err == nil {
				t.Error("it was taken for an export")
			}
		})
	}
}

// TestAnExportIsResumed cuts an export at every line, and in the middle of
// lines, and goes on: the result is what one run would have written.
func TestAnExportIsResumed(t *testing.T) {
	m := wholeRecord(t).memory
	whole := export(t, m)
	for cut := bytes.IndexByte(whole, '\n') + 1; cut < len(whole)-1; cut += 997 {
		var out bytes.Buffer
		x, good, err := audit.ResumeExport(bytes.NewReader(whole[:cut]), &out)
		if err != nil {
			t.Fatalf("cut at %d: %v", cut, err)
		}
		if _, err := x.Export(context.Background(), m, nil); err != nil {
			t.Fatalf("cut at %d: %v", cut, err)
		}
		if got := append(bytes.Clone(whole[:good]), out.Bytes()...); !bytes.Equal(got, whole) {
			t.Fatalf("cut at %d, good up to %d: the export differs", cut, good)
		}
	}
	if _, _, err := audit.ResumeExport(bytes.NewReader(whole), nil); !errors.Is(err, audit.ErrExportWhole) {
		t.Errorf("resume a whole one: got %v, want %v", err, audit.ErrExportWhole)
	}
}

func FuzzExport(f *testing.F) {
	whole := export(f, wholeRecord(f).memory)
	f.Add(whole)
	lines := bytes.SplitAfter(whole, []byte("\n"))
	f.Add(bytes.Join(lines[:3], nil))
	f.Add([]byte(`{"writ_export":1,"ledger":"3f9c2ab41d6e4a70","after":0}` + "\n" + `{"manifest":{}}` + "\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		src, err := audit.OpenExport(bytes.NewReader(data), 0)
		if err != nil {
			return
		}
		r, err := audit.Verify(context.Background(), src, audit.Options{Workers: 2})
		if err != nil || r == nil {
			t.Fatalf("got %v, want a report about whatever it is", err)
		}
		if r.Sound && !bytes.HasSuffix(data, []byte("}}\n")) {
			t.Error("an export without its manifest is called sound")
		}
		if _, err := op.Marshal(r); err != nil {
			t.Errorf("the report can't be shown: %v", err)
		}
	})
}
