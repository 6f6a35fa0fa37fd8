package simulation_test

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"writ/adapters/proxmox"
	"writ/adapters/pvesim"
	"writ/domain/op"
)

// A world is the cluster of a carried history: simulated by its HTTP API, and
// reached through the adapter for Proxmox VE as it is.
type world struct {
	sim    *sim
	pve    *pvesim.Sim
	shared bool // one credential for all ops
	names  []string
	people *proxmox.Host // reads for those who sign

	faults []*injected
	down   map[string]bool
	amiss  map[string]bool // nodes that something is wrong with, or was
	late   int             // requests that nobody waits for, not yet there
	made   int             // how many things people have made so far
	births map[string]int  // how often something of a name came to be
	benign []op.Intent     // what was asked for without a signature

	accounts
}

const (
	worldUser   = "svc@pve"
	rootToken   = "root@pam!old"
	worldToken  = worldUser + "!read"
	worldSecret = "7e8a5a37-9d4b-4a9f-8a3a-7c2d8a3a7c2d"
	worldPass   = "correct horse"
	disks       = "local-lvm"
	backups     = "local"
)

// attemptRights are what requests of the classes need, each of a role of its own.
var attemptRights = []string{
	"VM.PowerMgmt", "VM.Snapshot", "VM.Snapshot.Rollback", "VM.Backup", "Datastore.Allocate", "Datastore.AllocateSpace", "Sys.Modify",
	"SDN.Use", "Mapping.Use",
}

func newWorld(s *sim, shared bool) *world {
	w := &world{
		sim: s, shared: shared, names: []string{"pve1", "pve2", "pve3"}, down: make(map[string]bool), amiss: make(map[string]bool),
		births: make(map[string]int), accounts: newAccounts(),
	}
	pve, err := pvesim.New(pvesim.Options{
		Nodes: w.names, Seed: s.seed, Now: func() time.Time { return s.now().Round(0) },
		AfterFunc: func(d time.Duration, f func()) func() bool {
			stopped := false
			s.after(d, func() {
				if !stopped {
					stopped = true
					f()
				}
			})
			return func() bool {
				was := stopped
				stopped = true
				return !was
			}
		},
		Pace: pvesim.Pace{
			Start: 300 * time.Millisecond, Volume: 700 * time.Millisecond, Cleanup: 200 * time.Millisecond, Power: time.Second,
			Write: 30 * time.Millisecond,
		},
		OnAdmit: w.admitted,
	})
	if err != nil {
		panic(err)
	}
	w.pve = pve
	w.entitle()
	s.world = w
	for _, name := range w.names {
		w.oldTask(name)
	}
	for i := range 4 {
		s.vmids = append(s.vmids, 100+i)
		w.create(100 + i)
	}
	for _, d := range []pvesim.Disk{
		{Node: "pve1", DevPath: "/dev/sdb", Size: 1 << 40, Serial: "S-b"}, {Node: "pve2", DevPath: "/dev/sdc", Size: 1 << 40, Serial: "S-c"},
	} {
		if err := pve.AddDisk(d); err != nil {
			panic(err)
		}
	}
	if w.people, err = w.host(direct{w}); err != nil {
		panic(err)
	}
	s.each = w.look
	return w
}

// entitle gives users and tokens what the documentation says that they need.
func (w *world) entitle() {
	p := w.pve
	p.AddUser(worldUser, "not used")
	if _, err := p.AddToken(worldToken, pvesim.Token{Secret: worldSecret}); err != nil {
		panic(err)
	}
	sight := []string{"VM.Audit", "VM.Config.Disk", "VM.Backup"}
	whole := []string{"Sys.Audit", "Sys.Syslog", "Pool.Audit", "Datastore.Audit", "Datastore.AllocateSpace", "Datastore.Allocate"}
	if w.shared {
		sight = slices.Concat(sight, []string{"VM.Allocate", "VM.Config.Options"}, attemptRights)
		whole = append(whole, "Sys.Modify")
	}
	p.AddRole("Guests", sight...)
	p.AddRole("Cluster", whole...)
	p.Grant("/", worldUser, "Cluster", true)
	p.Grant("/vms", worldUser, "Guests", true)
	if w.shared {
		return
	}
	p.AddRole(proxmox.DefaultAttemptRole, "VM.Allocate")
	for _, privilege := range attemptRights {
		p.AddRole(proxmox.DefaultAttemptRole+"-"+privilege, privilege)
	}
	p.AddUser(serviceUser, worldPass)
	p.AddRole("WritService", append([]string{"VM.Allocate", "VM.Config.Options", "Permissions.Modify"}, attemptRights...)...)
	p.Grant("/", serviceUser, "WritService", true)
}

