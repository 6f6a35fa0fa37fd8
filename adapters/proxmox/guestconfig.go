package proxmox

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json/jsontext"

	"writ/domain/op"
)

// A guestConfig is one read of a guest's configuration.
type guestConfig struct {
	seen     op.Observed // all that the configuration says
	tags     []string
	storages []string          // those of seen.Volumes
	drives   map[string]string // key -> volume on a storage, or device of the node, of everything that it refers to
}

var (
	netKey    = regexp.MustCompile(`^net(\d{1,3})$`)
	volumeKey = map[op.GuestType]*regexp.Regexp{
		op.QEMU: regexp.MustCompile(`^(?:(?:scsi|virtio|ide|sata|efidisk|tpmstate|unused)\d{1,3}|vmstate)$`),
		op.LXC:  regexp.MustCompile(`^(?:rootfs|(?:mp|unused)\d{1,3})$`),
	}
	macForm    = regexp.MustCompile(`^[0-9A-Fa-f]{2}(?::[0-9A-Fa-f]{2}){5}$`)
	uuidForm   = regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$`)
	digestForm = regexp.MustCompile(`^[0-9a-f]{40,64}$`)
	writIDForm = regexp.MustCompile(`(?:^|\s)writ-id:([0-9a-f]{32})(?:\s|$)`)
	// storageForm is what a storage may be called (pve-common JSONSchema.pm).
	storageForm = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9\-_.]*[A-Za-z0-9]$`)
	// ownerForm finds the VMID in the last part of a volume's name, ownerDir in
	// the directory that some storages keep it in.
	ownerForm = regexp.MustCompile(`^(?:vm|base|subvol|basevol)-([1-9]\d{2,8})-`)
	ownerDir  = regexp.MustCompile(`(?:^|/)([1-9]\d{2,8})/[^/]+$`)
)

// parseConfig reads a guest's configuration as the API gives it. What the
// configuration does not show is not in it: the volumes that hold the memory
// of snapshots, and values that snapshots alone refer to.
func parseConfig(node string, g op.Guest, r reply) (guestConfig, error) {
	var raw map[string]jsontext.Value
	if err := r.decode(&raw); err != nil {
		return guestConfig{}, err
	}
	text := make(map[string]string, len(raw))
	for key, value := range raw {
		// Lists and objects (of the guest agent's, of LXC's own options) hold
		// nothing that is looked at here; a known key is never one.
		if s, err := scalar(value); err == nil {
			text[key] = strings.ToValidUTF8(s, "\uFFFD")
		}
	}
	c := guestConfig{drives: make(map[string]string), seen: op.Observed{
		Found: true, Node: node, Type: g.Type, VMID: g.VMID,
		Name: text["name"], Digest: text["digest"], Lock: text["lock"],
		WritID: writID(text["description"]),
	}}
	if g.Type == op.LXC {
		c.seen.Name = text["hostname"]
	}
	// Every read of a configuration gives its digest. An answer without one is
	// not such a read, and identity must not be taken from it.
	if !digestForm.MatchString(c.seen.Digest) {
		return guestConfig{}, fmt.Errorf("the configuration's digest is %q, not that of a file", clip(c.seen.Digest))
	}
	for key, into := range map[string]*bool{"protection": &c.seen.Protection, "template": &c.seen.Template} {
		switch text[key] {
		case "", "0":
		case "1":
			*into = true
		default:
			return guestConfig{}, fmt.Errorf("the configuration's %s is %q, neither 1 nor 0", key, clip(text[key]))
		}
	}
	if g.Type == op.QEMU {
		if err := c.readMachine(text); err != nil {
			return guestConfig{}, err
		}
	}
	c.readNetworks(g.Type, text)
	c.readVolumes(g, text)
	c.tags = strings.FieldsFunc(text["tags"], func(r rune) bool { return strings.ContainsRune(";, \t\n\x00", r) })
	return c, nil
}

// readMachine reads what only virtual machines have.
func (c *guestConfig) readMachine(text map[string]string) error {
	if s := text["smbios1"]; s != "" {
		// The flag base64 is about the other parts: a uuid is always plain.
		if uuid, ok := property(s, "uuid"); ok {
			if c.seen.SMBIOSUUID = strings.ToLower(uuid); !uuidForm.MatchString(c.seen.SMBIOSUUID) {
				return fmt.Errorf("the configuration's smbios1 uuid is %q, not a UUID", clip(uuid))
			}
		}
	}
	switch id := strings.ToLower(text["vmgenid"]); {
	case id == "" || id == "0": // 0 is how one is switched off
	case uuidForm.MatchString(id):
		c.seen.VMGenID = id
	default:
		return fmt.Errorf("the configuration's vmgenid is %q, not a UUID", clip(id))
	}
	if s, ok := property(text["meta"], "ctime"); ok {
		n, err := strconv.ParseInt(s, 10, 64)
		if err != nil {
			return fmt.Errorf("the configuration's meta ctime is %q, not a number of seconds", clip(s))
		}
		c.seen.CTime = n
	}
	return nil
}

