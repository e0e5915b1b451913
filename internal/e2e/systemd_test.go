package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"gantry/internal/testkit"
)

// A container is a booted Debian whose systemd is the only part of it that matters.
type container struct {
	t    *testing.T
	init int // its process 1, seen from here
}

// boot boots the root folder of $GANTRY_SYSTEMD_ROOT, which stays as it is, with files bound into it (there: here).
func boot(t *testing.T, files map[string]string) *container {
	t.Helper()
	root := os.Getenv("GANTRY_SYSTEMD_ROOT")
	if root == "" {
		t.Skip("needs a Debian root folder with systemd: make test-peers")
	}
	args := []string{"--quiet", "--register=no", "--keep-unit", "--private-network", "--volatile=overlay", "--console=pipe", "-D", root}
	for there, here := range files {
		args = append(args, "--bind="+here+":"+there)
	}
	nspawn := testkit.StartCmd(t, exec.Command("systemd-nspawn", append(args, "--boot")...))
	c := &container{t: t}
	testkit.Eventually(t, 90*time.Second, "the container has booted", func() bool {
		for _, pid := range childrenOf(nspawn.Pid()) { // the first one is not yet process 1
			c.init = pid
		}
		out, _ := c.run("systemctl", "is-system-running")
		return out == "running" || out == "degraded"
	})
	t.Cleanup(func() {
		_, _ = c.run("systemctl", "poweroff")
		nspawn.Exits(60 * time.Second)
	})
	return c
}

// run runs a command in the container and returns what it printed.
func (c *container) run(args ...string) (string, error) {
	line := append([]string{"-t", strconv.Itoa(c.init), "-m", "-u", "-i", "-n", "-p", "--"}, args...)
	out, err := exec.Command("nsenter", line...).CombinedOutput()
	return strings.TrimSpace(string(out)), err
}

func (c *container) must(args ...string) string {
	c.t.Helper()
	out, err := c.run(args...)
	if err != nil {
		logs, _ := c.run("journalctl", "--no-pager", "-u", "gantryd", "-u", "gantry-relay")
		c.t.Fatalf("%v: %v\n%s\n%s", args, err, out, logs)
	}
	return out
}

func (c *container) property(unit, name string) string {
	c.t.Helper()
	return c.must("systemctl", "show", "--value", "-p", name, unit)
}

// A real systemd runs the units: it waits for readiness, takes the log with its keys, restarts a daemon that hangs, and stops
// both cleanly.
func TestSystemdRunsTheUnits(t *testing.T) {
	if os.Getenv("GANTRY_SYSTEMD_ROOT") == "" {
		t.Skip("needs a Debian root folder with systemd: make test-peers")
	}
	root := testkit.Root(t)
	dir := t.TempDir()
	// Without FFmpeg's libraries, which the container does not have.
	build := exec.Command("go", "build", "-tags", "nolibav", "-o", dir+"/", "./cmd/...")
	build.Dir = root
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	etc := filepath.Join(dir, "etc")
	for path, text := range map[string]string{
		etc + "/relay.yaml": "http: 127.0.0.1:8080\nrtc: 127.0.0.1:8189\n",
		etc + "/gantryd.yaml": "http: \"\"\nvideo:\n  source: testsrc\n  testsrc: {width: 320, height: 180, rate: 30}\naudio: {source: tone}\n" +
			"uplinks:\n  - name: relay\n    whip: {url: \"http://127.0.0.1:8080/whip/demo\"}\n",
		dir + "/watchdog.conf": "[Service]\nWatchdogSec=3\n", // so that the test need not wait for the unit's own
	} {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	c := boot(t, map[string]string{
		"/usr/bin/gantryd":                        dir + "/gantryd",
		"/usr/bin/gantry-relay":                   dir + "/gantry-relay",
		"/etc/gantry":                             etc,
		"/usr/lib/systemd/system/gantryd.service": root + "/systemd/gantryd.service",
		"/usr/lib/systemd/system/gantryd.service.d/watchdog.conf": dir + "/watchdog.conf",
		"/usr/lib/systemd/system/gantry-relay.service":            root + "/systemd/gantry-relay.service",
		"/usr/lib/sysusers.d/gantry.conf":                         root + "/systemd/sysusers.d/gantry.conf",
		"/usr/lib/tmpfiles.d/gantry.conf":                         root + "/systemd/tmpfiles.d/gantry.conf",
	})

	// `start` returns when the daemons have said that they are ready.
	c.must("systemctl", "start", "gantry-relay", "gantryd")
	for _, unit := range []string{"gantry-relay", "gantryd"} {
		if got := c.property(unit, "ActiveState"); got != "active" {
			t.Errorf("%s is %s", unit, got)
		}
	}
	watch := func() {
		t.Helper()
		c.must("gantry-relay", "watch", "--wait", "--frames", "30", "--timeout", "30s", "http://127.0.0.1:8080/whep/demo")
	}
	watch()

	var record map[string]any
	line := strings.Split(c.must("journalctl", "--no-pager", "-o", "json", "-u", "gantry-relay", "STREAM=demo"), "\n")[0]
	if err := json.Unmarshal([]byte(line), &record); err != nil || !strings.Contains(fmt.Sprint(record["MESSAGE"]), "stream=demo") {
		t.Errorf("the journal's record of the stream: %v in %s", err, line)
	}

	c.must("systemctl", "reload", "gantryd")
	if got := c.property("gantryd", "ActiveState"); got != "active" {
		t.Errorf("after a reload gantryd is %s", got)
	}

	// One that hangs is restarted, and is on the air again.
	c.must("systemctl", "kill", "--signal=STOP", "gantryd")
	testkit.Eventually(t, 60*time.Second, "the watchdog restarts gantryd", func() bool {
		return c.property("gantryd", "NRestarts") == "1" && c.property("gantryd", "ActiveState") == "active"
	})
	watch()

	c.must("systemctl", "stop", "gantryd", "gantry-relay")
	for _, unit := range []string{"gantry-relay", "gantryd"} {
		if got := c.property(unit, "Result"); got != "success" {
			t.Errorf("%s stopped with %s", unit, got)
		}
	}
}
