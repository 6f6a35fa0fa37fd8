package op

import (
	"encoding/base64"
	"encoding/hex"
	"strconv"
	"time"

	"github.com/go-json-experiment/json/jsontext"
)

// Encode gives an event's data as stored: the bytes of Marshal. Those that
// every op has come about without reflection, which would take as long as all
// hashes over them. A member that is missing here would be missing on record;
// the tests compare with Marshal, with every field of every type filled.
func Encode(e Event) ([]byte, error) {
	w := encoding{b: make([]byte, 0, encodedSize(e))}
	switch e := e.(type) {
	case *Started:
		w.started(e)
	case *Launching:
		w.launching(e)
	case *TaskRunning:
		w.taskRunning(e)
	case *Succeeded:
		w.succeeded(e)
	default:
		return Marshal(e)
	}
	if w.err != nil {
		return nil, w.err
	}
	return append(w.b, '}'), nil
}

// encodedSize is room enough for most events of a type.
func encodedSize(e Event) int {
	switch e := e.(type) {
	case *Started:
		return 832 + base64.StdEncoding.EncodedLen(len(e.Envelope))
	case *Launching:
		return 1024
	}
	return 512
}

// An encoding is an object under way. Each method adds one member, with its
// name as given: a quoted name, with what comes before it and the colon.
type encoding struct {
	b   []byte
	err error // the first; what is added later does not matter
}

func (w *encoding) started(e *Started) {
	w.header(&e.Header)
	w.hex(`,"claim":`, e.Claim[:])
	w.str(`,"intent":{"class":`, string(e.Intent.Class))
	w.target(`,"target":`, e.Intent.Target)
	w.params(`,"params":`, &e.Intent.Params)
	w.add(`}`)
	if len(e.Envelope) > 0 {
		w.b = base64.StdEncoding.AppendEncode(append(w.b, `,"envelope":"`...), e.Envelope)
		w.add(`"`)
	}
	w.hex(`,"payload_sha256":`, e.PayloadSHA256[:])
	w.add(`,"signers":[`)
	for i, s := range e.Signers {
		if i > 0 {
			w.add(`,`)
		}
		w.str(`{"person":`, s.Person)
		w.str(`,"key":`, s.Key)
		w.add(`}`)
	}
	w.add(`]`)
	w.optional(`,"role":`, e.Role)
	w.uint(`,"policy_serial":`, e.PolicySerial)
	w.facts(`,"facts":`, &e.Facts)
	w.optional(`,"submitted_by":`, e.SubmittedBy)
	w.flag(`,"keyless":`, e.Keyless)
}

func (w *encoding) launching(e *Launching) {
	w.header(&e.Header)
	w.str(`,"node":`, e.Node)
	w.str(`,"credential":`, e.Credential)
	w.str(`,"request":{"method":`, e.Request.Method)
	w.str(`,"path":`, e.Request.Path)
	w.optional(`,"query":`, e.Request.Query)
	w.add(`}`)
	w.observed(`,"observed":`, &e.Observed)
	w.uint(`,"policy_serial":`, e.PolicySerial)
	w.facts(`,"facts":`, &e.Facts)
}

func (w *encoding) taskRunning(e *TaskRunning) {
	w.header(&e.Header)
	w.str(`,"upid":`, e.UPID)
	w.bool(`,"adopted":`, e.Adopted)
}

func (w *encoding) succeeded(e *Succeeded) {
	w.header(&e.Header)
	w.str(`,"exit_status":`, e.ExitStatus)
	w.str(`,"evidence":{"effect":`, string(e.Evidence.Effect))
	w.list(`,"reasons":`, e.Evidence.Reasons)
	w.add(`}`)
	w.optionalList(`,"residue":`, e.Residue)
	other(w, `,"resolution":`, e.Resolution)
}

// header begins the object.
func (w *encoding) header(h *Header) {
	w.str(`{"op_id":`, h.OpID)
	w.str(`,"nonce":`, string(h.Nonce))
	w.int(`,"attempt":`, int64(h.Attempt))
	w.str(`,"class":`, string(h.Class))
	w.target(`,"target":`, h.Target)
	w.str(`,"agent":`, h.Agent)
	w.str(`,"instance":`, h.Instance)
	w.uint(`,"epoch":`, h.Epoch)
	w.time(`,"at":`, h.At)
}

func (w *encoding) target(name string, t Target) {
	w.add(name)
	w.str(`{"node":`, t.Node)
	if t.Guest != nil {
		w.str(`,"guest":{"type":`, string(t.Guest.Type))
		w.int(`,"vmid":`, int64(t.Guest.VMID))
		w.add(`}`)
	}
	w.optional(`,"volume":`, t.Volume)
	other(w, `,"pool":`, t.Pool)
	w.optional(`,"disk":`, t.Disk)
	w.add(`}`)
}

