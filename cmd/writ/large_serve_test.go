package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"writ/adapters/httpapi"
)

// A servingProcess is writ serve, as a process of its own.
type servingProcess struct {
	cmd *exec.Cmd
	url string
	log string // file
}

// serveLarge starts writ serve over a large ledger, with a simulated cluster as
// host, and gives it when it is ready, with how long that took.
func serveLarge(b *testing.B, l *largeLedger) (*servingProcess, time.Duration) {
	b.Helper()
	dir := b.TempDir()
	sim := pvesimFlags{listen: "127.0.0.1:0", nodes: []string{"pve1", "pve2", "pve3"}, guests: 1, seed: 1, plain: true, taskTime: time.Millisecond, authDelay: time.Millisecond}
	host, stop, err := sim.start(dir)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := stop(); err != nil {
			b.Error(err)
		}
	})
	// The program as it is shipped: its memory is managed otherwise with cgo.
	program := filepath.Join(dir, "writ")
	build := exec.Command("go", "build", "-o", program, ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if text, err := build.CombinedOutput(); err != nil {
		b.Fatalf("go build: %v\n%s", err, text)
	}
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	addr := free.Addr().String()
	if err := free.Close(); err != nil {
		b.Fatal(err)
	}
	p := &servingProcess{url: "http://" + addr, log: filepath.Join(dir, "log")}
	logFile, err := os.Create(p.log)
	if err != nil {
		b.Fatal(err)
	}
	defer logFile.Close()
	p.cmd = exec.Command(program, "serve", "--config", filepath.Join(l.dir, configName))
	p.cmd.Stderr = logFile
	p.cmd.Env = []string{
		"PATH=" + os.Getenv("PATH"), "WRIT_LISTEN=" + addr, "WRIT_INSTANCE=writ-2", "WRIT_LIMITS_REQUESTS_PER_SECOND=100000",
		"WRIT_HOST_PROXMOX_URL=" + host.URL, "WRIT_HOST_PROXMOX_TOKEN_ID=" + host.TokenID, "WRIT_HOST_PROXMOX_TOKEN_SECRET_FILE=" + host.SecretFile,
		"WRIT_HOST_PROXMOX_USER=" + host.User, "WRIT_HOST_PROXMOX_PASSWORD_FILE=" + host.PasswordFile,
	}
	began := time.Now()
	if err := p.cmd.Start(); err != nil {
		b.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = p.cmd.Wait()
	}()
	b.Cleanup(func() {
		_ = p.cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-ended:
		case <-time.After(time.Minute):
			b.Error("the service did not end")
			_ = p.cmd.Process.Kill()
		}
	})
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-ended:
			p.fail(b, "the service ended")
		case <-tick.C:
		}
		if resp, err := http.Get(p.url + "/readyz"); err == nil {
			_ = resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return p, time.Since(began)
			}
		}
		if time.Since(began) > 5*time.Minute {
			p.fail(b, "the service did not become ready")
		}
	}
}

func (p *servingProcess) fail(b *testing.B, why string) {
	b.Helper()
	text, _ := os.ReadFile(p.log)
	b.Fatalf("%s:\n%s", why, text)
}

// get asks for one thing and gives how long the whole answer took.
func (p *servingProcess) get(b *testing.B, path string, into any) time.Duration {
	b.Helper()
	began := time.Now()
	resp, err := http.Get(p.url + path)
	if err != nil {
		b.Fatal(err)
	}
	data, err := io.ReadAll(resp.Body)
	took := time.Since(began)
	if err := resp.Body.Close(); err != nil {
		b.Fatal(err)
	}
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %.300s", resp.Status, data)
	}
	if err == nil {
		err = json.Unmarshal(data, into)
	}
	if err != nil {
		b.Fatalf("GET %s: %v", path, err)
	}
	return took
}

// processor gives the processor time that it has used.
func (p *servingProcess) processor(b *testing.B) time.Duration {
	b.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.cmd.Process.Pid))
	if err != nil {
		b.Fatal(err)
	}
	_, behind, _ := strings.Cut(string(text), ") ") // the name may hold anything
	fields := strings.Fields(behind)
	user, _ := strconv.Atoi(fields[11])
	system, _ := strconv.Atoi(fields[12])
	return time.Duration(user+system) * 10 * time.Millisecond // Linux: USER_HZ is 100
}

// memory gives resident memory in MiB: now, and the most that it ever was.
func (p *servingProcess) memory(b *testing.B) (now, peak float64) {
	b.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		b.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		name, value, _ := strings.Cut(line, ":")
		kib, _ := strconv.ParseFloat(strings.TrimSuffix(strings.TrimSpace(value), " kB"), 64)
		switch name {
		case "VmRSS":
			now = kib / 1024
		case "VmHWM":
			peak = kib / 1024
		}
	}
	return now, peak
}

// benchLargeServe starts the service as people do, with the ops of before in
// flight, and asks it for pages of ops and for nonces.
func benchLargeServe(b *testing.B, l *largeLedger) {
	p, ready := serveLarge(b, l)
	b.ReportMetric(ready.Seconds()*1e3, "ready-ms")
	b.ReportMetric(p.processor(b).Seconds()*1e3, "ready-cpu-ms")
	var pages []time.Duration
	worst := time.Duration(0)
	for _, q := range []string{
		"", "state=in-flight", "state=succeeded", "state=failed", "vmid=%d", "signer=alice&state=succeeded&node=pve1", "signer=mallory",
		"signer=bob&vmid=%d", "state=voided&from=2020-01-01T00:00:00Z",
	} {
		var some []time.Duration
		for range 100 {
			path := "/v1/ops?limit=100&" + q
			if strings.Contains(q, "%d") {
				path = fmt.Sprintf(path, 100+randomBelow(b, 65536))
			}
			var list httpapi.OpList
			some = append(some, p.get(b, path, &list))
			if list.AsOf == "" {
				b.Fatalf("GET %s: a list as of nothing", path)
			}
		}
		pages = append(pages, some...)
		total := time.Duration(0)
		for _, d := range some {
			total += d
		}
		worst = max(worst, total/time.Duration(len(some)))
	}
	reportTimes(b, "page", pages)
	b.ReportMetric(float64(worst.Microseconds()), "worst-page-mean-µs")
	var asked []time.Duration
	for range 5000 {
		var a httpapi.Applied
		asked = append(asked, p.get(b, "/v1/applied/"+string(largeNonce(randomBelow(b, l.ops)/100*100+50)), &a))
		if !a.Applied {
			b.Fatal("an applied key is told not to be one")
		}
	}
	reportTimes(b, "applied", asked)
	now, peak := p.memory(b)
	b.ReportMetric(now, "RSS-MiB")
	b.ReportMetric(peak, "peak-MiB")
}
