package pvesim

import (
	"maps"
	"strings"
	"sync"
)

// methods is the API by verb and number of path segments: what is not here answers
// 501. It is built when it is first asked for, since some of its methods serve
// requests anew by it, and an initializer may not refer to itself.
//
//nolint:gochecknoglobals // built once and never changed
var methods = struct {
	once    sync.Once
	byShape map[string][]*method
}{}

func get(path string, m method) method  { m.verb, m.path = "GET", path; return m }
func post(path string, m method) method { m.verb, m.path = "POST", path; return m }
func put(path string, m method) method  { m.verb, m.path = "PUT", path; return m }
func del(path string, m method) method  { m.verb, m.path = "DELETE", path; return m }

func shapes() map[string][]*method {
	methods.once.Do(func() { methods.byShape = byShape() })
	return methods.byShape
}

func byShape() map[string][]*method {
	index := map[string][]*method{}
	for _, part := range [][]method{clusterMethods(), haMethods(), accessMethods(), accessReads(), nodeMethods(), storageMethods(), diskMethods(), guestMethods(QEMU), guestMethods(LXC)} {
		for _, m := range part {
			m.segments = strings.Split(m.path, "/")[1:]
			key := m.verb + itoa(len(m.segments))
			if strings.HasSuffix(m.path, "...}") {
				key = m.verb + "..."
			}
			index[key] = append(index[key], &m)
		}
	}
	return index
}

// route finds the method of a path. Fixed names go before variables, and
// "{name...}", which takes the rest with its slashes, comes last.
func (*Sim) route(verb, path string) (*method, map[string]string, bool) {
	segs := strings.Split(path, "/")[1:]
	all := shapes()
	for _, list := range [][]*method{all[verb+itoa(len(segs))], all[verb+"..."]} {
		for _, m := range list {
			if vars, ok := m.match(segs); ok {
				return m, vars, true
			}
		}
	}
	return nil, nil, false
}

func (m *method) match(segs []string) (map[string]string, bool) {
	vars := map[string]string{}
	for i, want := range m.segments {
		if i >= len(segs) {
			return nil, false
		}
		if name, isRest := strings.CutSuffix(want, "...}"); isRest {
			vars[strings.TrimPrefix(name, "{")] = strings.Join(segs[i:], "/")
			return vars, true
		}
		if name, isVar := strings.CutPrefix(want, "{"); isVar {
			vars[strings.TrimSuffix(name, "}")] = segs[i]
			continue
		}
		if want != segs[i] {
			return nil, false
		}
	}
	return vars, true
}

func clusterMethods() []method {
	optVMID := param{kind: "integer", check: checkVMID}
	return []method{
		get("/", method{handle: rootIndex}),
		get("/version", method{handle: showVersion}),
		get("/nodes", method{handle: listNodes}),
		get("/cluster/status", method{protected: true, perm: onRoot("Sys.Audit"), handle: clusterStatus}),
		get("/cluster/resources", method{params: map[string]param{"type": enum("vm", "storage", "node", "sdn")}, handle: clusterResources}),
		get("/cluster/nextid", method{params: map[string]param{"vmid": optVMID}, handle: nextID}),
		get("/cluster/log", method{params: map[string]param{"max": {kind: "integer", min: one}}, handle: showClusterLog}),
		get("/cluster/tasks", method{handle: clusterTasks}),
		get("/cluster/replication", method{handle: listReplication}),
		get("/cluster/backup", method{perm: onRoot("Sys.Audit"), handle: listBackupJobs}),
		get("/pools", method{params: map[string]param{"poolid": str, "type": {kind: "string", enum: []string{"qemu", "lxc", "storage"}, requires: "poolid"}}, handle: listPools}),
	}
}

func accessMethods() []method {
	token := "/access/users/{userid}/token/{tokenid}"
	attrs := map[string]param{"comment": str, "expire": natural, "privsep": boolean}
	change := maps.Clone(attrs)
	change["delete"], change["regenerate"] = strList, boolean
	return []method{
		post("/access/ticket", method{open: true, protected: true, handle: login, params: map[string]param{
			"username": need(str), "password": need(str), "realm": str, "otp": str, "path": str, "privs": str, "new-format": boolean, "tfa-challenge": str,
		}}),
		get("/access/domains", method{open: true, handle: listDomains}),
		get("/access/permissions", method{params: map[string]param{"path": str, "userid": str}, handle: permissions}),
		get("/access/acl", method{handle: listACL}),
		put("/access/acl", method{protected: true, perm: mayModifyACL, handle: updateACL, params: map[string]param{
			"path": need(str), "roles": need(strList), "users": strList, "groups": strList, "tokens": strList, "propagate": boolean, "delete": boolean,
		}}),
		get("/access/users/{userid}/token", method{perm: mayManageTokens, handle: listTokens}),
		get(token, method{perm: mayManageTokens, handle: readToken}),
		post(token, method{protected: true, perm: mayManageTokens, params: attrs, handle: createToken}),
		put(token, method{protected: true, perm: mayManageTokens, params: change, handle: updateToken}),
		del(token, method{protected: true, perm: mayManageTokens, handle: deleteToken}),
	}
}

