package pvesim

import (
	"crypto/sha1" //nolint:gosec // the digest that Proxmox VE itself uses
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// definition is a storage's section of storage.cfg as the API returns it.
func (s *Sim) definition(st *storage) map[string]any {
	m := map[string]any{"storage": st.ID, "type": st.Type, "content": strings.Join(st.Content, ","), "digest": s.storageDigest()}
	for key, text := range map[string]string{
		"path": st.Path, "nodes": strings.Join(st.Nodes, ","), "vgname": st.VG, "thinpool": st.ThinPool, "pool": st.Pool,
		"prune-backups": st.PruneBackups,
	} {
		if text != "" {
			m[key] = text
		}
	}
	for key, on := range map[string]bool{"shared": st.Shared, "disable": st.Disabled, "saferemove": st.SafeRemove} {
		if on {
			m[key] = 1
		}
	}
	return m
}

// storageDigest is the same for all storages: that of the whole file.
func (s *Sim) storageDigest() string {
	h := sha1.New() //nolint:gosec // as above
	for _, id := range slices.Sorted(maps.Keys(s.stores)) {
		fmt.Fprintf(h, "%+v\n", s.stores[id].Storage)
	}
	return hex.EncodeToString(h.Sum(nil))
}

func readStorage(c *call) {
	st := c.s.stores[c.params["storage"]]
	if st == nil {
		c.fail("storage '" + c.params["storage"] + "' does not exist")
		return
	}
	c.ok(c.s.definition(st))
}

// deleteStorage removes a definition and the ACL entries on it, whoever uses
// the storage; its data stay.
func deleteStorage(c *call) {
	id := c.params["storage"]
	c.s.withStorageConfig(c.node, func() string {
		if c.s.stores[id] == nil {
			return "storage '" + id + "' does not exist"
		}
		c.s.undefine(id)
		c.s.effectOf(nil, Effect{Kind: StorageRemoved, Node: c.node.name, Device: id, Auth: c.auth})
		return ""
	}, func(failure string) {
		if failure != "" {
			c.fail("delete storage failed: " + failure)
			return
		}
		c.ok(nil)
	})
}

// undefine drops a definition and what user.cfg says of the storage.
func (s *Sim) undefine(id string) {
	delete(s.stores, id)
	delete(s.access.acl, "/storage/"+id)
	for _, p := range s.access.pools {
		delete(p.storages, id)
	}
}

// detach takes storages that match from one node: off its list of nodes, or out
// of the configuration if there is no other.
// (pve-storage: PVE::API2::Storage::Config#cleanup_storages_for_node)
func (s *Sim) detach(t *task, match func(st *Storage) bool, done func(failure string)) {
	s.withStorageConfig(t.node, func() string {
		for _, id := range slices.Sorted(maps.Keys(s.stores)) {
			st := s.stores[id]
			nodes := slices.Clone(st.Nodes)
			if len(nodes) == 0 {
				for _, n := range s.order {
					nodes = append(nodes, n.name)
				}
			}
			i := slices.Index(nodes, t.node.name)
			if !match(&st.Storage) || i < 0 {
				continue
			}
			if nodes = slices.Delete(nodes, i, i+1); len(nodes) > 0 {
				st.Nodes = nodes
				continue
			}
			s.undefine(id)
			s.effectOf(t, Effect{Kind: StorageRemoved, Device: id})
		}
		return ""
	}, done)
}
