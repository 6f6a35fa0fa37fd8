package pvesim

import (
	"net/http"
	"strconv"
)

// snapshotRoutes are what another hand does to a guest's snapshots and
// replication.
func (s *Sim) snapshotRoutes(mux *http.ServeMux) {
	mux.HandleFunc("POST /sim/guests/{vmid}/snapshots", s.adminAddSnapshot)
	mux.HandleFunc("DELETE /sim/guests/{vmid}/snapshots/{name}", s.adminDropSnapshot)
	mux.HandleFunc("POST /sim/guests/{vmid}/replication", s.adminReplicate)
	mux.HandleFunc("POST /sim/guests/{vmid}/replication/run", s.adminRunReplication)
}

func adminVMID(r *http.Request) int {
	vmid, err := strconv.Atoi(r.PathValue("vmid"))
	if err != nil {
		return 0 // nobody's
	}
	return vmid
}

// adminAddSnapshot takes {"name":…,"description":…}.
func (s *Sim) adminAddSnapshot(w http.ResponseWriter, r *http.Request) {
	var in struct {
		Name        string `json:"name"`
		Description string `json:"description"`
	}
	if !readAdmin(w, r, &in) {
		return
	}
	if complaint := configID.complain(value{text: in.Name}); complaint != "" {
		refuseAdmin(w, http.StatusBadRequest, "name: "+complaint)
		return
	}
	if !s.AddSnapshot(adminVMID(r), in.Name, in.Description) {
		refuseAdmin(w, http.StatusConflict, "no guest "+r.PathValue("vmid")+", or it has that snapshot")
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

func (s *Sim) adminDropSnapshot(w http.ResponseWriter, r *http.Request) {
	if !s.DropSnapshot(adminVMID(r), r.PathValue("name")) {
		refuseAdmin(w, http.StatusNotFound, "no snapshot "+strconv.Quote(r.PathValue("name"))+" of guest "+r.PathValue("vmid"))
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

// adminReplicate takes {"target":…} and answers with the job's id; an empty
// target takes the guest's jobs out.
func (s *Sim) adminReplicate(w http.ResponseWriter, r *http.Request) {
	var in struct {
		Target string `json:"target"`
	}
	if !readAdmin(w, r, &in) {
		return
	}
	if in.Target == "" {
		s.RemoveReplication(adminVMID(r))
		w.WriteHeader(http.StatusNoContent)
		return
	}
	id := s.AddReplication(adminVMID(r), in.Target)
	if id == "" {
		refuseAdmin(w, http.StatusNotFound, "no guest "+r.PathValue("vmid")+" or no node "+strconv.Quote(in.Target))
		return
	}
	writeJSON(w, http.StatusCreated, map[string]string{"id": id})
}

func (s *Sim) adminRunReplication(w http.ResponseWriter, r *http.Request) {
	if !s.RunReplication(adminVMID(r)) {
		refuseAdmin(w, http.StatusNotFound, "no replication job of guest "+r.PathValue("vmid"))
		return
	}
	w.WriteHeader(http.StatusNoContent)
}
