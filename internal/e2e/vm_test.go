package e2e

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"gantry/internal/testkit"
	"gantry/internal/testkit/chromium"
	"gantry/internal/testkit/vm"
)

// A real capture driver: gantryd, in a machine with the kernel's vivid, captures its colour bars and publishes them over the
// machine's network to a relay here, which Chromium plays.
func TestCaptureDeviceToChromium(t *testing.T) {
	vm.Need(t)
	gantryd := testkit.Bin(t, "gantryd")
	dir := t.TempDir()
	var base string
	var log testkit.Buffer
	m, err := vm.Start(context.Background(), vm.Options{
		Network: true,
		Command: func(host, guest netip.Addr) []string {
			const token = "the-token-of-this-test"
			base = fmt.Sprintf("http://%v:8080", host)
			relay := exec.Command(testkit.Bin(t, "gantry-relay"), "--http", netip.AddrPortFrom(host, 8080).String(), "--rtc", netip.AddrPortFrom(host, 8189).String())
			relay.Env = append(os.Environ(), "GANTRY_PUBLISH_TOKEN="+token)
			testkit.StartCmd(t, relay)
			config := fmt.Sprintf(`http: ""
video:
  source: v4l2
  v4l2: {device: %s, width: 640, height: 360, format: YUYV, rate: 30}
audio: {source: none}
encoder: {bitrate: 1M}
uplinks:
  - name: relay
    whip: {url: "%s/whip/vivid", token: %s}
`, vm.VividNode, base, token)
			path := filepath.Join(dir, "gantryd.yaml")
			if err := os.WriteFile(path, []byte(config), 0o600); err != nil {
				t.Error(err)
			}
			return []string{gantryd, "--config", path}
		},
		Stdout: &log, Stderr: &log,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := m.Stop(); err != nil {
			t.Errorf("gantryd in the machine: %v", err)
		}
		if t.Failed() {
			t.Logf("the machine printed:\n%s", log.String())
		}
	})

	p := chromium.Open(t, chromium.Options{}, base+"/play/vivid")
	p.Wait(60*time.Second, player+`.state === "playing" && `+player+".stats?.video?.frames >= 90", player+".status")
	// vivid's default picture: eight bars, from white to black. They are told apart by which of red, green and blue is strong.
	bars := chromium.Eval[[]string](p, `(() => {
		const v = `+player+`.video, c = new OffscreenCanvas(v.videoWidth, v.videoHeight), g = c.getContext("2d");
		g.drawImage(v, 0, 0);
		return Array.from({length: 8}, (_, i) => {
			const [r, gr, b] = g.getImageData((i + 0.5) * c.width / 8, c.height * 0.6, 1, 1).data;
			return [r, gr, b].map((x) => x > 128 ? 1 : 0).join("");
		});
	})()`)
	want := []string{"111", "110", "011", "010", "101", "100", "001", "000"}
	if fmt.Sprint(bars) != fmt.Sprint(want) {
		t.Errorf("Chromium shows the bars %v, want %v", bars, want)
	}
	size := chromium.Eval[string](p, player+".video.videoWidth + 'x' + "+player+".video.videoHeight")
	if size != "640x360" {
		t.Errorf("the picture is %s, want 640x360", size)
	}
	fps := chromium.Eval[float64](p, player+".stats.video.fps")
	t.Logf("%.1f pictures a second", fps)
}
