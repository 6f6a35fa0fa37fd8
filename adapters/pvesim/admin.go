package pvesim

import (
	"encoding/json"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// serveAdmin is the simulator's own interface, below /sim/: JSON in and out,
// without credentials. It is for demos and for tests in other processes.
func (s *Sim) serveAdmin(w http.ResponseWriter, r *http.Request) {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /sim/effects", func(w http.ResponseWriter, _ *http.Request) { writeJSON(w, 200, nonNil(s.Effects())) })
	mux.HandleFunc("GET /sim/requests", func(w http.ResponseWriter, _ *http.Request) { writeJSON(w, 200, nonNil(s.Requests())) })
	mux.HandleFunc("GET /sim/guests", func(w http.ResponseWriter, _ *http.Request) { writeJSON(w, 200, nonNil(s.Guests())) })
	mux.HandleFunc("POST /sim/guests", s.adminAddGuest)
	mux.HandleFunc("DELETE /sim/guests/{vmid}", s.adminDestroyGuest)
	mux.HandleFunc("GET /sim/faults", func(w http.ResponseWriter, _ *http.Request) { writeJSON(w, 200, nonNil(s.faultList())) })
	mux.HandleFunc("POST /sim/faults", s.adminInject)
	mux.HandleFunc("POST /sim/faults/{id}/release", s.adminRelease)
	mux.HandleFunc("DELETE /sim/faults/{id}", s.adminRemove)
	mux.HandleFunc("POST /sim/nodes/{node}", s.adminNode)
	s.changeRoutes(mux)
	s.storageRoutes(mux)
	mux.ServeHTTP(w, r)
}

func nonNil[T any](list []T) []T {
	if list == nil {
		return []T{}
	}
	return list
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v) // the client has gone: nobody is left to tell
}

func refuseAdmin(w http.ResponseWriter, status int, text string) {
	writeJSON(w, status, map[string]string{"error": text})
}

// readAdmin decodes a body strictly and answers if that fails.
func readAdmin(w http.ResponseWriter, r *http.Request, into any) bool {
	dec := json.NewDecoder(http.MaxBytesReader(w, r.Body, 1<<20))
	dec.DisallowUnknownFields()
	if err := dec.Decode(into); err != nil {
		refuseAdmin(w, http.StatusBadRequest, "read body: "+err.Error())
		return false
	}
	return true
}

func (s *Sim) adminAddGuest(w http.ResponseWriter, r *http.Request) {
	var d Guest
	if !readAdmin(w, r, &d) {
		return
	}
	g, err := s.AddGuest(d)
	if err != nil {
		refuseAdmin(w, http.StatusConflict, err.Error())
		return
	}
	writeJSON(w, http.StatusCreated, g)
}

func (s *Sim) adminDestroyGuest(w http.ResponseWriter, r *http.Request) {
	vmid, err := strconv.Atoi(r.PathValue("vmid"))
	if err != nil || !s.DestroyGuest(vmid) {
		refuseAdmin(w, http.StatusNotFound, "no guest "+r.PathValue("vmid"))
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

// faultState is a fault as the interface shows it. In what comes in, delay is
// text such as "2s".
type faultState struct {
	Fault
	ID    int    `json:"id"`
	Hits  int    `json:"hits"`
	Held  int    `json:"held"`
	Delay string `json:"delay,omitempty"`
}

func (in *Injected) state() faultState {
	return faultState{Fault: in.fault, ID: in.id, Hits: in.hits, Held: len(in.held), Delay: in.fault.Delay.String()}
}

func (s *Sim) faultList() []faultState {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []faultState
	for _, in := range s.faults {
		out = append(out, in.state())
	}
	return out
}

func (s *Sim) adminInject(w http.ResponseWriter, r *http.Request) {
	var f struct {
		Fault
		Delay string `json:"delay"`
	}
	if !readAdmin(w, r, &f) {
		return
	}
	if f.Delay != "" {
		d, err := time.ParseDuration(f.Delay)
		if err != nil {
			refuseAdmin(w, http.StatusBadRequest, "delay: "+err.Error())
			return
		}
		f.Fault.Delay = d
	}
	in, err := s.Inject(f.Fault)
	if err != nil {
		refuseAdmin(w, http.StatusBadRequest, err.Error())
		return
	}
	s.mu.Lock()
	state := in.state()
	s.mu.Unlock()
	writeJSON(w, http.StatusCreated, state)
}

func (s *Sim) adminFault(w http.ResponseWriter, r *http.Request) *Injected {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, in := range s.faults {
		if itoa(in.id) == r.PathValue("id") {
			return in
		}
	}
	refuseAdmin(w, http.StatusNotFound, "no fault "+r.PathValue("id"))
	return nil
}

func (s *Sim) adminRelease(w http.ResponseWriter, r *http.Request) {
	if in := s.adminFault(w, r); in != nil {
		in.Release()
		w.WriteHeader(http.StatusNoContent)
	}
}

func (s *Sim) adminRemove(w http.ResponseWriter, r *http.Request) {
	if in := s.adminFault(w, r); in != nil {
		in.Remove()
		w.WriteHeader(http.StatusNoContent)
	}
}

// adminNode takes {"up":…,"quorate":…,"behind":…,"proxy":…,"daemon":…,"skew":…} and
// {"reload_proxy":true}, {"kill_proxy":true}, {"restart_daemon":true},
// {"rotate_tasks":true}.
func (s *Sim) adminNode(w http.ResponseWriter, r *http.Request) {
	var in struct {
		Up      *bool  `json:"up"`
		Quorate *bool  `json:"quorate"`
		Behind  *bool  `json:"behind"`
		Proxy   string `json:"proxy"`
		Daemon  string `json:"daemon"`
		Skew    string `json:"skew"`
		Reload  bool   `json:"reload_proxy"`
		Kill    bool   `json:"kill_proxy"`
		Restart bool   `json:"restart_daemon"`
		Rotate  bool   `json:"rotate_tasks"`
	}
	if !readAdmin(w, r, &in) {
		return
	}
	states := map[string]Health{"": 0, "serving": Serving, "refusing": Refusing, "no-route": NoRoute, "silent": Silent, "hanging": Hanging}
	ch := NodeControl{
		Up: in.Up, Quorate: in.Quorate, Behind: in.Behind,
		ReloadProxy: in.Reload, KillProxy: in.Kill, RestartDaemon: in.Restart,
	}
	var known bool
	if ch.Proxy, known = states[in.Proxy]; !known {
		refuseAdmin(w, http.StatusBadRequest, "proxy: unknown state "+strconv.Quote(in.Proxy))
		return
	}
	if ch.Daemon, known = states[in.Daemon]; !known {
		refuseAdmin(w, http.StatusBadRequest, "daemon: unknown state "+strconv.Quote(in.Daemon))
		return
	}
	if in.Skew != "" {
		d, err := time.ParseDuration(in.Skew)
		if err != nil {
			refuseAdmin(w, http.StatusBadRequest, "skew: "+err.Error())
			return
		}
		ch.Skew = &d
	}
	if err := s.Node(r.PathValue("node"), ch); err != nil { //nolint:contextcheck // the listeners outlive this request
		refuseAdmin(w, http.StatusNotFound, strings.TrimSpace(err.Error()))
		return
	}
	if in.Rotate {
		s.RotateTasks(r.PathValue("node"))
	}
	w.WriteHeader(http.StatusNoContent)
}
