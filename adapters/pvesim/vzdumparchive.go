package pvesim

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Archive is the guest in a backup. Nobody changes one once a volume has it.
type Archive struct {
	Kind Kind `json:"kind"`
	// Config is the guest's config as it was: drives with their sizes.
	Config map[string]string `json:"config"`
}

// AddBackup makes a backup of a guest at once, without a task and without an
// effect on record, and returns its volume.
func (s *Sim) AddBackup(vmid int, store string) (Volume, error) {
	var out Volume
	var err error
	s.do(func() {
		g, st := s.guests[vmid], s.stores[store]
		if g == nil || st == nil || !slices.Contains(st.Content, "backup") {
			err = fmt.Errorf("add backup of guest %d on %s: no such guest, or no storage for backups", vmid, store)
			return
		}
		d := &dump{b: &backup{s: s, store: store, params: map[string]string{"compress": "zstd"}}, vmid: vmid, begun: g.node.now()}
		d.archive = Archive{Kind: g.kind, Config: maps.Clone(g.conf.values)}
		delete(d.archive.Config, "lock")
		for _, volid := range g.disks() {
			if _, v := s.volume(g.node, volid); v != nil {
				d.size += v.Size
			}
		}
		out = Volume{
			VolID: d.volid(st), Node: g.node.name, VMID: vmid, Size: max(d.size, 1), Content: "backup", Format: d.format(st),
			CTime: d.begun.Unix(), Archive: &d.archive,
		}
		if _, taken := s.volume(g.node, out.VolID); taken != nil {
			err = fmt.Errorf("add backup of guest %d: there is %s already: names carry seconds only", vmid, out.VolID)
			return
		}
		s.putVolume(st, g.node, out)
	})
	return out, err
}

// extractConfig is GET vzdump/extractconfig: the config in an archive as text.
func extractConfig(c *call) {
	volid := c.params["volume"]
	_, name, failure := c.s.named(volid)
	switch {
	case failure != "":
		c.fail(failure)
		return
	case name.content != "backup":
		c.fail("unable to use volume " + volid + " - content type needs to be 'backup'")
		return
	}
	if text := c.refuseVolume(volid, name, 0); text != "" {
		c.failTyped(text)
		return
	}
	_, v := c.s.volume(c.node, volid)
	switch {
	case v == nil:
		c.fail("volume '" + volid + "' does not exist")
	case v.Archive == nil:
		c.fail("ERROR: archive contains no configuration file")
	default:
		var b strings.Builder
		section(&b, v.Archive.Config)
		c.ok(b.String())
	}
}
