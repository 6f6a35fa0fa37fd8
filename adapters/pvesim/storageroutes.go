package pvesim

// storageMethods are storages, their content and backups.
func storageMethods() []method {
	seen := func(g *grant) string {
		return g.any("/storage/"+g.vars["storage"], "Datastore.Audit", "Datastore.AllocateSpace")
	}
	space := func(g *grant) string { return g.all("/storage/"+g.vars["storage"], "Datastore.AllocateSpace") }
	allocate := func(g *grant) string { return g.all("/storage", "Datastore.Allocate") }
	audit := func(g *grant) string { return g.all("/storage/"+g.vars["storage"], "Datastore.Allocate") }
	vmid := param{kind: "integer", check: checkVMID}
	one := "/nodes/{node}/storage/{storage}"
	prune := map[string]param{"prune-backups": str, "type": enum("qemu", "lxc"), "vmid": vmid}
	return []method{
		get("/storage", method{params: map[string]param{"type": str}, handle: listStorages}),
		get("/storage/{storage}", method{perm: audit, handle: readStorage}),
		del("/storage/{storage}", method{protected: true, perm: allocate, handle: deleteStorage}),
		get("/nodes/{node}/storage", method{protected: true, handle: nodeStorages, params: map[string]param{
			"content": strList, "enabled": boolean, "format": boolean, "storage": str, "target": str,
		}}),
		get(one+"/status", method{protected: true, perm: seen, handle: storageStatus}),
		get(one+"/content", method{protected: true, perm: seen, handle: storageContent, params: map[string]param{
			"content": {kind: "string", check: checkContent}, "vmid": vmid,
		}}),
		post(one+"/content", method{protected: true, perm: space, handle: allocVolume, params: map[string]param{
			"filename": need(str), "vmid": need(vmid), "size": need(str),
			"format": {kind: "string", enum: []string{"raw", "qcow2", "subvol", "vmdk"}, requires: "size"},
		}}),
		get(one+"/content/{volume...}", method{protected: true, handle: showVolume}),
		put(one+"/content/{volume...}", method{protected: true, handle: editVolume, params: map[string]param{"notes": str, "protected": boolean}}),
		del(one+"/content/{volume...}", method{protected: true, handle: deleteVolume, params: map[string]param{
			"delay": {kind: "integer", min: new(1), max: new(30)},
		}}),
		get(one+"/prunebackups", method{protected: true, perm: seen, params: prune, handle: previewPrune}),
		post("/nodes/{node}/vzdump", method{protected: true, params: backupParams, handle: startBackup}),
		get("/nodes/{node}/vzdump/extractconfig", method{protected: true, params: map[string]param{"volume": need(str)}, handle: extractConfig}),
		del(one+"/prunebackups", method{protected: true, params: prune, handle: pruneBackups}),
	}
}

// diskMethods are the disks of a node and what they were made into.
func diskMethods() []method {
	onDisks := func(g *grant) string {
		if g.all("/", "Sys.Audit") == "" || g.all("/nodes/"+g.vars["node"], "Sys.Audit") == "" {
			return ""
		}
		return "Permission check failed"
	}
	base := "/nodes/{node}/disks"
	out := []method{
		get(base, method{handle: disksIndex}),
		get(base+"/list", method{protected: true, perm: onDisks, handle: listDisks, params: map[string]param{
			"include-partitions": boolean, "skipsmart": boolean, "type": enum("unused", "journal_disks"),
		}}),
		put(base+"/wipedisk", method{protected: true, perm: rootByTicket, handle: wipeDisk, params: map[string]param{
			"disk": need(param{kind: "string", check: checkDevice}),
		}}),
		get(base+"/zfs", method{protected: true, perm: onRoot("Sys.Audit"), handle: listZFS}),
		get(base+"/zfs/{name}", method{protected: true, perm: onRoot("Sys.Audit"), handle: showZFS}),
		get(base+"/lvm", method{protected: true, perm: onRoot("Sys.Audit"), handle: listVGs}),
		get(base+"/lvmthin", method{protected: true, perm: onRoot("Sys.Audit"), handle: listThinPools}),
		get(base+"/directory", method{protected: true, perm: onRoot("Sys.Audit"), handle: listDirectories}),
	}
	for _, k := range poolKinds {
		params := map[string]param{"cleanup-config": boolean, "cleanup-disks": boolean}
		if k.kind == PoolLVMThin {
			params["volume-group"] = need(pathParams["name"])
		}
		out = append(out, del(base+"/"+k.kind+"/{name}", method{protected: true, perm: onRoot("Sys.Modify"), params: params, handle: removePool(k)}))
	}
	return out
}
