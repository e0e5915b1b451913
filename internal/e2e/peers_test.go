package e2e

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"gantry/internal/testkit"
)

// unstable returns the root folder of a Debian unstable with the newest ffmpeg; `make test-peers` provides it.
func unstable(t *testing.T) string {
	t.Helper()
	root := os.Getenv("GANTRY_PEERS_ROOT")
	if root == "" {
		t.Skip("needs a Debian unstable root folder: make test-peers")
	}
	return root
}

// startRelay starts the relay and returns its base address.
func startRelay(t testing.TB) string {
	t.Helper()
	return startRelayAt(t, testkit.Bin(t, "gantry-relay"), "--srt", "", "--rtmp", "")
}

func startRelayAt(t testing.TB, program string, args ...string) string {
	t.Helper()
	addr := testkit.FreeTCP(t)
	testkit.Start(t, program, append([]string{"--http", addr, "--rtc", testkit.FreeTCP(t), "--hold", "1s"}, args...)...)
	client := &http.Client{Timeout: time.Second}
	defer client.CloseIdleConnections()
	testkit.Eventually(t, 20*time.Second, "the relay answers", func() bool {
		res, err := client.Get("http://" + addr + "/healthz")
		if err != nil {
			return false
		}
		_, _ = io.Copy(io.Discard, res.Body)
		return res.Body.Close() == nil && res.StatusCode == http.StatusOK
	})
	return "http://" + addr
}

// ffmpeg's own WHIP muxer, whose DTLS, ICE and SDP are nobody's that we use, publishes; what a viewer gets is what ffmpeg sent.
func TestFFmpegPublishes(t *testing.T) {
	root := unstable(t)
	base := startRelay(t)
	ffmpeg := exec.Command("chroot", root, "ffmpeg", "-hide_banner", "-loglevel", "warning", "-re",
		"-f", "lavfi", "-i", "testsrc2=size=640x360:rate=30", "-f", "lavfi", "-i", "sine=frequency=440:sample_rate=48000",
		"-c:v", "libx264", "-preset", "ultrafast", "-tune", "zerolatency", "-profile:v", "baseline", "-pix_fmt", "yuv420p", "-g", "30", "-b:v", "1M",
		"-c:a", "libopus", "-ac", "2", "-t", "30", "-f", "whip", base+"/whip/ffmpeg")
	publisher := testkit.StartCmd(t, ffmpeg)
	defer publisher.Kill()

	out := filepath.Join(t.TempDir(), "seen.h264")
	said, err := exec.Command(testkit.Bin(t, "gantry-relay"), "watch", "--wait", "--frames", "60", "--timeout", "25s", "--out", out, base+"/whep/ffmpeg").CombinedOutput()
	if err != nil {
		t.Fatalf("the viewer: %v\n%s", err, said)
	}

	// The machine's own ffmpeg decodes what arrived without a complaint, and it is the picture that was sent.
	decoded, err := exec.Command("ffmpeg", "-hide_banner", "-loglevel", "error", "-i", out, "-f", "framemd5", "-").CombinedOutput()
	if err != nil || strings.Contains(string(decoded), "error") {
		t.Fatalf("decode: %v\n%s", err, decoded)
	}
	if n := strings.Count(string(decoded), "\n0,"); n < 60 {
		t.Errorf("%d pictures decoded, want 60", n)
	}
	size := testkit.Output(t, "ffprobe", "-v", "error", "-show_entries", "stream=width,height,codec_name", "-of", "csv=p=0", out)
	if got := strings.TrimSpace(size); got != "h264,640,360" {
		t.Errorf("a viewer sees %s", got)
	}
}

// A wrong token is refused in a way that ffmpeg reports as such.
func TestFFmpegWithWrongToken(t *testing.T) {
	root := unstable(t)
	addr := testkit.FreeTCP(t)
	relay := exec.Command(testkit.Bin(t, "gantry-relay"), "--http", addr, "--rtc", testkit.FreeTCP(t), "--srt", "", "--rtmp", "")
	relay.Env = append(os.Environ(), "GANTRY_PUBLISH_TOKEN=right-token-of-the-test")
	testkit.StartCmd(t, relay)
	testkit.Eventually(t, 20*time.Second, "the relay answers", func() bool {
		res, err := http.Get("http://" + addr + "/healthz")
		if err == nil {
			_ = res.Body.Close()
		}
		return err == nil
	})
	out, err := exec.Command("chroot", root, "ffmpeg", "-hide_banner", "-loglevel", "warning",
		"-f", "lavfi", "-i", "testsrc2=size=320x180:rate=30", "-c:v", "libx264", "-profile:v", "baseline", "-pix_fmt", "yuv420p", "-t", "5",
		"-f", "whip", "-authorization", "wrong", fmt.Sprintf("http://%s/whip/ffmpeg", addr)).CombinedOutput()
	if err == nil || !strings.Contains(string(out), "401") {
		t.Errorf("ffmpeg with a wrong token: %v\n%s", err, out)
	}
}
