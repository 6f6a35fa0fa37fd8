package proxmox

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"path"
	"regexp"
	"slices"
	"strings"

	"writ/domain/engine"
	"writ/domain/op"
)

// diskConduct is that of storage-wipe on a disk as a whole: the signatures of
// what is on it and on its partitions are erased, and its first 200 MiB are
// overwritten. The host lets root@pam do that alone, with a ticket (pve-storage
// API2/Disks.pm: wipedisk has no permissions), which no token is: so the attempt
// has no token of its own, nothing to be fenced by, and its task looks like that
// of a person.
func diskConduct() *conduct {
	return &conduct{
		class:   op.StorageWipe,
		byRoot:  true,
		observe: observeDisk,
		compose: func(in op.Intent, seen op.Observed) op.Request {
			return op.Request{Method: http.MethodPut, Path: wipePath(seen.Node), Query: url.Values{"disk": {in.Target.Disk}}.Encode()}
		},
		form: func(s subject) form {
			if s.target.Disk == "" {
				return form{}
			}
			return form{method: http.MethodPut, path: wipePath(s.node), must: params{"disk": literally(s.target.Disk)}}
		},
		task:      func(t attempt) (typ, id string) { return "wipedisk", path.Base(t.target.Disk) },
		rights:    func(attempt) []right { return nil },
		refusals:  func(attempt) []*regexp.Regexp { return beforeWipeFork },
		untouched: whole(`Couldn't get the size of the device [^\n]*`),
		recheck:   sameDisk,
		probe:     probeDisk,
	}
}

// beforeWipeFork are the texts that come before the task (pve-storage
// Diskmanage.pm#verify_blockdev_path, #is_mounted and #has_holder).
var beforeWipeFork = whole(
	`disk/partition '[^'\n]+' is mounted`,
	`disk/partition '[^'\n]+' has a holder`,
	`not a valid block device`,
	`got unusual device path '[^\n]*'`,
	`failed to get absolute path to [^\n]*`,
)

func wipePath(node string) string { return "/nodes/" + url.PathEscape(node) + "/disks/wipedisk" }

// observeDisk looks at a disk, and at who uses it.
func observeDisk(ctx context.Context, h *Host, a engine.Attempt) (op.Observed, error) {
	t := a.Intent.Target
	state, err := h.clusterState(ctx, h.at(t.Node))
	if err != nil {
		return op.Observed{}, fmt.Errorf("read %s: %w", t, err)
	}
	seen := op.Observed{Node: t.Node, NodeOnline: state.online[t.Node], Quorate: state.quorate}
	disk, err := h.readDisk(ctx, t.Node, t.Disk)
	if err != nil {
		return op.Observed{}, fmt.Errorf("read %s: %w", t, err)
	}
	if disk == nil {
		return seen, nil
	}
	seen.Found = true
	guests, err := h.references(ctx, disk.passedTo)
	if err != nil {
		return op.Observed{}, fmt.Errorf("read who uses %s: %w", t, err)
	}
	if len(guests) > 0 {
		// A machine may have the disk of another node that has its name there;
		// which is meant its configuration does not say.
		disk.seen.Used = strings.TrimPrefix(disk.seen.Used+", passed to "+strings.Join(guests, ", "), ", ")
	}
	seen.Disk = &disk.seen
	return seen, nil
}

// passedTo tells whether what a guest's configuration names is the disk, for all
// that is known: by its path, that of a partition, or a link whose name holds its
// serial number or WWN. What other links lead to their names do not tell, and a
// disk that a running guest has open the host wipes without a word: so each of them
// may be a link to it.
func (d *diskState) passedTo(device string) bool {
	if device = path.Clean(device); !strings.HasPrefix(device, "/dev/") {
		return false
	}
	for _, folder := range blindLinks {
		if strings.HasPrefix(device, folder) {
			return true
		}
	}
	for _, known := range []string{d.seen.Path, d.byID} {
		if rest, ok := strings.CutPrefix(device, known); ok && known != "" && (rest == "" || partitionForm.MatchString(rest)) {
			return true
		}
	}
	link := strings.ToLower(path.Base(device))
	for _, mark := range []string{d.seen.Serial, strings.TrimPrefix(strings.ToLower(d.seen.WWN), "0x")} {
		if len(mark) >= 4 && strings.Contains(link, strings.ToLower(mark)) {
			return true
		}
	}
	return false
}

// blindLinks are the beginnings of links that tell neither serial number nor WWN:
// they go by slots, by what is on the disk, or by the kernel's numbers.
var blindLinks = []string{
	"/dev/block/", "/dev/disk/by-diskseq/", "/dev/disk/by-label/", "/dev/disk/by-partlabel/", "/dev/disk/by-partuuid/",
	"/dev/disk/by-path/", "/dev/disk/by-uuid/", "/dev/disk/by-id/lvm-pv-uuid-",
}

// partitionForm is what comes behind the name of a disk in that of a partition.
var partitionForm = regexp.MustCompile(`^(?:p?\d+|-part\d+)$`)

// sameDisk looks at the disk once more, right before the request is sent: it is
// named by its path, which the next disk that is plugged in may have.
func sameDisk(ctx context.Context, h *Host, t attempt) error {
	now, err := h.readDisk(ctx, t.node, t.target.Disk)
	switch {
	case err != nil:
		return err
	case now == nil:
		return fmt.Errorf("there is no %s any more", t.target)
	case !isDisk(now.seen, *t.seen.Disk):
		return fmt.Errorf("at %s there is another disk than was announced: %s, it was %s", t.target, diskWords(now.seen), diskWords(*t.seen.Disk))
	case now.seen.Used != "":
		return fmt.Errorf("%s is in use by now: %s", t.target, now.seen.Used)
	case !slices.Equal(now.seen.Holds, t.seen.Disk.Holds):
		return fmt.Errorf("%s does not hold any more what was announced: %q, it was %q", t.target, now.seen.Holds, t.seen.Disk.Holds)
	}
	return nil
}

// isDisk tells whether two looks at one path were at one disk.
func isDisk(a, b op.DiskSeen) bool {
	return a.Serial == b.Serial && a.WWN == b.WWN && a.Model == b.Model && a.Size == b.Size
}

// diskWords name a disk for people.
func diskWords(d op.DiskSeen) string {
	var parts []string
	for _, x := range []struct{ name, value string }{{"model", d.Model}, {"serial", d.Serial}, {"wwn", d.WWN}} {
		if x.value != "" {
			parts = append(parts, x.name+" "+clip(x.value))
		}
	}
	return strings.Join(append(parts, fmt.Sprintf("%d bytes", d.Size)), ", ")
}
