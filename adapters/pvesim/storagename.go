package pvesim

import (
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// volName is what a storage reads from the name of a volume, which need not
// exist.
type volName struct {
	content string // images, backup, iso, vztmpl, snippets
	owner   int    // 0: none
	base    bool   // of a template
	format  string
	file    string // below the storage's directory, for file-based ones
}

var (
	volumeID    = regexp.MustCompile(`^([a-zA-Z][a-zA-Z0-9\-_.]*[a-zA-Z0-9]):(.+)$`)
	imageName   = regexp.MustCompile(`^(?:\d+/\S+/)?(\d+)/([^/\s]+)$`)
	imageFile   = regexp.MustCompile(`^(base-)?[^/\s]+\.(raw|qcow2|vmdk|subvol)$`)
	isoName     = regexp.MustCompile(`^iso/([^/]+\.(?i:iso|img))$`)
	tmplName    = regexp.MustCompile(`^vztmpl/([^/]+\.tar(?:\.(?:gz|xz|zst|bz2))?)$`)
	backupName  = regexp.MustCompile(`^backup/([^/]+\.(?:tgz|(?:tar|vma)(?:\.(?:gz|lzo|zst|bz2))?))$`)
	archiveName = regexp.MustCompile(`^vzdump-(?:openvz|lxc|qemu)-(\d+)-.+`)
	snippetName = regexp.MustCompile(`^snippets/([^/]+)$`)
	lvmName     = regexp.MustCompile(`^(vm|base)-(\d+)-\S+$`)
	zfsName     = regexp.MustCompile(`^(?:(?:base|basevol)-\d+-\S+/)?((?:base|basevol|vm|subvol))-(\d+)-\S+$`)
	pbsName     = regexp.MustCompile(`^backup/([^\s_]+)/([^\s_]+)/(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ)$`)
	anyOwner    = regexp.MustCompile(`(?:^|/)(?:vm|base|subvol|basevol)-(\d+)-`)
	stampedName = regexp.MustCompile(`vzdump-(?:lxc|qemu|openvz)-\d+-(\d{4}_\d\d_\d\d-\d\d_\d\d_\d\d)\.|/(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ)$`)
)

// parse reads a volume's name, or says why it is none.
// (pve-storage: parse_volname of each plugin)
func (st *storage) parse(name string) (volName, string) {
	switch {
	case st.fileBased():
		return parseFileName(name)
	case st.Type == "pbs":
		m := pbsName.FindStringSubmatch(name)
		if m == nil {
			return volName{}, "unable to parse PBS volume name '" + name + "'"
		}
		owner, _ := strconv.Atoi(m[2])
		return volName{content: "backup", owner: owner, format: "pbs-" + m[1]}, ""
	case st.Type == "zfspool" || st.Type == "rbd":
		m := zfsName.FindStringSubmatch(name)
		if m == nil {
			return volName{}, "unable to parse " + strings.TrimSuffix(st.Type, "pool") + " volume name '" + name + "'"
		}
		owner, _ := strconv.Atoi(m[2])
		v := volName{content: "images", owner: owner, base: strings.HasPrefix(m[1], "base"), format: "raw"}
		if m[1] == "subvol" || m[1] == "basevol" {
			v.format = "subvol"
		}
		return v, ""
	default:
		m := lvmName.FindStringSubmatch(name)
		if m == nil || st.Type == "lvm" && m[1] == "base" {
			return volName{}, "unable to parse lvm volume name '" + name + "'"
		}
		owner, _ := strconv.Atoi(m[2])
		return volName{content: "images", owner: owner, base: m[1] == "base", format: "raw"}, ""
	}
}

func parseFileName(name string) (volName, string) {
	if m := imageName.FindStringSubmatch(name); m != nil {
		file := imageFile.FindStringSubmatch(m[2])
		if file == nil {
			return volName{}, "unable to parse volume filename '" + m[2] + "'"
		}
		owner, _ := strconv.Atoi(m[1])
		return volName{content: "images", owner: owner, base: file[1] != "", format: file[2], file: "images/" + m[1] + "/" + m[2]}, ""
	}
	if m := isoName.FindStringSubmatch(name); m != nil {
		return volName{content: "iso", format: "raw", file: "template/iso/" + m[1]}, ""
	}
	if m := tmplName.FindStringSubmatch(name); m != nil {
		return volName{content: "vztmpl", format: "raw", file: "template/cache/" + m[1]}, ""
	}
	if m := backupName.FindStringSubmatch(name); m != nil {
		v := volName{content: "backup", format: "raw", file: "dump/" + m[1]}
		if who := archiveName.FindStringSubmatch(m[1]); who != nil {
			v.owner, _ = strconv.Atoi(who[1])
		}
		return v, ""
	}
	if m := snippetName.FindStringSubmatch(name); m != nil {
		return volName{content: "snippets", format: "raw", file: "snippets/" + m[1]}, ""
	}
	return volName{}, "unable to parse directory volume name '" + name + "'"
}

// filePath is where a volume lies, for texts.
func (st *storage) filePath(volid string) string {
	_, name, _ := strings.Cut(volid, ":")
	if v, bad := st.parse(name); st.fileBased() && bad == "" {
		return st.Path + "/" + v.file
	}
	switch {
	case st.fileBased():
		return st.Path + "/" + name
	case st.Type == "zfspool":
		return "/dev/zvol/" + st.ground() + "/" + name
	default:
		return "/dev/" + st.ground() + "/" + name
	}
}

// ground is what the storage lies on: its volume group or pool.
func (st *storage) ground() string {
	switch {
	case st.Pool != "":
		return st.Pool
	case st.VG != "":
		return st.VG
	default:
		return st.ID
	}
}

func (st *storage) fileBased() bool {
	return slices.Contains([]string{"dir", "nfs", "cifs", "btrfs", "cephfs"}, st.Type)
}

// ownerOf is the VMID that the name of a guest's disk carries, or 0.
func ownerOf(volid string) int {
	_, name, ok := strings.Cut(volid, ":")
	all := anyOwner.FindAllStringSubmatch(name, -1)
	if !ok || len(all) == 0 {
		return 0
	}
	n, _ := strconv.Atoi(all[len(all)-1][1])
	return n
}

// archiveTime is the time in the name of a backup: by the node's clock, in UTC
// here.
func archiveTime(volid string) (at int64, named bool) {
	m := stampedName.FindStringSubmatch(volid)
	if m == nil {
		return 0, false
	}
	t, err := time.Parse("2006_01_02-15_04_05", m[1])
	if m[1] == "" {
		t, err = time.Parse("2006-01-02T15:04:05Z", m[2])
	}
	return t.Unix(), err == nil
}

// sizeBytes reads what sizeText writes; 0 if it cannot.
func sizeBytes(text string) int64 {
	shift := 0
	switch {
	case strings.HasSuffix(text, "T"):
		shift = 40
	case strings.HasSuffix(text, "G"):
		shift = 30
	case strings.HasSuffix(text, "M"):
		shift = 20
	case strings.HasSuffix(text, "K"):
		shift = 10
	}
	n, err := strconv.ParseInt(strings.TrimRight(text, "TGMK"), 10, 64)
	if err != nil {
		return 0
	}
	return n << shift
}
