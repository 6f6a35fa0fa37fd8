package pvesim

import (
	"crypto/sha1" //nolint:gosec // the digest that Proxmox VE itself uses
	"encoding/hex"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Kind is qemu or lxc.
type Kind string

// The kinds of guests.
const (
	QEMU Kind = "qemu"
	LXC  Kind = "lxc"
)

// word is how error texts call a guest of this kind.
func (k Kind) word() string {
	if k == LXC {
		return "CT"
	}
	return "VM"
}

// prefix is that of its task types.
func (k Kind) prefix() string {
	if k == LXC {
		return "vz"
	}
	return "qm"
}

// file is the config's path below /etc/pve.
func (k Kind) file(node string, vmid int) string {
	dir := "qemu-server"
	if k == LXC {
		dir = "lxc"
	}
	return "nodes/" + node + "/" + dir + "/" + itoa(vmid) + ".conf"
}

func noConfig(k Kind, node string, vmid int) string {
	return "Configuration file '" + k.file(node, vmid) + "' does not exist"
}

// unwritable is what a process hears that writes a config on a node without
// quorum.
func unwritable(n *node, k Kind, vmid, pid int) string {
	if n.quorate {
		return ""
	}
	return "unable to open file '/etc/pve/" + k.file(n.name, vmid) + ".tmp." + itoa(pid) + "' - Permission denied"
}

// config is a guest's config file. Values are text, as in the file.
type config struct {
	values    map[string]string
	snapshots []snapshot
}

// snapshot is one section of the file.
type snapshot struct {
	name, parent, description string
	time                      int64
	vmstate                   string // volume with the memory, if any
	// state is prepare or delete while a task is at it, and for good if that
	// task died.
	state  string
	values map[string]string
}

// keys is the section as the file has it.
func (sn *snapshot) keys() map[string]string {
	v := maps.Clone(sn.values)
	if v == nil {
		v = map[string]string{}
	}
	v["snaptime"] = strconv.FormatInt(sn.time, 10)
	for key, text := range map[string]string{"parent": sn.parent, "description": sn.description, "vmstate": sn.vmstate, "snapstate": sn.state} {
		if text != "" {
			v[key] = text
		}
	}
	return v
}

// text is the file as Proxmox VE writes it: the description as comments, then
// all keys in order, then one section for each snapshot.
func (c *config) text() string {
	var b strings.Builder
	section(&b, c.values)
	snaps := slices.SortedFunc(slices.Values(c.snapshots), func(x, y snapshot) int { return strings.Compare(x.name, y.name) })
	for i := range snaps {
		b.WriteString("\n[" + snaps[i].name + "]\n")
		section(&b, snaps[i].keys())
	}
	return b.String()
}

func section(b *strings.Builder, values map[string]string) {
	if d := values["description"]; d != "" {
		for line := range strings.SplitSeq(d, "\n") {
			b.WriteString("#" + encodeText(line) + "\n")
		}
	}
	for _, k := range slices.Sorted(maps.Keys(values)) {
		if k != "description" {
			b.WriteString(k + ": " + values[k] + "\n")
		}
	}
}

func encodeText(s string) string {
	var b strings.Builder
	for _, r := range s {
		if r < 0x20 || r >= 0x7f || r == '%' || r == ':' {
			for _, c := range []byte(string(r)) {
				fmt.Fprintf(&b, "%%%02X", c)
			}
			continue
		}
		b.WriteRune(r)
	}
	return b.String()
}

// digest is the SHA-1 of the file.
func (c *config) digest() string {
	sum := sha1.Sum([]byte(c.text())) //nolint:gosec // as above
	return hex.EncodeToString(sum[:])
}

// numbers are the keys that the API returns as JSON numbers.
var numbers = map[Kind]map[string]bool{
	QEMU: setOf("acpi", "autostart", "balloon", "ciupgrade", "cores", "cpuunits", "freeze", "kvm", "localtime", "numa",
		"onboot", "protection", "reboot", "shares", "smp", "sockets", "tablet", "tdf", "template", "vcpus"),
	LXC: setOf("console", "cores", "cpuunits", "debug", "memory", "onboot", "protection", "swap", "template", "tty", "unprivileged"),
}

func setOf(keys ...string) map[string]bool {
	m := map[string]bool{}
	for _, k := range keys {
		m[k] = true
	}
	return m
}

// show is the config as the API returns it.
func (g *guest) show() map[string]any {
	out := typed(g.kind, g.conf.values)
	out["digest"] = g.conf.digest()
	return out
}

// typed gives values the JSON types that the API gives them.
func typed(kind Kind, values map[string]string) map[string]any {
	out := map[string]any{}
	for k, v := range values {
		if n, err := strconv.Atoi(v); err == nil && (numbers[kind][k] || k == "snaptime") {
			out[k] = n
			continue
		}
		out[k] = v
	}
	if d := values["description"]; d != "" {
		out["description"] = described(kind, d)
	}
	return out
}

// described is a description as it is read back: that of a container, or of its
// snapshots, comes with a line end.
func described(kind Kind, text string) string {
	if kind == LXC && text != "" {
		return strings.TrimRight(text, "\n") + "\n"
	}
	return text
}

// Config keys by the privilege that changing them takes.
var (
	numbered  = regexp.MustCompile(`^(ide|sata|scsi|virtio|net|unused|usb|hostpci|serial|parallel|ipconfig|numa|virtiofs|mp|dev)(\d{1,3})$`)
	driveKey  = regexp.MustCompile(`^(?:ide|sata|scsi|virtio|mp)\d+$|^(?:efidisk0|tpmstate0|rootfs)$`)
	unusedKey = regexp.MustCompile(`^unused\d+$`)
)

// configSchema gives the schema of one config key; it serves create and PUT.
func configSchema(kind Kind) func(name string) (param, bool) {
	known := qemuKeys
	if kind == LXC {
		known = lxcKeys
	}
	return func(name string) (param, bool) {
		if p, ok := known[name]; ok {
			return p, true
		}
		m := numbered.FindStringSubmatch(name)
		if m == nil {
			return param{}, false
		}
		container := m[1] == "mp" || m[1] == "dev"
		common := m[1] == "net" || m[1] == "unused"
		return str, common || container == (kind == LXC)
	}
}

var one = new(1)

var qemuKeys = map[string]param{
	"acpi": boolean, "agent": str, "args": str, "autostart": boolean, "balloon": natural, "bios": str, "boot": str,
	"bootdisk": str, "cores": {kind: "integer", min: one}, "cpu": str, "cpulimit": str, "cpuunits": integer,
	"description": {kind: "string", maxLen: 8192}, "efidisk0": str, "freeze": boolean, "hookscript": str, "hotplug": str, "keyboard": str, "kvm": boolean,
	"localtime": boolean, "lock": enum("backup", "clone", "create", "migrate", "rollback", "snapshot", "snapshot-delete", "suspending", "suspended"),
	"machine": str, "memory": {kind: "string", check: checkMemory}, "name": str, "nameserver": str, "numa": boolean, "onboot": boolean,
	"ostype": str, "protection": boolean, "reboot": boolean, "scsihw": str, "searchdomain": str, "shares": natural, "smbios1": str,
	"sockets": {kind: "integer", min: one}, "startdate": str, "startup": str, "tablet": boolean, "tags": strList, "template": boolean,
	"tpmstate0": str, "vcpus": {kind: "integer", min: one}, "vga": str, "vmgenid": str, "watchdog": str, "rng0": str, "audio0": str,
	"ciuser": str, "cipassword": str, "cicustom": str, "citype": str, "sshkeys": str,
}

var lxcKeys = map[string]param{
	"arch": str, "cmode": str, "console": boolean, "cores": {kind: "integer", min: one}, "cpulimit": str, "cpuunits": natural,
	"debug": boolean, "description": {kind: "string", maxLen: 8192}, "features": str, "hookscript": str, "hostname": str,
	"lock":   enum("backup", "create", "destroyed", "disk", "fstrim", "migrate", "mounted", "rollback", "snapshot", "snapshot-delete"),
	"memory": {kind: "integer", min: new(16)}, "nameserver": str, "onboot": boolean, "ostype": str, "protection": boolean,
	"rootfs": str, "searchdomain": str, "startup": str, "swap": natural, "tags": strList, "template": boolean, "timezone": str,
	"tty": natural, "unprivileged": boolean,
}

func checkMemory(s string) string {
	first, _, _ := strings.Cut(s, ",")
	first = strings.TrimPrefix(first, "current=")
	if !isDigits(first) {
		return "invalid format - format error\nmemory.current: type check ('integer') failed - got '" + first + "'\n"
	}
	return ""
}

// privFor is the privilege that changing a key takes.
func privFor(key string) string {
	switch {
	case driveKey.MatchString(key) || unusedKey.MatchString(key):
		return "VM.Config.Disk"
	case strings.HasPrefix(key, "net") || key == "nameserver" || key == "searchdomain" || key == "hostname":
		return "VM.Config.Network"
	}
	switch key {
	case "memory", "balloon", "shares", "swap":
		return "VM.Config.Memory"
	case "cores", "sockets", "cpu", "cpulimit", "cpuunits", "vcpus", "numa":
		return "VM.Config.CPU"
	case "acpi", "args", "bios", "machine", "scsihw", "smbios1", "tablet", "vga", "vmgenid", "watchdog", "rng0", "audio0":
		return "VM.Config.HWType"
	case "ciuser", "cipassword", "cicustom", "citype", "sshkeys":
		return "VM.Config.Cloudinit"
	default:
		return "VM.Config.Options"
	}
}
