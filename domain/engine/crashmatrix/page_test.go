package crashmatrix_test

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"writ/domain/engine/enginetest"
	"writ/domain/op"
)

// This file is the grids as they stand in the documentation and in testdata.

const (
	docs  = "../../../docs/robustness.md"
	grids = "testdata/grids.md"
)

// A group is classes whose grids are equal, as they are shown.
type group struct {
	classes []string
	*matrix
}

func grouped(all []*matrix, shown func(*matrix) string) []group {
	var groups []group
	for _, m := range all {
		i := slices.IndexFunc(groups, func(g group) bool { return shown(g.matrix) == shown(m) })
		if i < 0 {
			groups = append(groups, group{matrix: m})
			i = len(groups) - 1
		}
		groups[i].classes = append(groups[i].classes, "`"+string(m.class.Class)+"`")
	}
	return groups
}

func (g group) names() string { return strings.Join(g.classes, ", ") }

// page is what stands in the documentation: the counts, the whole grid of
// guest-destroy, and of the others what comes of a fault in each situation,
// wherever it happens.
func page(all []*matrix) string {
	var b strings.Builder
	sum := &matrix{ends: make(map[end]int), last: make(map[end]int)}
	cells := 0
	b.WriteString("| class | histories | something late | cells | ends | after the order was delivered once more | effects |\n| --- | ---: | ---: | ---: | --- | --- | ---: |\n")
	for _, m := range all {
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s | %s | %s | %s |\n", m.class.Class, enginetest.Grouped(m.histories), enginetest.Grouped(m.late),
			enginetest.Grouped(m.count()), tally(m.ends), tally(m.last), enginetest.Grouped(m.effects))
		sum.add(m)
		cells += m.count()
	}
	fmt.Fprintf(&b, "| all | %s | %s | %s | %s | %s | %s |\n\nNever two effects of one nonce.\n", enginetest.Grouped(sum.histories), enginetest.Grouped(sum.late),
		enginetest.Grouped(cells), tally(sum.ends), tally(sum.last), enginetest.Grouped(sum.effects))
	for _, g := range grouped(all, (*matrix).summary) {
		fmt.Fprintf(&b, "\n#### %s\n%s", g.names(), g.summary())
	}
	return b.String()
}

// summary is what the documentation shows of a class.
func (m *matrix) summary() string {
	if m.class.Class == op.GuestDestroy {
		return m.grid()
	}
	return m.brief()
}

// details is every grid whole.
func details(all []*matrix) string {
	var b strings.Builder
	b.WriteString("# The crash matrix, class by class\n\nWhat the letters mean stands in docs/robustness.md.\n")
	for _, g := range grouped(all, (*matrix).grid) {
		fmt.Fprintf(&b, "\n## %s\n%s", g.names(), g.grid())
	}
	return b.String()
}

func (m *matrix) add(o *matrix) {
	m.histories, m.late, m.effects = m.histories+o.histories, m.late+o.late, m.effects+o.effects
	for e, n := range o.ends {
		m.ends[e] += n
	}
	for e, n := range o.last {
		m.last[e] += n
	}
}

func (m *matrix) count() (cells int) {
	for _, row := range m.cells {
		cells += len(row)
	}
	return cells
}

var tokens = map[bool]string{false: "\nWith a token for each attempt:\n\n", true: "\nWith one shared token:\n\n"}

func head(columns string) string {
	var b strings.Builder
	b.WriteString(columns)
	for _, f := range faults {
		b.WriteString(" " + f.String() + " |")
	}
	b.WriteString("\n" + strings.Repeat("| --- ", strings.Count(columns, "|")-1+len(faults)) + "|\n")
	return b.String()
}