func nodeMethods() []method {
	list := map[string]param{
		"start": natural, "limit": natural, "source": enum("archive", "active", "all"), "since": integer, "until": integer, "typefilter": str,
		"userfilter": str, "errors": boolean, "vmid": {kind: "integer", check: checkVMID},
		"statusfilter": {kind: "string", list: true, check: checkStatusFilter},
	}
	return []method{
		get("/nodes/{node}/time", method{perm: onNode("Sys.Audit"), handle: nodeTime}),
		get("/nodes/{node}/status", method{perm: onNode("Sys.Audit"), handle: nodeStatus}),
		get("/nodes/{node}/tasks", method{params: list, handle: listTasks}),
		get("/nodes/{node}/tasks/{upid}", method{handle: taskIndex}),
		del("/nodes/{node}/tasks/{upid}", method{protected: true, handle: stopTask}),
		get("/nodes/{node}/tasks/{upid}/status", method{protected: true, handle: taskStatus}),
		get("/nodes/{node}/tasks/{upid}/log", method{protected: true, handle: taskLogLines, params: map[string]param{
			"start": natural, "limit": natural, "download": boolean,
		}}),
	}
}

func guestMethods(kind Kind) []method {
	all := "/nodes/{node}/" + string(kind)
	one := all + "/{vmid}"
	edit := func(g *grant) string { return g.any("/vms/"+g.vars["vmid"], vmConfig...) }
	made := map[string]param{"vmid": need(param{kind: "integer", check: checkVMID}), "pool": str, "start": boolean, "storage": str, "bwlimit": natural}
	list, kill := map[string]param{}, map[string]param{"purge": boolean, "destroy-unreferenced-disks": boolean}
	change := map[string]param{"digest": {kind: "string", maxLen: 40}, "delete": strList, "revert": strList}
	if kind == QEMU {
		list["full"], kill["skiplock"] = boolean, boolean
		change["skiplock"], change["force"] = boolean, param{kind: "boolean", requires: "delete"}
		made["archive"], made["live-restore"], made["import-working-storage"] = str, boolean, str
		made["force"], made["unique"] = param{kind: "boolean", requires: "archive"}, param{kind: "boolean", requires: "archive"}
	} else {
		kill["force"] = boolean
		made["ostemplate"], made["password"], made["ssh-public-keys"] = need(str), str, str
		made["restore"], made["force"], made["ignore-unpack-errors"] = boolean, boolean, boolean
		made["unique"] = param{kind: "boolean", requires: "restore"}
	}
	out := []method{
		get(all, method{protected: true, params: list, handle: listGuests(kind)}),
		post(all, method{protected: true, params: made, also: configSchema(kind), handle: createGuest(kind)}),
		del(one, method{protected: true, perm: onGuest("VM.Allocate"), params: kill, handle: destroyGuest(kind)}),
		get(one+"/config", method{perm: onGuest("VM.Audit"), params: map[string]param{"current": boolean, "snapshot": configID}, handle: guestConfig(kind)}),
		put(one+"/config", method{protected: true, perm: edit, params: change, also: configSchema(kind), handle: setConfig(kind)}),
		get(one+"/status/current", method{protected: true, perm: onGuest("VM.Audit"), handle: guestCurrent(kind)}),
	}
	if kind == QEMU {
		queued := maps.Clone(change)
		queued["background_delay"] = param{kind: "integer", min: new(1), max: new(30)}
		out = append(out, post(one+"/config", method{protected: true, perm: edit, params: queued, also: configSchema(kind), handle: queueConfig}), cloneMethod())
		out = append(out, put(one+"/unlink", method{
			protected: true, perm: onGuest("VM.Config.Disk"), params: map[string]param{"idlist": need(strList), "force": boolean}, handle: unlinkDisks,
		}))
	}
	template := map[string]param{}
	if kind == QEMU {
		template["disk"] = str
	}
	out = append(out, post(one+"/template", method{protected: true, perm: onGuest("VM.Allocate"), params: template, handle: makeTemplate(kind)}))
	out = append(out, resizeMethod(kind))
	out = append(out, powerMethods(kind)...)
	return append(out, snapshotMethods(kind)...)
}