// readNetworks collects the MACs in the order of the interfaces.
func (c *guestConfig) readNetworks(typ op.GuestType, text map[string]string) {
	macs := make(map[int]string)
	for key, value := range text {
		m := netKey.FindStringSubmatch(key)
		if m == nil {
			continue
		}
		n, err := strconv.Atoi(m[1])
		if err != nil {
			continue
		}
		for part := range strings.SplitSeq(value, ",") {
			// A machine's interface is MODEL=MAC, or has macaddr=MAC beside its
			// model; a container's has hwaddr=MAC.
			name, mac, ok := strings.Cut(part, "=")
			if ok && macForm.MatchString(mac) && (typ == op.QEMU || name == "hwaddr") {
				macs[n] = strings.ToUpper(mac)
			}
		}
	}
	order := make([]int, 0, len(macs))
	for n := range macs {
		order = append(order, n)
	}
	slices.Sort(order)
	for _, n := range order {
		c.seen.MACs = append(c.seen.MACs, macs[n])
	}
}

// readVolumes collects the volumes that a destroy of the guest removes: those
// on a storage whose name carries the guest's VMID as owner. What else the
// configuration refers to, ISO images, bind mounts, disks of other guests, is
// left alone by the host, and so is not the guest's.
func (c *guestConfig) readVolumes(g op.Guest, text map[string]string) {
	for key, value := range text {
		if !volumeKey[g.Type].MatchString(key) {
			continue
		}
		volid := driveVolume(value)
		if strings.HasPrefix(volid, "/dev/") {
			c.drives[key] = volid
			continue
		}
		storage, name, ok := strings.Cut(volid, ":")
		if !ok || !storageForm.MatchString(storage) {
			continue
		}
		c.drives[key] = volid
		if volumeOwner(name) != g.VMID {
			continue
		}
		// A CD drive may hold the disk with the settings for cloud-init, which
		// is the guest's own and is removed with it. Anything else in one is
		// somebody's image.
		if media, _ := property(value, "media"); media == "cdrom" && !strings.Contains(name, "-cloudinit") {
			continue
		}
		c.seen.Volumes = append(c.seen.Volumes, volid)
		c.storages = append(c.storages, storage)
	}
	slices.Sort(c.seen.Volumes)
	c.seen.Volumes = slices.Compact(c.seen.Volumes)
	slices.Sort(c.storages)
	c.storages = slices.Compact(c.storages)
}

// driveVolume gives what a drive or mount point stands on: the first part
// without a name, or the one whose name says so.
func driveVolume(value string) string {
	for part := range strings.SplitSeq(value, ",") {
		name, v, named := strings.Cut(part, "=")
		if !named {
			return part
		}
		if name == "file" || name == "volume" {
			return v
		}
	}
	return ""
}

// volumeOwner gives the VMID in a volume's name, 0 if there is none: of
// 105/vm-105-disk-0.raw, vm-105-disk-0, or base-100-disk-0/vm-105-disk-0. All
// storages that Proxmox VE ships name their volumes so; a plugin from elsewhere
// may not, and its volumes are then not known as the guest's.
func volumeOwner(name string) int {
	m := ownerDir.FindStringSubmatch(name)
	if m == nil {
		last := name[strings.LastIndexByte(name, '/')+1:]
		m = ownerForm.FindStringSubmatch(last)
	}
	if m == nil {
		return 0
	}
	n, err := strconv.Atoi(m[1])
	if err != nil {
		return 0
	}
	return n
}

// property gives one named part of a value such as uuid=…,base64=1.
func property(value, name string) (string, bool) {
	for part := range strings.SplitSeq(value, ",") {
		if k, v, ok := strings.Cut(part, "="); ok && k == name {
			return v, true
		}
	}
	return "", false
}

// writID gives the marker in a description. Two different ones identify
// nothing.
func writID(description string) string {
	var id string
	for line := range strings.FieldsSeq(description) {
		m := writIDForm.FindStringSubmatch(line)
		if m == nil || m[1] == id {
			continue
		}
		if id != "" {
			return ""
		}
		id = m[1]
	}
	return id
}
