package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"gantry/internal/testkit"
)

// A relay that is restarted, or that crashes, has its publisher and its viewers back without anybody's doing, in Chromium too.
func TestRelayRestart(t *testing.T) {
	web, media := testkit.FreeTCP(t), testkit.FreeTCP(t)
	start := func() *testkit.Process {
		return testkit.Start(t, testkit.Bin(t, "gantry-relay"), "--http", web, "--rtc", media, "--srt", "", "--rtmp", "")
	}
	first := start()
	config := filepath.Join(t.TempDir(), "gantryd.yaml")
	text := fmt.Sprintf("http: \"\"\nvideo:\n  source: testsrc\n  testsrc: {width: 640, height: 360, rate: 30}\n"+
		"encoder: {bitrate: 1000k}\nuplinks:\n  - name: relay\n    whip: {url: \"http://%s/whip/demo\"}\n", web)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	testkit.Start(t, testkit.Bin(t, "gantryd"), "--config", config)
	viewer := testkit.Start(t, testkit.Bin(t, "gantry-relay"), "watch", "--reconnect", "--timeout", "2m", "http://"+web+"/whep/demo")
	viewer.WaitLine(30*time.Second, `[1-9]\d* decodable`)

	page := openPlayer(t, "http://"+web+"/play/demo")

	// back waits until the viewer has begun anew n times and has pictures again.
	back := func(what string, n int) {
		t.Helper()
		begun := time.Now()
		testkit.Eventually(t, 40*time.Second, what, func() bool {
			log := viewer.Log()
			return strings.Count(log, "connecting again") >= n && picture.MatchString(log[strings.LastIndex(log, "connecting again"):])
		})
		client := time.Since(begun)
		shows(page, 40*time.Second)
		t.Logf("%s: after %v, a second of it in Chromium after %v", what, client.Round(100*time.Millisecond), time.Since(begun).Round(100*time.Millisecond))
	}
	first.Signal(syscall.SIGTERM)
	if status := first.Exits(15 * time.Second); status != 0 {
		t.Fatalf("exit status %d", status)
	}
	second := start()
	back("the picture after a restart", 1)
	second.Kill()
	start()
	back("the picture after a crash", 2)
}

// picture is what the viewer says when pictures come: not before the first second of a session is over.
var picture = regexp.MustCompile(`[1-9][0-9.]* fps`)
