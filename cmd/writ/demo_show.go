package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"text/tabwriter"
	"time"

	"writ/domain/op"
)

// A demoShow tells what happens as it happens: lines for people, in colour on
// a terminal, or one JSON object a line.
type demoShow struct {
	out    io.Writer
	asJSON bool
	colour bool
	number int       // of the scene
	start  time.Time // of the scene
	now    func() time.Time
}

func newDemoShow(a *app) *demoShow {
	return &demoShow{out: a.out, asJSON: a.asJSON, colour: isTerminal(a.out), now: a.now}
}

// Colours, by what they are for.
const (
	paintTitle   = "1"    // bold
	paintGood    = "32"   // green
	paintRefused = "33"   // yellow
	paintBad     = "1;31" // bold red
	paintDim     = "2"
	paintEvent   = "36" // cyan
)

func (s *demoShow) paint(how, text string) string {
	if !s.colour {
		return text
	}
	return "\x1b[" + how + "m" + text + "\x1b[0m"
}

func (s *demoShow) printf(format string, args ...any) {
	if !s.asJSON {
		fmt.Fprintf(s.out, format, args...)
	}
}

// object prints one JSON object, if that is what is asked for.
func (s *demoShow) object(kind string, members map[string]any) {
	if !s.asJSON {
		return
	}
	members["type"] = kind
	if s.number > 0 && kind != "summary" {
		members["scene"] = s.number
	}
	enc := json.NewEncoder(s.out)
	enc.SetEscapeHTML(false)
	_ = enc.Encode(members) // maps of plain values
}

func (s *demoShow) opening(w *demoWorld) {
	s.object("start", map[string]any{
		"cluster": w.server.URL, "service": w.base, "folder": w.dir, "audience": w.site.Audience(),
	})
	s.printf("%s\n\n", s.paint(paintTitle, "writ carries out signed orders for destructive operations, each exactly once, and can prove it."))
	s.printf("The cluster below exists only in memory, so nothing that is destroyed was ever yours. The\n")
	s.printf("service, its ledger on disk and the HTTP between them are real.\n\n")
	s.printf("  cluster  %s\n  service  %s\n  ledger   %s, every step on disk before the next\n", w.server.URL, w.base, w.site.Ledger)
	s.printf("  policy   two of alice, bob and carol must sign; whoever requested it does not count\n")
}

func (s *demoShow) scene(n int, sc scene) {
	s.number, s.start = n, s.now()
	s.object("scene", map[string]any{"title": sc.title, "story": sc.story})
	s.printf("\n%s\n%s\n\n", s.paint(paintTitle, fmt.Sprintf("%d. %s", n, sc.title)), indent(sc.story))
}

func indent(text string) string { return "   " + strings.ReplaceAll(text, "\n", "\n   ") }

// say tells what somebody outside the service does.
func (s *demoShow) say(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	s.object("action", map[string]any{"text": text})
	s.printf("   - %s\n", text)
}

// event shows one event of the ledger as it becomes durable.
func (s *demoShow) event(e op.Event) {
	h := op.HeaderOf(e)
	after := s.now().Sub(s.start).Round(10 * time.Millisecond)
	s.object("event", map[string]any{
		"event": e.Type(), "op_id": h.OpID, "attempt": h.Attempt, "at": h.At, "text": eventWords(e),
	})
	s.printf("     %s %s %s\n", s.paint(paintDim, fmt.Sprintf("%5.2fs", after.Seconds())),
		s.paint(paintEvent, fmt.Sprintf("%-13s", e.Type())), eventWords(e))
}

// answer shows what the service said.
func (s *demoShow) answer(to string, got demoAnswer) {
	s.object("answer", map[string]any{"to": to, "status": got.Status, "word": got.word(), "detail": got.Detail})
	how := paintGood
	if got.Status != http.StatusOK {
		how = paintRefused
	}
	s.printf("   %-24s %s\n", to, s.paint(how, fmt.Sprintf("%d %s", got.Status, got.word())))
	if got.Status != http.StatusOK {
		s.printf("%s\n", s.paint(paintDim, wrapped(got.Detail, 28, 94, 2)))
	}
}

func (s *demoShow) claim(c claim) {
	s.object("claim", map[string]any{"claim": c.Text, "holds": c.Holds, "found": c.Found})
	if c.Holds {
		s.printf("   %s %s\n", s.paint(paintGood, "✓"), c.Text)
		return
	}
	s.printf("   %s\n", s.paint(paintBad, "✗ NOT TRUE: "+c.Text+" (found: "+c.Found+")"))
}

