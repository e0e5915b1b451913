package e2e

import (
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"gantry/internal/testkit"
	"gantry/internal/testkit/chromium"
	"gantry/internal/testkit/netns"
)

// A firewall lets packets of one IP protocol to and from some ports of the relay's side through.
func firewall(server netns.Namespace, tcp, udp []uint16) func(ip []byte) bool {
	addr := server.Addr.As4()
	return func(ip []byte) bool {
		head := 0
		if len(ip) > 0 {
			head = int(ip[0]&15) * 4
		}
		if len(ip) < 20 || len(ip) < head+4 || ip[0]>>4 != 4 {
			return false
		}
		port := binary.BigEndian.Uint16(ip[head+2:]) // the destination's
		if string(ip[12:16]) == string(addr[:]) {
			port = binary.BigEndian.Uint16(ip[head:])
		}
		open := map[byte][]uint16{6: tcp, 17: udp}[ip[9]]
		for _, p := range open {
			if p == port {
				return true
			}
		}
		return false
	}
}

// A viewer plays who can reach nothing but a TURN server (coturn), and one whose firewall lets no UDP out at all.
func TestWaysAroundFirewalls(t *testing.T) {
	delay := netns.Impairment{Delay: 5 * time.Millisecond}
	here, there, link := netns.Pair(t, delay, delay)
	host := there.Addr.String()
	const http, media, turn = 8080, 8189, 3478

	turnserver := testkit.StartCmd(t, there.Command("turnserver", "-n", "--listening-ip="+host, "--relay-ip="+host, fmt.Sprintf("--listening-port=%d", turn),
		"--use-auth-secret", "--static-auth-secret=turn-secret-1", "--realm=gantry", "--no-tls", "--no-dtls", "--no-cli", "--allow-loopback-peers",
		"--min-port=50000", "--max-port=50099", "--log-file=stdout", "--simple-log", "--verbose", "--pidfile="+filepath.Join(t.TempDir(), "pid"), "--userdb="+filepath.Join(t.TempDir(), "db")))
	t.Cleanup(turnserver.Kill) // it takes SIGTERM for a crash
	file := filepath.Join(t.TempDir(), "relay.yaml")
	text := fmt.Sprintf("http: %s:%d\nrtc: %s:%d\nsrt: \"\"\nrtmp: \"\"\npublish-token: [publish-token-1]\nice-servers:\n  - {url: \"turn:%s:%d?transport=udp\", secret: turn-secret-1}\n",
		host, http, host, media, host, turn)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	relay := testkit.StartCmd(t, there.Command(testkit.Bin(t, "gantry-relay"), "--config", file))
	relay.WaitLine(30*time.Second, `msg=serving`)
	config := filepath.Join(t.TempDir(), "gantryd.yaml")
	text = fmt.Sprintf("http: \"\"\nvideo:\n  source: testsrc\n  testsrc: {width: 640, height: 360, rate: 30}\n"+
		"encoder: {bitrate: 1000k}\nuplinks:\n  - name: relay\n    whip: {url: \"http://%s:%d/whip/demo\", token: publish-token-1}\n", host, http)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	testkit.StartCmd(t, there.Command(testkit.Bin(t, "gantryd"), "--config", config))
	relay.WaitLine(30*time.Second, `stream is live`)

	page := chromium.Launch(t, chromium.Options{Prefix: here.Prefix()})
	for _, c := range []struct {
		name     string
		tcp, udp []uint16
	}{
		{"TURN alone", []uint16{http}, []uint16{turn}},
		{"no UDP", []uint16{http, media}, nil},
	} {
		link.Filter(firewall(*there, c.tcp, c.udp))
		begun := time.Now()
		page.Navigate(fmt.Sprintf("http://%s:%d/play/demo", host, http))
		page.Wait(40*time.Second, player+`.state === "playing"`, player+".status")
		page.Wait(20*time.Second, player+`.video.getVideoPlaybackQuality().totalVideoFrames > 60`, player+".status")
		t.Logf("%s: two seconds of pictures after %v", c.name, time.Since(begun).Round(100*time.Millisecond))
	}
	if down, up := link.Counters(); down.Filtered+up.Filtered == 0 {
		t.Error("the firewall had nothing to do")
	}
	if log := turnserver.Log(); !strings.Contains(log, "ALLOCATE processed, success") {
		t.Errorf("the TURN server was not used:\n%s", log)
	}
}