// host gives the adapter as one process has it.
func (w *world) host(by carrier) (*proxmox.Host, error) {
	c := proxmox.Config{
		BaseURL: "https://pve1.example:8006", Nodes: make(map[string]string), TokenID: worldToken, Secret: worldSecret, Carrier: by,
		CAPEM: nil, Fingerprints: []string{"00:11:22:33:44:55:66:77:88:99:AA:BB:CC:DD:EE:FF:00:11:22:33:44:55:66:77:88:99:AA:BB:CC:DD:EE:FF"},
	}
	for _, name := range w.names {
		c.Nodes[name] = "https://" + name + ".example:8006"
	}
	if !w.shared {
		c.ServiceUser, c.ServicePassword = serviceUser, worldPass
	}
	return proxmox.New(c, nil)
}

// oldTask gives a node a history of tasks that reaches back far enough.
func (w *world) oldTask(node string) {
	skew := -time.Hour
	w.control(node, pvesim.NodeControl{Skew: &skew})
	if _, err := w.pve.AddToken(rootToken, pvesim.Token{Secret: worldSecret}); err != nil {
		panic(err)
	}
	if _, err := w.pve.AddGuest(pvesim.Guest{VMID: 900, Node: node}); err != nil {
		panic(err)
	}
	w.pve.Serve(pvesim.Request{
		Node: node, Method: "POST", Path: "/api2/json/nodes/" + node + "/qemu/900/status/start",
		Header: map[string][]string{"Authorization": {"PVEAPIToken=" + rootToken + "=" + worldSecret}},
	}, func(r pvesim.Response) {
		if r.Status != 200 {
			panic(fmt.Sprint("an old task: ", r.Status, r.Reason))
		}
	})
	for _, t := range w.pve.Running() {
		w.pve.KillTask(t.UPID)
	}
	w.pve.DestroyGuest(900)
	skew = 0
	w.control(node, pvesim.NodeControl{Skew: &skew})
}

func (w *world) control(node string, change pvesim.NodeControl) {
	if err := w.pve.Node(node, change); err != nil {
		panic(err)
	}
}

// kindOf tells what guests of a VMID are: always the same.
func kindOf(vmid int) pvesim.Kind {
	if vmid%2 == 0 {
		return pvesim.QEMU
	}
	return pvesim.LXC
}

// create makes a guest, an identity of its own.
func (w *world) create(vmid int) pvesim.Guest {
	r := &w.sim.rng
	w.made++
	g := pvesim.Guest{
		Kind: kindOf(vmid), VMID: vmid, Node: w.names[r.upTo(3)], Name: fmt.Sprintf("web-%d", w.made), MACs: []string{""},
		Disks: []string{disks + ":1", disks + ":1"}[:1+w.made%2], Running: r.per1000(500),
	}
	got, err := w.pve.AddGuest(g)
	if err != nil {
		panic(err)
	}
	w.sim.tell("guest", got.Name, "is made")
	return got
}

// running gives the tasks at work on a guest, or on anything if it is 0.
func (w *world) running(vmid int) (found []pvesim.RunningTask) {
	id := fmt.Sprint(vmid)
	for _, t := range w.pve.Running() {
		if vmid == 0 || t.ID == id || strings.HasPrefix(t.ID, id+"@") {
			found = append(found, t)
		}
	}
	return found
}
