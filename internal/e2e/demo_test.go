package e2e

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"gantry/internal/testkit"
)

func TestMain(m *testing.M) { testkit.Main(m) }

const demoStart = 60 * time.Second

func startDemo(t *testing.T) (p *testkit.Process, viewer string) {
	t.Helper()
	for _, name := range []string{"gantryd", "gantry-relay"} { // beside it, where it looks for them
		testkit.Bin(t, name)
	}
	p = testkit.Start(t, testkit.Bin(t, "demo"))
	return p, p.WaitLine(demoStart, `^viewer: (http://127\.0\.0\.1:\d+/play/demo)$`)[1]
}

// childrenOf returns the processes that another one has started, by name.
func childrenOf(pid int) map[string]int {
	all := map[string]int{}
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, path := range stats {
		stat, err := os.ReadFile(path)
		if err != nil {
			continue
		}
		text := string(stat)
		open, shut := strings.IndexByte(text, '('), strings.LastIndexByte(text, ')')
		if f := strings.Fields(text[shut+1:]); len(f) > 1 && f[1] == strconv.Itoa(pid) {
			id, _ := strconv.Atoi(strings.TrimSpace(text[:open]))
			all[text[open+1:shut]] = id
		}
	}
	return all
}

func gone(pid int) bool { return syscall.Kill(pid, 0) == syscall.ESRCH }

// The demo prints an address that answers, twice at once (a second checkout), and Ctrl-C leaves nothing behind.
func TestDemo(t *testing.T) {
	first, viewer := startDemo(t)
	second, other := startDemo(t)
	if viewer == other {
		t.Errorf("both demos are at %s", viewer)
	}
	client := &http.Client{Timeout: 5 * time.Second}
	for _, url := range []string{viewer, other} {
		res, err := client.Get(url)
		if err != nil {
			t.Fatal(err)
		}
		_ = res.Body.Close()
		if res.StatusCode != http.StatusOK {
			t.Errorf("%s: %s", url, res.Status)
		}
	}
	client.CloseIdleConnections()
	for _, p := range []*testkit.Process{first, second} {
		daemons := childrenOf(p.Pid())
		if len(daemons) != 2 {
			t.Errorf("the demo runs %v, want the two daemons", daemons)
		}
		p.Signal(syscall.SIGINT)
		if status := p.Exits(20 * time.Second); status != 0 {
			t.Errorf("Ctrl-C: exit status %d\n%s", status, p.Log())
		}
		for name, pid := range daemons {
			if !gone(pid) {
				t.Errorf("%s (process %d) outlives the demo", name, pid)
			}
		}
	}
}

// A daemon that dies takes the demo with it, and the demo says which.
func TestDemoEndsWithItsDaemons(t *testing.T) {
	for _, victim := range []string{"gantryd", "gantry-relay"} {
		t.Run(victim, func(t *testing.T) {
			p, _ := startDemo(t)
			daemons := childrenOf(p.Pid())
			pid, ok := daemons[victim]
			if !ok {
				t.Fatalf("the demo runs %v", daemons)
			}
			_ = syscall.Kill(pid, syscall.SIGKILL)
			if status := p.Exits(20 * time.Second); status != 1 {
				t.Errorf("exit status %d, want 1", status)
			}
			if want := fmt.Sprintf("demo: %s: signal: killed", victim); !strings.Contains(p.Log(), want) {
				t.Errorf("no %q in what the demo said:\n%s", want, p.Log())
			}
			for name, pid := range daemons {
				if !gone(pid) {
					t.Errorf("%s (process %d) outlives the demo", name, pid)
				}
			}
		})
	}
}