// params adds those that are given, of which the class has one or two at most:
// too few to be worth the care.
func (w *encoding) params(name string, p *Params) {
	if *p == (Params{}) {
		w.add(name)
		w.add(`{}`)
		return
	}
	other(w, name, p)
}

func (w *encoding) facts(name string, f *Facts) {
	w.add(name)
	w.bool(`{"found":`, f.Found)
	w.optional(`,"node":`, f.Node)
	w.optional(`,"name":`, f.Name)
	w.optional(`,"pool":`, f.Pool)
	w.optionalList(`,"tags":`, f.Tags)
	w.optionalList(`,"storages":`, f.Storages)
	w.add(`}`)
}

func (w *encoding) observed(name string, o *Observed) {
	w.add(name)
	w.bool(`{"found":`, o.Found)
	w.optional(`,"node":`, o.Node)
	w.optional(`,"type":`, string(o.Type))
	w.optionalInt(`,"vmid":`, int64(o.VMID))
	w.optional(`,"name":`, o.Name)
	w.optional(`,"smbios_uuid":`, o.SMBIOSUUID)
	w.optional(`,"vmgenid":`, o.VMGenID)
	w.optionalInt(`,"ctime":`, o.CTime)
	w.optionalList(`,"macs":`, o.MACs)
	w.optionalList(`,"volumes":`, o.Volumes)
	w.optional(`,"digest":`, o.Digest)
	w.optional(`,"writ_id":`, o.WritID)
	w.optional(`,"lock":`, o.Lock)
	w.optional(`,"status":`, o.Status)
	w.flag(`,"protection":`, o.Protection)
	w.flag(`,"template":`, o.Template)
	w.flag(`,"ha_managed":`, o.HAManaged)
	w.optionalInt(`,"uptime":`, o.Uptime)
	w.optionalList(`,"clones":`, o.Clones)
	w.optionalList(`,"replication":`, o.Replication)
	other(w, `,"snapshot":`, o.Snapshot)
	other(w, `,"archive":`, o.Archive)
	other(w, `,"volume":`, o.Volume)
	other(w, `,"pool":`, o.Pool)
	other(w, `,"disk":`, o.Disk)
	w.optional(`,"plan":`, o.Plan)
	w.bool(`,"node_online":`, o.NodeOnline)
	w.bool(`,"quorate":`, o.Quorate)
	w.add(`}`)
}

func (w *encoding) add(s string) { w.b = append(w.b, s...) }

func (w *encoding) str(name, s string) {
	b, err := jsontext.AppendQuote(append(w.b, name...), s)
	if err != nil && w.err == nil {
		w.err = err
	}
	w.b = b
}

func (w *encoding) optional(name, s string) {
	if s != "" {
		w.str(name, s)
	}
}

func (w *encoding) list(name string, items []string) {
	w.add(name)
	w.add(`[`)
	for i, s := range items {
		if i > 0 {
			w.add(`,`)
		}
		w.str("", s)
	}
	w.add(`]`)
}

func (w *encoding) optionalList(name string, items []string) {
	if len(items) > 0 {
		w.list(name, items)
	}
}

func (w *encoding) int(name string, n int64) {
	w.b = strconv.AppendInt(append(w.b, name...), n, 10)
}

func (w *encoding) uint(name string, n uint64) {
	w.b = strconv.AppendUint(append(w.b, name...), n, 10)
}

func (w *encoding) optionalInt(name string, n int64) {
	if n != 0 {
		w.int(name, n)
	}
}

func (w *encoding) bool(name string, v bool) {
	w.b = strconv.AppendBool(append(w.b, name...), v)
}

func (w *encoding) flag(name string, v bool) {
	if v {
		w.bool(name, v)
	}
}

func (w *encoding) hex(name string, v []byte) {
	w.b = hex.AppendEncode(append(append(w.b, name...), '"'), v)
	w.add(`"`)
}

func (w *encoding) time(name string, t time.Time) {
	// What a nanosecond more or a foreign offset would look like nobody has to
	// guess: the text is RFC 3339, or there is none.
	b, err := t.AppendText(append(append(w.b, name...), '"'))
	if err != nil && w.err == nil {
		w.err = err
	}
	w.b = append(b, '"')
}

// other adds what few ops have, if it is there.
func other[T any](w *encoding, name string, v *T) {
	if v == nil {
		return
	}
	data, err := Marshal(v)
	if err != nil && w.err == nil {
		w.err = err
	}
	w.add(name)
	w.b = append(w.b, data...)
}