// grid is all cells.
func (m *matrix) grid() string {
	var b strings.Builder
	for _, shared := range []bool{false, true} {
		b.WriteString(tokens[shared] + head("| situation | at |"))
		before := ""
		for _, s := range situations {
			for _, r := range m.rows {
				if r.shared != shared || r.situation != s.name {
					continue
				}
				name := s.name
				if name == before {
					name = ""
				}
				before = s.name
				fmt.Fprintf(&b, "| %s | %s |", name, r.at)
				for _, f := range faults {
					b.WriteString(" " + m.cells[r][f].String() + " |")
				}
				b.WriteString("\n")
			}
		}
	}
	return b.String()
}

// brief takes the cells of a situation together, and shows of a shared token what
// differs.
func (m *matrix) brief() string {
	var own, differing strings.Builder
	for _, s := range situations {
		line := m.inAll(s, false)
		own.WriteString(line)
		if with := m.inAll(s, true); with != line {
			differing.WriteString(with)
		}
	}
	b := tokens[false] + head("| situation |") + own.String()
	if differing.Len() == 0 {
		return b + "\nWith one shared token the same.\n"
	}
	return b + "\nWith one shared token the same, but:\n\n" + head("| situation |") + differing.String()
}

// inAll is the line of a situation, of all its boundaries.
func (m *matrix) inAll(s situation, shared bool) string {
	var b strings.Builder
	fmt.Fprintf(&b, "| %s |", s.name)
	for _, f := range faults {
		all := make(cell)
		for _, r := range m.rows {
			if r.shared == shared && r.situation == s.name {
				all.add(m.cells[r][f])
			}
		}
		b.WriteString(" " + all.String() + " |")
	}
	b.WriteString("\n")
	return b.String()
}

func (c cell) add(o cell) {
	for x, ends := range o {
		for e := range ends {
			c.note(x, e)
		}
	}
}

func (c cell) note(x exit, e end) {
	if c[x] == nil {
		c[x] = make(map[end]bool)
	}
	c[x][e] = true
}

// String gives the ends for each end of the task, in one order always; once, if
// that makes no difference.
func (c cell) String() string {
	var each []string
	for _, x := range exits {
		s := ""
		for _, e := range []end{endSucceeded, endNone, endPartial, endQueue, endNothing, endOther} {
			if c[x][e] {
				s += string(e)
			}
		}
		if s == "" {
			s = "·" // it does not come to this boundary
		}
		each = append(each, s)
	}
	if len(slices.Compact(slices.Clone(each))) == 1 {
		return each[0]
	}
	return strings.Join(each, " ")
}

func tally(ends map[end]int) string {
	parts := make([]string, 0, len(ends))
	for _, e := range slices.Sorted(maps.Keys(ends)) {
		parts = append(parts, fmt.Sprintf("%s %s", e, enginetest.Grouped(ends[e])))
	}
	return strings.Join(parts, ", ")
}

// compare compares the grids with the documentation and with testdata, or rewrites
// them there.
func compare(t *testing.T, all []*matrix) {
	t.Helper()
	raw, err := os.ReadFile(docs)
	if err != nil {
		t.Fatal(err)
	}
	is, err := enginetest.InSection(string(raw), "crashmatrix", page(all))
	if err != nil {
		t.Fatalf("%s: %v", docs, err)
	}
	for _, file := range []struct{ name, is string }{{docs, is}, {grids, details(all)}} {
		if *update {
			if err := os.WriteFile(file.name, []byte(file.is), 0o644); err != nil {
				t.Fatal(err)
			}
			continue
		}
		was, err := os.ReadFile(file.name)
		if err != nil {
			t.Fatal(err)
		}
		if line, g, w := enginetest.FirstDifference(file.is, string(was)); line > 0 {
			t.Errorf("%s is another one (-whole -update rewrites it; read the diff), from line %d on:\ngot  %s\nwant %s", file.name, line, g, w)
		}
	}
}

// compareFirst compares the grid of the class that is always played whole.
func compareFirst(t *testing.T, m *matrix) {
	t.Helper()
	raw, err := os.ReadFile(docs)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(raw), m.grid()) {
		t.Errorf("the grid of %s in %s is another one: -whole shows where it differs, -whole -update rewrites it", m.class.Class, docs)
	}
}
