package audit

import (
	"bytes"
	_ "embed"
	"fmt"
	"html/template"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"writ/domain/op"
)

// A Row is a name and what is said of it, for tables that people read.
type Row struct{ Name, Value string }

// Verdict is the report in a sentence.
func (r *Report) Verdict() string {
	n := r.findings()
	switch {
	case n == 0 && r.Complete:
		return fmt.Sprintf("SOUND: %s, and nothing that does not hold", plural(r.Counts.Events, "event", "events"))
	case n == 0:
		return fmt.Sprintf("NOT READ TO THE END: nothing was found in the first %s", plural(r.Counts.Events, "event", "events"))
	}
	return fmt.Sprintf("NOT SOUND: %s in %s", plural(uint64(n), "finding", "findings"), plural(r.Counts.Events, "event", "events"))
}

func plural(n uint64, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}

// OpRows says how many ops ended how.
func (r *Report) OpRows() []Row {
	o := r.Counts.Ops
	rows := []Row{
		{"succeeded", fmt.Sprint(o.Succeeded)},
		{"failed with an effect, or one not known", fmt.Sprint(o.Failed)},
		{"failed with effect none", fmt.Sprint(o.FailedClean)},
		{"voided", fmt.Sprint(o.Voided)},
		{"in flight", fmt.Sprint(o.InFlight)},
		{"damaged: can't be followed to their end", fmt.Sprint(o.Damaged)},
	}
	return append(rows, Row{"all ops", fmt.Sprint(o.Total)})
}

// CheckedRows says what was decided again with the same answer.
func (r *Report) CheckedRows() []Row {
	c := r.Counts
	of := func(n, all uint64) string { return fmt.Sprintf("%d of %d", n, all) }
	return []Row{
		{"events checked: form, place, id, chain hash", of(c.Events-min(c.Events, c.Unchecked), c.Events)},
		{"claims that the gate allows again, with the same signers", of(c.Claims, c.Attempts)},
		{"launches that the policy then in force allows again", of(c.LaunchDecisions, c.Launches)},
		{"refusals that the gate gives again", of(c.Refusals, c.Refused)},
		{"signed resolutions", fmt.Sprint(c.Resolutions)},
		{"signatures that count", fmt.Sprint(c.Signatures)},
		{"policies", fmt.Sprint(c.Policies)},
		{"take-overs by an instance", fmt.Sprint(c.TakeOvers)},
		{"signs of life of the instance that leads", fmt.Sprint(c.Alive)},
		{"tasks adopted", fmt.Sprint(c.Adoptions)},
	}
}

// OpenRows says what can't be decided again, and why.
func (r *Report) OpenRows() []Row {
	var rows []Row
	for _, why := range slices.Sorted(maps.Keys(r.NotRerun)) {
		rows = append(rows, Row{why, fmt.Sprint(r.NotRerun[why])})
	}
	for _, name := range slices.Sorted(maps.Keys(r.Others)) {
		rows = append(rows, Row{"events of streams that an audit does not know: " + name, fmt.Sprint(r.Others[name])})
	}
	return rows
}

// NoteRows says what is no finding and worth knowing.
func (r *Report) NoteRows() []Row {
	var rows []Row
	for _, what := range slices.Sorted(maps.Keys(r.Notes)) {
		rows = append(rows, Row{what, fmt.Sprint(r.Notes[what])})
	}
	return rows
}

// RollbackRows says when people took an older copy for the ledger.
func (r *Report) RollbackRows() []Row {
	var rows []Row
	for _, b := range r.Rollbacks {
		rows = append(rows, Row{
			fmt.Sprintf("%s by %s, position %d", b.At.UTC().Format(time.RFC3339), b.By, b.Position),
			fmt.Sprintf("%s (the host knew of %s that the copy did not)", b.Reason, plural(uint64(b.Attempts), "attempt", "attempts")),
		})
	}
	return rows
}

// KindRows says how many findings there are of each kind.
func (r *Report) KindRows() []Row {
	var rows []Row
	for _, k := range Kinds() {
		if n := r.FindingsByKind[k]; n > 0 {
			rows = append(rows, Row{fmt.Sprintf("%s: %s", k, k.Meaning()), fmt.Sprint(n)})
		}
	}
	return rows
}

// TodayRows says why today's policy would have refused.
func (t *Today) TodayRows() []Row {
	var rows []Row
	for _, reason := range slices.Sorted(maps.Keys(t.ByReason)) {
		rows = append(rows, Row{reason, fmt.Sprint(t.ByReason[reason])})
	}
	return rows
}

// Omitted is how many findings are not listed.
func (r *Report) Omitted() int { return r.findings() - len(r.Findings) }

// Where names the place of a finding.
func (f Finding) Where() string {
	if f.Stream == "" {
		return fmt.Sprintf("position %d", f.Position)
	}
	return fmt.Sprintf("%s@%d, position %d", f.Stream, f.Revision, f.Position)
}

