package pvesim_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"writ/adapters/pvesim"
)

// exchange is one request to a real Proxmox VE and its reply. Lists in replies
// are cut down to one row of each shape.
type exchange struct {
	Name       string            `json:"name"`
	Method     string            `json:"method"`
	Path       string            `json:"path"`
	Query      string            `json:"query"`
	Header     map[string]string `json:"header"`
	Body       *string           `json:"body"`
	Fill       int               `json:"fill"` // body of that many bytes
	Status     int               `json:"status"`
	Reason     string            `json:"reason"`
	Connection string            `json:"connection"`
	CType      string            `json:"ctype"`
	Reply      any               `json:"reply"`
}

// TestRecorded replays what a real cluster was asked and compares every reply:
// status, reason phrase, error bodies and task texts exactly, lists by the
// shapes of their rows, and changing values (times, ids, sizes) by JSON type.
// testdata/differences.txt lists what differs on purpose, with the reason.
func TestRecorded(t *testing.T) {
	differs := readDifferences(t)
	newLab(t).replayAll(differs, "http", "tasks", "destroy", "destroy-more", "lxc", "cluster", "proxy-single")
	newLab(t).replayAll(differs, "snapshots", "snapshots-more")
	newLab(t).replayAll(differs, "storage", "disks")
	newLab(t).replayAll(differs, "restore", "backup")
	for id := range differs {
		t.Errorf("differences.txt: got no exchange %s, want one for each line", id)
	}
}

// replayAll replays the exchanges of some files one after the other.
func (l *lab) replayAll(differs map[string]string, files ...string) {
	l.t.Helper()
	for _, file := range files {
		for _, ex := range readExchanges(l.t, file) {
			id := file + ":" + ex.Name
			l.before(file, ex.Name)
			complaints := l.replay(&ex)
			_, expected := differs[id]
			switch {
			case expected && len(complaints) == 0:
				l.t.Errorf("%s: got the recorded reply, want the difference that differences.txt lists", id)
			case !expected && len(complaints) > 0:
				l.t.Errorf("%s: %s %s?%s\n  %s", id, ex.Method, ex.Path, ex.Query, strings.Join(complaints, "\n  "))
			}
			delete(differs, id)
		}
	}
}

