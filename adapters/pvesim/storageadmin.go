package pvesim

import (
	"net/http"
	"strconv"
)

// storageRoutes set up what requests to Proxmox VE cannot: storages, volumes,
// backups, disks and pools, as they are there before a test or a demo begins.
func (s *Sim) storageRoutes(mux *http.ServeMux) {
	mux.HandleFunc("GET /sim/storages", func(w http.ResponseWriter, _ *http.Request) { writeJSON(w, 200, nonNil(s.Storages())) })
	mux.HandleFunc("POST /sim/storages", s.adminAddStorage)
	mux.HandleFunc("DELETE /sim/storages/{id}", func(w http.ResponseWriter, r *http.Request) {
		s.RemoveStorage(r.PathValue("id"))
		w.WriteHeader(http.StatusNoContent)
	})
	mux.HandleFunc("GET /sim/volumes", func(w http.ResponseWriter, _ *http.Request) { writeJSON(w, 200, nonNil(s.Volumes())) })
	mux.HandleFunc("POST /sim/volumes", adminAdd(s.AddVolume))
	mux.HandleFunc("DELETE /sim/volumes", func(w http.ResponseWriter, r *http.Request) {
		adminDropped(w, "volume", s.DropVolume(r.FormValue("node"), r.FormValue("volid")), r.FormValue("volid"))
	})
	mux.HandleFunc("POST /sim/backups", s.adminAddBackup)
	mux.HandleFunc("GET /sim/disks", func(w http.ResponseWriter, _ *http.Request) { writeJSON(w, 200, nonNil(s.Disks())) })
	mux.HandleFunc("POST /sim/disks", adminAdd(s.AddDisk))
	mux.HandleFunc("DELETE /sim/disks", func(w http.ResponseWriter, r *http.Request) {
		adminDropped(w, "disk", s.RemoveDisk(r.FormValue("node"), r.FormValue("devpath")), r.FormValue("devpath"))
	})
	mux.HandleFunc("GET /sim/diskpools", func(w http.ResponseWriter, _ *http.Request) { writeJSON(w, 200, nonNil(s.DiskPools())) })
	mux.HandleFunc("POST /sim/diskpools", adminAdd(s.AddDiskPool))
}

// adminAdd makes a handler of what adds one thing.
func adminAdd[T any](add func(T) error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		var in T
		if !readAdmin(w, r, &in) {
			return
		}
		if err := add(in); err != nil {
			refuseAdmin(w, http.StatusConflict, err.Error())
			return
		}
		w.WriteHeader(http.StatusNoContent)
	}
}

func adminDropped(w http.ResponseWriter, what string, found bool, name string) {
	if !found {
		refuseAdmin(w, http.StatusNotFound, "no "+what+" "+strconv.Quote(name))
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

func (s *Sim) adminAddStorage(w http.ResponseWriter, r *http.Request) {
	var in Storage
	if !readAdmin(w, r, &in) {
		return
	}
	if in.ID == "" || in.Type == "" {
		refuseAdmin(w, http.StatusBadRequest, "a storage needs id and type")
		return
	}
	s.AddStorage(in)
	w.WriteHeader(http.StatusNoContent)
}

// adminAddBackup takes {"vmid":…,"storage":…} and answers with the volume.
func (s *Sim) adminAddBackup(w http.ResponseWriter, r *http.Request) {
	var in struct {
		VMID    int    `json:"vmid"`
		Storage string `json:"storage"`
	}
	if !readAdmin(w, r, &in) {
		return
	}
	v, err := s.AddBackup(in.VMID, in.Storage)
	if err != nil {
		refuseAdmin(w, http.StatusConflict, err.Error())
		return
	}
	writeJSON(w, http.StatusCreated, v)
}