func (s *demoShow) summary(w *demoWorld, checked, failed int) {
	s.object("summary", map[string]any{"ok": failed == 0, "claims": checked, "failed": failed, "rows": w.rows})
	if s.asJSON {
		return
	}
	s.printf("\n%s\n", s.paint(paintTitle, "What was asked, decided and done"))
	t := tabwriter.NewWriter(s.out, 0, 0, 2, ' ', 0)
	fmt.Fprint(t, "   \tASKED\tDECIDED\tDONE ON THE HOST\n")
	for _, r := range w.rows {
		fmt.Fprintf(t, "   %d\t%s\t%s\t%s\n", r.Scene, r.Asked, r.Decided, r.Done)
	}
	_ = t.Flush() // a failed write shows at the next print
	if failed > 0 {
		s.printf("\n%s\n", s.paint(paintBad, fmt.Sprintf("%d of %d claims DID NOT HOLD. Do not trust this build; please report it.", failed, checked)))
		return
	}
	s.printf("\n%s\n", s.paint(paintGood, fmt.Sprintf("All %d claims held, checked against the host's own account and the ledger.", checked)))
	if w.keep {
		return
	}
	s.printf("\nTry next:\n")
	s.printf("  writ demo --keep      the same, and then it is yours to play with\n")
	s.printf("  writ keygen --help    a key of your own\n")
	s.printf("  writ init --help      a ledger and a configuration for your own cluster\n")
}

// keeping tells how to use what runs on.
func (s *demoShow) keeping(w *demoWorld) {
	token := w.path("api-token")
	s.object("keeping", map[string]any{"url": w.base, "token_file": token, "config": w.path("writ.yaml"), "cluster": w.server.URL, "folder": w.dir})
	s.printf("\n%s\n\n", s.paint(paintTitle, "It all runs on, until Ctrl-C."))
	s.printf("  folder   %s (removed at the end)\n", w.dir)
	s.printf("  service  %s, bearer token in api-token, API description at /openapi.json\n", w.base)
	s.printf("  cluster  %s, its own account at /sim/effects (curl --cacert ca.pem)\n\n", w.server.URL)
	s.printf("Sign and run an order yourself, in another terminal:\n\n")
	if _, err := exec.LookPath("writ"); err != nil {
		if self, err := os.Executable(); err == nil {
			s.printf("  alias writ=%s\n", self) // such as after go run
		}
	}
	s.printf("  cd %s\n", w.dir)
	s.printf("  writ sign --config writ.yaml --audience %s --qemu 108 --requested-by alice \\\n", w.site.Audience())
	s.printf("      --reason \"my first writ\" --key bob.key --out first.writ\n")
	s.printf("  writ cosign first.writ --key carol.key\n")
	s.printf("  writ inspect first.writ --policy policy.yaml\n")
	s.printf("  writ submit first.writ --url %s --token-file api-token --wait 30s\n", w.base)
	s.printf("  writ submit first.writ --url %s --token-file api-token      # again: nothing happens\n", w.base)
}

// eventWords says an event in plain words.
func eventWords(e op.Event) string {
	switch e := e.(type) {
	case *op.Started:
		names := make([]string, len(e.Signers))
		for i, s := range e.Signers {
			names[i] = s.Person
		}
		return fmt.Sprintf("claimed: signed by %s as %s, policy %d", strings.Join(names, " and "), e.Role, e.PolicySerial)
	case *op.Launching:
		return fmt.Sprintf("about to send %s %s, once", e.Request.Method, e.Request.Path)
	case *op.TaskRunning:
		return "the host works on it: " + e.UPID
	case *op.Succeeded:
		return fmt.Sprintf("task ended %s, and the host shows that the guest is gone", e.ExitStatus)
	case *op.Failed:
		return fmt.Sprintf("%s, effect %s: %s", e.Kind, e.Effect, e.Message)
	case *op.Voided:
		return "taken back: " + e.Reason
	}
	return ""
}

// wrapped breaks a text at blanks, indents it, and leaves out what does not fit
// into so many lines.
func wrapped(text string, margin, width, lines int) string {
	var b strings.Builder
	room := 0
	for _, word := range strings.Fields(text) {
		if room < len(word)+1 {
			if lines == 0 {
				b.WriteString(" …")
				break
			}
			lines--
			if b.Len() > 0 {
				b.WriteString("\n")
			}
			b.WriteString(strings.Repeat(" ", margin-1))
			room = width - margin + 1
		}
		b.WriteString(" " + word)
		room -= len(word) + 1
	}
	return b.String()
}
