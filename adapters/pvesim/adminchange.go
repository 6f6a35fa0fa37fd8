package pvesim

import (
	"net/http"
	"strconv"
)

// changeRoutes are what a test in another process does by another hand: what is
// neither a request to Proxmox VE nor a fault that waits for one.
func (s *Sim) changeRoutes(mux *http.ServeMux) {
	mux.HandleFunc("POST /sim/guests/{vmid}", s.adminChangeGuest)
	s.snapshotRoutes(mux)
	mux.HandleFunc("POST /sim/users", s.adminPassword)
	mux.HandleFunc("POST /sim/tokens", s.adminToken)
	mux.HandleFunc("POST /sim/tasks/{upid}/kill", s.adminKillTask)
	mux.HandleFunc("DELETE /sim/tasks/{upid}", s.adminForgetTask)
	mux.HandleFunc("POST /sim/locks", s.adminLock)
	mux.HandleFunc("DELETE /sim/locks/{id}", s.adminUnlock)
}

// adminChangeGuest takes {"node":…,"running":…,"config":{…},"ha":…}: it moves the
// guest, starts or stops it, sets config keys (empty: removes them) or its state
// under HA (empty: takes it out).
func (s *Sim) adminChangeGuest(w http.ResponseWriter, r *http.Request) {
	var in struct {
		Node    string            `json:"node"`
		Running *bool             `json:"running"`
		Config  map[string]string `json:"config"`
		HA      *string           `json:"ha"`
	}
	if !readAdmin(w, r, &in) {
		return
	}
	vmid, err := strconv.Atoi(r.PathValue("vmid"))
	if _, found := s.Guest(vmid); err != nil || !found {
		refuseAdmin(w, http.StatusNotFound, "no guest "+r.PathValue("vmid"))
		return
	}
	if in.Node != "" {
		if err := s.MoveGuest(vmid, in.Node); err != nil {
			refuseAdmin(w, http.StatusBadRequest, err.Error())
			return
		}
	}
	s.EditGuest(vmid, in.Config)
	if in.Running != nil {
		s.PowerGuest(vmid, *in.Running)
	}
	if in.HA != nil {
		s.SetHA(vmid, *in.HA)
	}
	w.WriteHeader(http.StatusNoContent)
}

// adminPassword takes {"id":…,"password":…}: it sets the password of a user that there
// is.
func (s *Sim) adminPassword(w http.ResponseWriter, r *http.Request) {
	var in struct {
		ID       string `json:"id"`
		Password string `json:"password"`
	}
	if !readAdmin(w, r, &in) {
		return
	}
	if !s.SetPassword(in.ID, in.Password) {
		refuseAdmin(w, http.StatusNotFound, "no user "+strconv.Quote(in.ID))
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

// adminToken takes {"id":…,"expire":…}.
func (s *Sim) adminToken(w http.ResponseWriter, r *http.Request) {
	var in struct {
		ID     string `json:"id"`
		Expire int64  `json:"expire"`
	}
	if !readAdmin(w, r, &in) {
		return
	}
	if !s.ExpireToken(in.ID, in.Expire) {
		refuseAdmin(w, http.StatusNotFound, "no token "+strconv.Quote(in.ID))
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

func (s *Sim) adminKillTask(w http.ResponseWriter, r *http.Request) {
	if !s.KillTask(r.PathValue("upid")) {
		refuseAdmin(w, http.StatusNotFound, "no such running task")
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

func (s *Sim) adminForgetTask(w http.ResponseWriter, r *http.Request) {
	s.ForgetTask(r.PathValue("upid"))
	w.WriteHeader(http.StatusNoContent)
}

// adminLock takes {"node":…,"kind":…,"vmid":…} for the lock of a guest's config,
// {"node":…,"vmid":…,"migration":true} for that of its migration,
// {"node":…,"storage":…} for that of a storage, or {"user_config":true}; it answers
// with an id by which it is given up again.
func (s *Sim) adminLock(w http.ResponseWriter, r *http.Request) {
	var in struct {
		Node       string `json:"node"`
		Kind       Kind   `json:"kind"`
		VMID       int    `json:"vmid"`
		Storage    string `json:"storage"`
		UserConfig bool   `json:"user_config"`
		Migration  bool   `json:"migration"`
	}
	if !readAdmin(w, r, &in) {
		return
	}
	var release func()
	var ok bool
	switch {
	case in.UserConfig:
		release, ok = s.HoldUserConfig()
	case in.Migration:
		release, ok = s.HoldMigrationLock(in.Node, in.VMID)
	case in.Storage != "":
		release, ok = s.HoldStorageLock(in.Node, in.Storage)
	default:
		release, ok = s.HoldConfigLock(in.Node, in.Kind, in.VMID)
	}
	if !ok {
		refuseAdmin(w, http.StatusConflict, "no such lock, or somebody has it")
		return
	}
	id := 0
	s.do(func() {
		s.lockSeq++
		id = s.lockSeq
		s.heldLocks[id] = release
	})
	writeJSON(w, http.StatusCreated, map[string]int{"id": id})
}

func (s *Sim) adminUnlock(w http.ResponseWriter, r *http.Request) {
	var release func()
	s.do(func() {
		id, err := strconv.Atoi(r.PathValue("id"))
		if err != nil {
			return
		}
		release = s.heldLocks[id]
		delete(s.heldLocks, id)
	})
	if release == nil {
		refuseAdmin(w, http.StatusNotFound, "no lock "+r.PathValue("id"))
		return
	}
	release()
	w.WriteHeader(http.StatusNoContent)
}
