package kills_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// built is the program as an operator would get it, made once for all tests.
var built struct {
	once sync.Once
	dir  string
	out  []byte
	err  error
}

func TestMain(m *testing.M) {
	m.Run()
	if built.dir != "" {
		_ = os.RemoveAll(built.dir)
	}
}

// build gives the program.
func build(t *testing.T) string {
	t.Helper()
	if _, err := exec.LookPath("go"); err != nil {
		if os.Getenv("WRIT_CI") != "" {
			t.Fatal(err)
		}
		t.Skipf("the program can't be built, so nothing is killed: %v", err)
	}
	built.once.Do(func() {
		built.dir, built.err = os.MkdirTemp("", "writ-kills-") //nolint:usetesting // it outlives the test that makes it
		if built.err == nil {
			built.out, built.err = exec.Command("go", "build", "-o", built.dir, "writ/cmd/writ").CombinedOutput()
		}
	})
	if built.err != nil {
		t.Fatalf("build the program: %v\n%s", built.err, built.out)
	}
	return filepath.Join(built.dir, "writ")
}

// A process is the program, running.
type process struct {
	cmd   *exec.Cmd
	log   *tail
	ended chan struct{}
}

// run starts the program. It ends with the test at the latest.
func run(t *testing.T, program string, env []string, args ...string) *process {
	t.Helper()
	p := &process{cmd: exec.Command(program, args...), log: &tail{}, ended: make(chan struct{})}
	p.cmd.Env, p.cmd.Stderr = env, p.log
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		_ = p.cmd.Wait() // how it ended is asked of ProcessState
		close(p.ended)
	}()
	t.Cleanup(func() { p.kill() })
	return p
}

// kill ends it by SIGKILL and waits until it is gone. False: it had ended by
// itself.
func (p *process) kill() bool {
	_ = p.cmd.Process.Kill() // it may be gone already
	<-p.ended
	return p.cmd.ProcessState.ExitCode() == -1
}

// address waits until the process has written where it answers. It gives up if
// the process ends or patience does.
func (p *process) address(path string, patience time.Duration) (string, bool) {
	enough := time.NewTimer(patience)
	defer enough.Stop()
	look := time.NewTicker(time.Millisecond)
	defer look.Stop()
	for {
		if text, err := os.ReadFile(path); err == nil {
			return strings.TrimSpace(string(text)), true
		}
		select {
		case <-look.C:
		case <-p.ended:
			return "", false
		case <-enough.C:
			return "", false
		}
	}
}

// A tail keeps what a process has logged: its end, and every line that must not
// be there.
type tail struct {
	mu     sync.Mutex
	end    bytes.Buffer
	alarms []string
}

// Write implements io.Writer.
func (l *tail) Write(data []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for line := range strings.Lines(string(data)) {
		for _, word := range []string{"ALARM", "panic", "fatal error", "DATA RACE"} {
			if strings.Contains(line, word) {
				l.alarms = append(l.alarms, strings.TrimSpace(line))
			}
		}
	}
	if l.end.Len() > 64<<10 {
		l.end.Reset()
	}
	return l.end.Write(data)
}

func (l *tail) text() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.end.String()
}

func (l *tail) wrong() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.alarms
}