// WriteText writes the report for people, in plain text.
func (r *Report) WriteText(w io.Writer) error {
	var b bytes.Buffer
	fmt.Fprintf(&b, "Audit of ledger %s, read from the %s\n\n%s.\n", shorten(r.Ledger), r.Source, r.Verdict())
	if r.Stopped != "" {
		fmt.Fprintf(&b, "Reading stopped: %s\n", r.Stopped)
	}
	table(&b, "Ops", r.OpRows())
	table(&b, "Checked", r.CheckedRows())
	table(&b, "Can't be decided again from what is on record", r.OpenRows())
	table(&b, "Noted", r.NoteRows())
	table(&b, "People took an older copy for this ledger; what came after that copy is not in this record", r.RollbackRows())
	table(&b, "Findings", r.KindRows())
	for i, f := range r.Findings {
		fmt.Fprintf(&b, "\n  %d. %s  %s\n     expected  %s\n     found     %s\n", i+1, f.Kind, f.Where(), f.Expected, f.Found)
	}
	if n := r.Omitted(); n > 0 {
		fmt.Fprintf(&b, "\n  and %d more\n", n)
	}
	r.textInFlight(&b)
	r.textToday(&b)
	_, err := w.Write(b.Bytes())
	return err
}

func table(b *bytes.Buffer, title string, rows []Row) {
	if len(rows) == 0 {
		return
	}
	fmt.Fprintf(b, "\n%s\n", title)
	t := tabwriter.NewWriter(b, 0, 0, 2, ' ', 0)
	for _, r := range rows {
		fmt.Fprintf(t, "  %s\t%s\n", r.Name, r.Value)
	}
	_ = t.Flush() // into memory
}

func (r *Report) textInFlight(b *bytes.Buffer) {
	if len(r.InFlight) == 0 {
		return
	}
	fmt.Fprint(b, "\nIn flight: begun and not ended (a live service may be running them; if not, writ recovery settles them)\n")
	t := tabwriter.NewWriter(b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "  NONCE\tCLASS\tTARGET\tATTEMPT\tSTATE\tSINCE")
	for _, o := range r.InFlight {
		fmt.Fprintf(t, "  %s\t%s\t%s\t%d\t%s\t%s\n", o.NonceShort, o.Class, o.Target, o.Attempt, o.State, o.At.Format(time.RFC3339))
	}
	_ = t.Flush() // into memory
	if n := r.Counts.Ops.InFlight - uint64(len(r.InFlight)); n > 0 {
		fmt.Fprintf(b, "  and %d more\n", n)
	}
}

func (r *Report) textToday(b *bytes.Buffer) {
	if r.Today == nil {
		return
	}
	fmt.Fprintf(b, "\nToday's policy, asked about the claims of the past at their time and with their facts, allows %d and refuses %d\n", r.Today.Allowed, r.Today.Refused)
	for _, row := range r.Today.TodayRows() {
		fmt.Fprintf(b, "  %s  %s\n", row.Name, row.Value)
	}
	for _, o := range r.Today.Ops {
		fmt.Fprintf(b, "\n  %s  %s on %s, attempt %d at %s\n     %s: %s\n", o.NonceShort, o.Class, o.Target, o.Attempt, o.At.Format(time.RFC3339), o.Reason, o.Detail)
	}
	if n := r.Today.Refused - uint64(len(r.Today.Ops)); n > 0 {
		fmt.Fprintf(b, "\n  and %d more\n", n)
	}
}

// JSON gives the report for programs, in one line.
func (r *Report) JSON() ([]byte, error) { return op.Marshal(r) }

//go:embed report.html
var reportHTML string

var htmlReport = template.Must(template.New("report").Funcs(template.FuncMap{
	"time":    func(t time.Time) string { return t.UTC().Format(time.RFC3339) },
	"meaning": func(k Kind) string { return k.Meaning() },
}).Parse(reportHTML))

// WriteHTML writes the report as one page that prints well, without scripts and
// without anything from elsewhere.
func (r *Report) WriteHTML(w io.Writer) error {
	var b bytes.Buffer
	if err := htmlReport.Execute(&b, r); err != nil {
		return fmt.Errorf("write the report: %w", err)
	}
	_, err := w.Write(b.Bytes())
	return err
}

// WriteText writes the story for people, in plain text.
func (s *Story) WriteText(w io.Writer) error {
	var b bytes.Buffer
	fmt.Fprintf(&b, "Op %s of ledger %s\n%s.\n", s.NonceShort, shorten(s.Ledger), s.Headline)
	for _, step := range s.Steps {
		fmt.Fprintf(&b, "\n%s  %s (revision %d, position %d)\n  %s\n", step.At.Format("2006-01-02T15:04:05.000Z07:00"), step.Event, step.Revision, step.Position, step.Text)
		for _, d := range step.Details {
			fmt.Fprintf(&b, "  - %s\n", d)
		}
	}
	if len(s.Findings) == 0 {
		fmt.Fprint(&b, "\nChecked again: every id and chain hash, every transition, every signature and decision on record. All of it holds.\n")
	}
	for i, f := range s.Findings {
		fmt.Fprintf(&b, "\nDOES NOT HOLD (%d): %s: %s\n  at        %s\n  expected  %s\n  found     %s\n", i+1, f.Kind, f.Kind.Meaning(), f.Where(), f.Expected, f.Found)
	}
	for _, why := range slices.Sorted(maps.Keys(s.NotRerun)) {
		fmt.Fprintf(&b, "\nCould not be decided again: %s (%d)\n", why, s.NotRerun[why])
	}
	_, err := io.Copy(w, strings.NewReader(b.String()))
	return err
}