func readExchanges(t *testing.T, name string) []exchange {
	t.Helper()
	f, err := os.Open(filepath.Join("testdata", "recorded", name+".jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var out []exchange
	sc := bufio.NewScanner(f)
	sc.Buffer(nil, 1<<20)
	for sc.Scan() {
		var ex exchange
		if err := json.Unmarshal(sc.Bytes(), &ex); err != nil {
			t.Fatal(err)
		}
		out = append(out, ex)
	}
	if sc.Err() != nil || len(out) == 0 {
		t.Fatalf("%s: got %d exchanges (%v), want some", name, len(out), sc.Err())
	}
	return out
}

func readDifferences(t *testing.T) map[string]string {
	t.Helper()
	b, err := os.ReadFile("testdata/differences.txt")
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	for line := range strings.Lines(string(b)) {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		id, reason, ok := strings.Cut(line, " | ")
		if !ok {
			t.Fatalf("differences.txt: got %q, want \"file:name | reason\"", line)
		}
		out[strings.TrimSpace(id)] = reason
	}
	return out
}

var upidText = regexp.MustCompile(`UPID:([a-z0-9]+):[0-9A-F]{8}:[0-9A-F]{8}:[0-9A-F]{8}:([a-z]+):([^:]*):([^:]+):`)

// replay sends one exchange and lists what differs.
func (l *lab) replay(ex *exchange) []string {
	path, err := url.PathUnescape(ex.Path)
	if err != nil {
		l.t.Fatal(err)
	}
	for recorded, ours := range l.upids {
		path = strings.ReplaceAll(path, recorded, ours)
		path = strings.ReplaceAll(path, strings.TrimSuffix(recorded, ":"), strings.TrimSuffix(ours, ":"))
	}
	req := pvesim.Request{Method: ex.Method, Path: path, Query: ex.Query, Header: http.Header{}}
	for k, v := range ex.Header {
		req.Header.Set(k, l.credentials(v))
	}
	if ex.Body != nil {
		req.Body = []byte(strings.Replace(*ex.Body, "<password>", "secret12", 1))
	}
	if ex.Fill > 0 {
		req.Body = []byte("description=" + strings.Repeat("x", ex.Fill-len("description=")))
	}
	got := l.do(req)
	var out []string
	complain := func(format string, args ...any) { out = append(out, fmt.Sprintf(format, args...)) }
	if got.Status != ex.Status || l.plain(got.Reason) != l.plain(ex.Reason) {
		complain("got %d %s, want %d %s", got.Status, got.Reason, ex.Status, ex.Reason)
	}
	if got.ContentType != ex.CType {
		complain("content type: got %q, want %q", got.ContentType, ex.CType)
	}
	var body any = string(got.Body)
	if ex.CType != "" {
		if err := json.Unmarshal(got.Body, &body); err != nil {
			complain("body: got %q, want JSON", got.Body)
		}
	}
	if ex.Reply == nil {
		ex.Reply = ""
	}
	l.learn(ex.Reply, body)
	l.compare("", body, ex.Reply, complain)
	return out
}

// credentials fills in what the recording left out.
func (l *lab) credentials(v string) string {
	rootTicket, rootCSRF := l.sim.Ticket("root@pam")
	v = strings.ReplaceAll(v, "<root@pam ticket>", url.QueryEscape(rootTicket))
	v = strings.ReplaceAll(v, "<root@pam csrf>", rootCSRF)
	ticket, csrf := l.sim.Ticket("bars@pve")
	v = strings.ReplaceAll(v, "<ticket>", url.QueryEscape(ticket))
	v = strings.ReplaceAll(v, "<csrf>", csrf)
	if strings.Contains(v, "<secret>") {
		secret := "nope"
		if !l.wrongSecret {
			secret = labSecret
		}
		v = strings.ReplaceAll(v, "<secret>", secret)
	}
	return v
}

// learn pairs a recorded UPID with ours.
func (l *lab) learn(want, got any) {
	w, ok1 := want.(map[string]any)
	g, ok2 := got.(map[string]any)
	if !ok1 || !ok2 {
		return
	}
	ws, ok1 := w["data"].(string)
	gs, ok2 := g["data"].(string)
	if ok1 && ok2 && upidText.MatchString(ws) {
		l.upids[ws] = gs
	}
}

// plain removes what no two runs share.
func (l *lab) plain(s string) string {
	s = upidText.ReplaceAllString(s, "UPID:$1:…:$2:$3:$4:")
	s = regexp.MustCompile(`\.tmp\.\d+'`).ReplaceAllString(s, ".tmp.N'")
	for _, r := range unlike {
		s = r.ReplaceAllString(s, "$1…")
	}
	if job, options, ok := strings.Cut(s, "backup job: vzdump "); ok {
		words := strings.Split(options, " --") // their order is random
		slices.Sort(words)
		s = job + strings.Join(words, " --")
	}
	return s
}

// unlike are the rest of it: identities, process ids, times, sizes and speeds.
var unlike = []*regexp.Regexp{
	regexp.MustCompile(`(uuid=|ctime=|creation-qemu=|Filesystem UUID: )[0-9a-f.-]+`),
	regexp.MustCompile(`(vzdumptmp)\d+`),
	regexp.MustCompile(`(vzdump-(?:lxc|qemu)-\d+-)\d{4}_\d\d_\d\d-\d\d_\d\d_\d\d`),
	regexp.MustCompile(`( )\d{4}-\d\d-\d\d \d\d:\d\d:\d\d`),
	regexp.MustCompile(`(bytes (?:read|written): )\d+ \(.*\)`),
	regexp.MustCompile(`(file size: |copied, |again after |Finished Backup of VM \d+ )\S.*`),
}

// volatile values are compared by type only.
var volatile = func() map[string]bool {
	m := map[string]bool{}
	for k := range strings.FieldsSeq(`upid pid pstart starttime endtime snaptime digest vmgenid ctime uptime cpu mem disk maxmem maxdisk ssl_fingerprint
		used avail total used_fraction size content ticket CSRFPreventionToken cap netin ip version nodeid nodes maxcpu cpus saved release`) {
		m[k] = true
	}
	return m
}()

func (l *lab) compare(at string, got, want any, complain func(string, ...any)) {
	switch w := want.(type) {
	case map[string]any:
		g, ok := got.(map[string]any)
		if !ok {
			complain("%s: got %v, want an object", at, got)
			return
		}
		gk, wk := slices.Sorted(maps.Keys(g)), slices.Sorted(maps.Keys(w))
		if at != ".data.cap" && !slices.Equal(gk, wk) {
			complain("%s: got keys %v, want %v", at, gk, wk)
			return
		}
		for _, k := range wk {
			l.compare(at+"."+k, g[k], w[k], complain)
		}
	case []any:
		l.compareList(at, got, w, complain)
	case string:
		g, ok := got.(string)
		key := at[strings.LastIndex(at, ".")+1:]
		if !ok || !volatile[key] && l.plain(g) != l.plain(w) {
			complain("%s: got %v, want %v", at, got, want)
		}
	default:
		key := at[strings.LastIndex(at, ".")+1:]
		if reflect.TypeOf(got) != reflect.TypeOf(want) || !volatile[key] && !reflect.DeepEqual(got, want) {
			complain("%s: got %v (%T), want %v (%T)", at, got, got, want, want)
		}
	}
}

// compareList compares logs line by line, and other lists by whether they have
// rows and by the shapes of these.
func (l *lab) compareList(at string, got any, want []any, complain func(string, ...any)) {
	g, ok := got.([]any)
	if !ok || (len(g) == 0) != (len(want) == 0) {
		complain("%s: got %v, want %v", at, got, want)
		return
	}
	if len(want) > 0 {
		row, isMap := want[0].(map[string]any)
		if isMap && row["t"] != nil && len(g) != len(want) {
			complain("%s: got %v, want %v", at, got, want)
			return
		}
		if isMap && (row["t"] != nil || row["subdir"] != nil) && len(g) == len(want) {
			for i := range want {
				l.compare(fmt.Sprintf("%s[%d]", at, i), g[i], want[i], complain)
			}
			return
		}
	}
	gs, ws := shapes(g), shapes(want)
	for s := range ws {
		if !gs[s] {
			complain("%s: got no row with %s, but %v", at, s, slices.Collect(maps.Keys(gs)))
		}
	}
}

func shapes(rows []any) map[string]bool {
	out := map[string]bool{}
	for _, r := range rows {
		m, ok := r.(map[string]any)
		if !ok {
			out[fmt.Sprintf("%T", r)] = true
			continue
		}
		var parts []string
		for _, k := range slices.Sorted(maps.Keys(m)) {
			parts = append(parts, fmt.Sprintf("%s:%T", k, m[k]))
		}
		out[strings.Join(parts, " ")] = true
	}
	return out
}
