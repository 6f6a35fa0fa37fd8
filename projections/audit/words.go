package audit

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"writ/domain/op"
	"writ/domain/signedop"
)

// inWords joins what is known of something.
type inWords []string

func (w *inWords) add(name, value string) {
	if value != "" {
		*w = append(*w, name+" "+value)
	}
}

// when adds words that are true or false.
func (w *inWords) when(holds bool, words string) {
	if holds {
		*w = append(*w, words)
	}
}

func (w *inWords) seconds(name string, t int64) {
	if t != 0 {
		w.add(name, time.Unix(t, 0).UTC().Format(time.RFC3339))
	}
}

func (w *inWords) bytes(name string, n int64) { w.add(name, strconv.FormatInt(n, 10)+" bytes") }

func (w inWords) String() string {
	if len(w) == 0 {
		return "nothing"
	}
	return strings.Join(w, ", ")
}

// aimWords are class, target and parameters: all that was ordered.
func aimWords(in op.Intent) string {
	var w inWords
	p := in.Params
	w.add("snapshot", p.Snapshot)
	w.add("archive", p.Archive)
	w.add("storage", p.Storage)
	for _, x := range []struct {
		name  string
		value *bool
	}{
		{"purge", p.Purge}, {"force", p.Force}, {"unique", p.Unique}, {"cleanup_disks", p.CleanupDisks}, {"cleanup_config", p.CleanupConfig},
	} {
		if x.value != nil {
			w.add(x.name, map[bool]string{false: "no", true: "yes"}[*x.value])
		}
	}
	if p.Timeout != nil {
		w.add("timeout", plural(uint64(max(0, *p.Timeout)), "second", "seconds"))
	}
	aim := fmt.Sprintf("%s on %s", in.Class, in.Target)
	if len(w) > 0 {
		aim += " with " + w.String()
	}
	return aim
}

func factsWords(t op.Target, f op.Facts) string {
	if !f.Found {
		return "no such target on the host"
	}
	var w inWords
	w.add("name", f.Name)
	w.add("on node", f.Node)
	w.add("in pool", f.Pool)
	w.add("tagged", strings.Join(f.Tags, " "))
	if t.Guest != nil {
		w.add("with volumes on", strings.Join(f.Storages, " "))
	} else {
		w.add("known to rules as", strings.Join(f.Storages, " "))
	}
	return w.String()
}

func observedWords(s op.Observed) string {
	if !s.Found {
		return "no such target"
	}
	var w inWords
	if s.VMID != 0 {
		w.add(string(s.Type), strconv.Itoa(s.VMID))
	}
	w.add("name", s.Name)
	w.add("on node", s.Node)
	w.add("SMBIOS UUID", s.SMBIOSUUID)
	w.add("generation id", s.VMGenID)
	w.add("writ id", s.WritID)
	w.add("config digest", s.Digest)
	w.add("MAC addresses", strings.Join(s.MACs, " "))
	w.add("status", s.Status)
	w.add("volumes", strings.Join(s.Volumes, " "))
	w.add("lock", s.Lock)
	w.when(s.Protection, "protected")
	w.when(s.Template, "a template")
	w.when(s.HAManaged, "managed by HA")
	w.add("clones", strings.Join(s.Clones, " "))
	w.add("replication", strings.Join(s.Replication, " "))
	return w.String()
}

// subjectWords are of what an op is about beside a guest, or instead of one;
// empty if it is about nothing else.
func subjectWords(s op.Observed) string {
	var w inWords
	if x := s.Snapshot; x != nil {
		w.add("snapshot", x.Name)
		w.seconds("made", x.Time)
		w.add("in state", x.State)
	}
	w.volume("archive", s.Archive)
	w.volume("volume", s.Volume)
	if p := s.Pool; p != nil {
		w.when(true, p.Pool.String())
		w.bytes("of", p.Size)
		w.add("on", strings.Join(p.Members, " "))
		w.add("with the storages", strings.Join(p.Storages, " "))
		w.add("used by", strings.Join(p.Users, " "))
	}
	if d := s.Disk; d != nil {
		w.add("disk", d.Path)
		w.add("serial", d.Serial)
		w.add("WWN", d.WWN)
		w.add("model", d.Model)
		w.bytes("of", d.Size)
		w.add("used for", d.Used)
		w.add("holding", strings.Join(d.Holds, " and "))
	}
	w.add("plan", s.Plan)
	return strings.Join(w, ", ")
}

func (w *inWords) volume(name string, v *op.VolumeSeen) {
	if v == nil {
		return
	}
	w.add(name, v.ID)
	w.bytes("of", v.Size)
	w.seconds("made", v.CTime)
	w.add("holding", v.Content)
	w.when(v.Protected, "protected")
	w.add("used by", strings.Join(v.Users, " "))
}

func expectWords(x signedop.Expect) string {
	var w inWords
	w.add("name", x.Name)
	w.add("SMBIOS UUID", x.SMBIOSUUID)
	w.add("generation id", x.VMGenID)
	w.add("writ id", x.WritID)
	w.add("config digest", x.Digest)
	w.add("status", x.Status)
	if x.CTime != nil {
		w.seconds("created", *x.CTime)
	}
	w.list("MAC addresses", "no network", x.MACs)
	w.list("volumes", "no volume", x.Volumes)
	if x.Snapshot != nil {
		w.seconds("the snapshot made", x.Snapshot.Time)
	}
	w.expectedVolume("the archive", x.Archive)
	w.expectedVolume("the volume", x.Volume)
	if p := x.Pool; p != nil {
		w.bytes("the pool of", p.Size)
		w.add("on", strings.Join(p.Members, " "))
	}
	if d := x.Disk; d != nil {
		w.bytes("the disk of", d.Size)
		w.add("serial", d.Serial)
		w.add("WWN", d.WWN)
		w.add("model", d.Model)
	}
	w.add("plan", x.Plan)
	return w.String()
}

// list tells an empty list, which expects that there is none, from one that is
// not given.
func (w *inWords) list(name, none string, items []string) {
	w.when(items != nil && len(items) == 0, none)
	w.add(name, strings.Join(items, " "))
}

func (w *inWords) expectedVolume(name string, v *signedop.VolumeExpect) {
	if v == nil {
		return
	}
	w.bytes(name+" of", v.Size)
	if v.CTime != nil {
		w.seconds("made", *v.CTime)
	}
}
