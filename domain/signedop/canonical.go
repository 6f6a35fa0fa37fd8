package signedop

import (
	"strconv"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"writ/domain/op"
)

// again gives what Encode does, at a third of the cost: without reflection, and
// without sorting what was not written in order. It is only ever compared with
// bytes that were received. A member that is missing here makes them differ,
// and then they are read closely: slower, but never otherwise. What is signed
// comes from Encode.
func (d Document) again() ([]byte, error) {
	if err := d.Check(); err != nil {
		return nil, err
	}
	return d.canonical()
}

// canonical gives the canonical form of a document that was checked.
func (d *Document) canonical() ([]byte, error) {
	c := canonical{b: make([]byte, 0, 1024)}
	c.str(`{"audience":`, d.Audience)
	c.str(`,"class":`, string(d.Class))
	c.expect(`,"expect":`, &d.Expect)
	c.time(`,"expires_at":`, d.ExpiresAt)
	c.str(`,"nonce":`, string(d.Nonce))
	c.time(`,"not_before":`, d.NotBefore)
	c.params(`,"params":`, &d.Params)
	c.str(`,"reason":`, d.Reason)
	c.str(`,"requested_by":`, d.RequestedBy)
	c.str(`,"role":`, d.Role)
	c.target(`,"target":`, &d.Target)
	c.int(`,"version":`, int64(d.Version))
	c.add(`}`)
	return c.b, c.err
}

// A canonical is an object under way in the form of RFC 8785: sorted members,
// no white space. Each method adds one member, with its name as given: a quoted
// name, with what comes before it and the colon.
type canonical struct {
	b   []byte
	err error // the first; what is added later does not matter
}

func (c *canonical) expect(name string, e *Expect) {
	c.add(name)
	begin := len(c.b)
	other(c, `,"archive":`, e.Archive)
	if e.CTime != nil {
		c.int(`,"ctime":`, *e.CTime)
	}
	c.optional(`,"digest":`, e.Digest)
	other(c, `,"disk":`, e.Disk)
	c.list(`,"macs":`, e.MACs)
	c.optional(`,"name":`, e.Name)
	c.optional(`,"plan":`, e.Plan)
	other(c, `,"pool":`, e.Pool)
	c.optional(`,"smbios_uuid":`, e.SMBIOSUUID)
	other(c, `,"snapshot":`, e.Snapshot)
	c.optional(`,"status":`, e.Status)
	c.optional(`,"vmgenid":`, e.VMGenID)
	other(c, `,"volume":`, e.Volume)
	c.list(`,"volumes":`, e.Volumes)
	c.optional(`,"writ_id":`, e.WritID)
	c.end(begin)
}

func (c *canonical) params(name string, p *op.Params) {
	c.add(name)
	begin := len(c.b)
	c.optional(`,"archive":`, p.Archive)
	c.flag(`,"cleanup_config":`, p.CleanupConfig)
	c.flag(`,"cleanup_disks":`, p.CleanupDisks)
	c.flag(`,"force":`, p.Force)
	c.flag(`,"purge":`, p.Purge)
	c.optional(`,"snapshot":`, p.Snapshot)
	c.optional(`,"storage":`, p.Storage)
	if p.Timeout != nil {
		c.int(`,"timeout":`, int64(*p.Timeout))
	}
	c.flag(`,"unique":`, p.Unique)
	c.end(begin)
}

func (c *canonical) target(name string, t *op.Target) {
	c.add(name)
	begin := len(c.b)
	c.optional(`,"disk":`, t.Disk)
	if t.Guest != nil {
		c.str(`,"guest":{"type":`, string(t.Guest.Type))
		c.int(`,"vmid":`, int64(t.Guest.VMID))
		c.add(`}`)
	}
	c.str(`,"node":`, t.Node)
	other(c, `,"pool":`, t.Pool)
	c.optional(`,"volume":`, t.Volume)
	c.end(begin)
}

// end makes an object of the members that were added since begin, each behind a
// comma: the first of those is the brace.
func (c *canonical) end(begin int) {
	if len(c.b) == begin {
		c.add(`{`)
	}
	c.b[begin] = '{'
	c.add(`}`)
}

func (c *canonical) add(s string) { c.b = append(c.b, s...) }

func (c *canonical) str(name, s string) {
	b, err := jsontext.AppendQuote(append(c.b, name...), s)
	if err != nil && c.err == nil {
		c.err = err
	}
	c.b = b
}

func (c *canonical) optional(name, s string) {
	if s != "" {
		c.str(name, s)
	}
}

// list adds one that is empty, too: that none is expected is an expectation.
func (c *canonical) list(name string, items []string) {
	if items == nil {
		return
	}
	c.add(name)
	c.add(`[`)
	for i, s := range items {
		if i > 0 {
			c.add(`,`)
		}
		c.str("", s)
	}
	c.add(`]`)
}

func (c *canonical) int(name string, n int64) { c.b = strconv.AppendInt(append(c.b, name...), n, 10) }

func (c *canonical) flag(name string, v *bool) {
	if v != nil {
		c.b = strconv.AppendBool(append(c.b, name...), *v)
	}
}

// time adds one that was checked: UTC, whole seconds, a year of four digits.
func (c *canonical) time(name string, t time.Time) {
	c.b = t.UTC().AppendFormat(append(append(c.b, name...), '"'), timeLayout)
	c.add(`"`)
}

// other adds what few documents have, if it is there.
func other[T any](c *canonical, name string, v *T) {
	if v == nil {
		return
	}
	data, err := json.Marshal(v)
	if err == nil {
		data, err = canonicalize(data)
	}
	if err != nil && c.err == nil {
		c.err = err
	}
	c.add(name)
	c.b = append(c.b, data...)
}
