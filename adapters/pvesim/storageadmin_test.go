package pvesim_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"writ/adapters/pvesim"
)

func TestAdminSetsUpStoragesAndDisks(t *testing.T) {
	sim, err := pvesim.New(pvesim.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(sim.Close)
	h := sim.Handler()
	ask := func(method, path, body string) (int, string) {
		t.Helper()
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), method, path, strings.NewReader(body)))
		got, err := io.ReadAll(w.Result().Body)
		if err != nil {
			t.Fatal(err)
		}
		return w.Code, string(got)
	}
	iso := url.QueryEscape("nfs:iso/a.iso")
	cases := []struct {
		name, method, path, body string
		status                   int
	}{
		{"storage", "POST", "/sim/storages", `{"id":"nfs","type":"nfs","path":"/mnt/pve/nfs","content":["iso","backup"],"shared":true}`, http.StatusNoContent},
		{"storage without a type", "POST", "/sim/storages", `{"id":"x"}`, http.StatusBadRequest},
		{"unknown field", "POST", "/sim/storages", `{"name":"x"}`, http.StatusBadRequest},
		{"volume", "POST", "/sim/volumes", `{"volid":"nfs:iso/a.iso","node":"pve1","size":512,"content":"iso"}`, http.StatusNoContent},
		{"volume on no storage", "POST", "/sim/volumes", `{"volid":"no:iso/a.iso","node":"pve1"}`, http.StatusConflict},
		{"drop a volume", "DELETE", "/sim/volumes?node=pve1&volid=" + iso, "", http.StatusNoContent},
		{"drop it again", "DELETE", "/sim/volumes?node=pve1&volid=" + iso, "", http.StatusNotFound},
		{"guest", "POST", "/sim/guests", `{"vmid":105,"disks":["local-lvm:1"]}`, http.StatusCreated},
		{"backup", "POST", "/sim/backups", `{"vmid":105,"storage":"nfs"}`, http.StatusCreated},
		{"backup of no guest", "POST", "/sim/backups", `{"vmid":106,"storage":"nfs"}`, http.StatusConflict},
		{"disk", "POST", "/sim/disks", `{"node":"pve1","devpath":"/dev/sdb","size":1073741824,"serial":"S1","partitions":[{"devpath":"/dev/sdb1","size":1048576}]}`, http.StatusNoContent},
		{"disk without a size", "POST", "/sim/disks", `{"node":"pve1","devpath":"/dev/sdc"}`, http.StatusConflict},
		{"pool", "POST", "/sim/diskpools", `{"node":"pve1","kind":"zfs","name":"tank","members":["/dev/sdb"]}`, http.StatusNoContent},
		{"pool of no kind", "POST", "/sim/diskpools", `{"node":"pve1","kind":"raid","name":"md0"}`, http.StatusConflict},
		{"unplug", "DELETE", "/sim/disks?node=pve1&devpath=/dev/sdz", "", http.StatusNotFound},
		{"lock of a storage", "POST", "/sim/locks", `{"node":"pve1","storage":"nfs"}`, http.StatusCreated},
		{"the same again", "POST", "/sim/locks", `{"node":"pve1","storage":"nfs"}`, http.StatusConflict},
	}
	for _, c := range cases {
		status, body := ask(c.method, c.path, c.body)
		if status != c.status {
			t.Errorf("%s: got %d %s, want %d", c.name, status, body, c.status)
		}
	}
	for path, want := range map[string]string{
		"/sim/storages": `"id":"nfs"`, "/sim/volumes": "nfs:backup/vzdump-qemu-105-", "/sim/disks": `"serial":"S1"`, "/sim/diskpools": `"name":"tank"`,
	} {
		if _, body := ask("GET", path, ""); !strings.Contains(body, want) {
			t.Errorf("%s: got %s, want %s in it", path, body, want)
		}
	}
	check(t, "remove", first(ask("DELETE", "/sim/storages/nfs", "")), http.StatusNoContent)
	check(t, "unplug", first(ask("DELETE", "/sim/disks?node=pve1&devpath=/dev/sdb", "")), http.StatusNoContent)
	check(t, "storages left", len(sim.Storages()), 2)
	check(t, "disks left", len(sim.Disks()), 0)
}
