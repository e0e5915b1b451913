package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"image/jpeg"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"gantry/internal/testkit"
	"gantry/media/h264"
)

// A cameraBoxStatus is what of gantryd's status these tests look at.
type cameraBoxStatus struct {
	Video struct {
		Signal, Decoding bool
		Reason           string
		Slates, Frames   uint64
	}
	Encoder struct{ Name string }
	Uplinks []struct {
		Name, State, Pictures, Reason, Since, Codecs string
	}
	Health []struct{ Code, Reason string }
}

// startCameraBox runs gantryd with this configuration and returns what asks for its status.
func startCameraBox(t *testing.T, config string) (p *testkit.Process, page string, status func() cameraBoxStatus) {
	t.Helper()
	page = testkit.FreeTCP(t)
	file := filepath.Join(t.TempDir(), "gantryd.yaml")
	if err := os.WriteFile(file, []byte("http: "+page+"\n"+config), 0o600); err != nil {
		t.Fatal(err)
	}
	p = testkit.Start(t, testkit.Bin(t, "gantryd"), "--config", file)
	client := &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	return p, page, func() (st cameraBoxStatus) {
		res, err := client.Get("http://" + page + "/api/v1/status")
		if err != nil {
			return st
		}
		defer res.Body.Close()
		if err := json.NewDecoder(res.Body).Decode(&st); err != nil {
			t.Error(err)
		}
		return st
	}
}

// clip makes a media file of 4 s with sound.
func clip(t *testing.T, bFrames int) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "clip.mp4")
	if out, err := exec.Command("ffmpeg", "-v", "error", "-f", "lavfi", "-i", "testsrc2=size=320x180:rate=25", "-f", "lavfi", "-i", "sine=sample_rate=48000", "-t", "4",
		"-g", "25", "-bf", strconv.Itoa(bFrames), "-pix_fmt", "yuv420p", "-c:v", "libx264", "-preset", "veryfast", "-c:a", "aac", path).CombinedOutput(); err != nil {
		t.Fatalf("%v %s", err, out)
	}
	return path
}

// snapshot fetches the box's newest picture.
func snapshot(t *testing.T, page string, width int) {
	t.Helper()
	client := &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	res, err := client.Get(fmt.Sprintf("http://%s/snapshot.jpg?width=%d", page, width))
	if err != nil {
		t.Error(err)
		return
	}
	defer res.Body.Close()
	img, err := jpeg.Decode(res.Body)
	if err != nil || res.StatusCode != http.StatusOK || img.Bounds().Dx() != width || img.Bounds().Dy() != width*9/16 {
		t.Errorf("snapshot: %s %v", res.Status, err)
	}
}

// watch receives pictures as a viewer does and returns them as a byte stream.
func watch(t *testing.T, url string, pictures int) []byte {
	t.Helper()
	file := filepath.Join(t.TempDir(), "watched.264")
	testkit.Output(t, testkit.Bin(t, "gantry-relay"), "watch", "--wait", "--frames", strconv.Itoa(pictures), "--out", file, "--timeout", "60s", url)
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// coded returns the NAL units that hold pictures.
func coded(stream []byte) (list [][]byte) {
	for n := range h264.NALUs(stream) {
		if k := h264.TypeOf(n); k == h264.IDR || k == h264.NonIDR {
			list = append(list, n)
		}
	}
	return list
}

// A file goes through two boxes, from one to the other by RTSP with digest authentication, over TCP and over UDP, and through the
// relay to a viewer: every coded picture arrives bit by bit as it is in the file. Nothing was encoded on the way.
func TestPassThrough(t *testing.T) {
	path := clip(t, 0)
	original, err := exec.Command("ffmpeg", "-v", "error", "-i", path, "-c:v", "copy", "-bsf:v", "h264_mp4toannexb", "-f", "h264", "-").Output()
	if err != nil {
		t.Fatal(err)
	}
	have := coded(original)
	base, camera := startRelay(t), testkit.FreeTCP(t)
	startCameraBox(t, fmt.Sprintf(`
video: {source: file, file: {path: %s}}
audio: {source: input}
uplinks:
  - {name: camera, rtsp: {addr: "%s", path: stream, user: cam, password: secret, rtp_port: %d}}
`, path, camera, evenPort(t)))
	testkit.Eventually(t, 20*time.Second, "the camera listens", func() bool {
		conn, err := net.Dial("tcp", camera)
		if err == nil {
			_ = conn.Close()
		}
		return err == nil
	})
	for _, transport := range []string{"tcp", "udp"} {
		box, page, status := startCameraBox(t, fmt.Sprintf(`
video: {source: rtsp, rtsp: {url: "rtsp://%s/stream", user: cam, password: secret, transport: %s}}
audio: {source: input}
uplinks:
  - {name: relay, whip: {url: %s/whip/%s}}
`, camera, transport, base, transport))
		got := coded(watch(t, base+"/whep/"+transport, 75))
		at := -1
		for i, n := range got {
			next := (at + 1) % len(have)
			if at < 0 {
				for next = 0; next < len(have)-1 && !bytes.Equal(have[next], n); next++ {
				}
			}
			if !bytes.Equal(have[next], n) {
				t.Fatalf("%s: picture %d is not what the file has", transport, i)
			}
			at = next
		}
		st := status()
		if len(got) < 75 || len(st.Uplinks) != 1 || st.Uplinks[0].Pictures != "passed through" || st.Uplinks[0].Codecs != "H264, opus" || st.Encoder.Name != "" || st.Video.Decoding {
			t.Errorf("%s: %d pictures, %+v", transport, len(got), st)
		}
		snapshot(t, page, 160) // decoded for it alone
		if st := status(); st.Encoder.Name != "" {
			t.Errorf("%s is open for a snapshot", st.Encoder.Name)
		}
		box.Signal(syscall.SIGINT)
		if code := box.Exits(20 * time.Second); code != 0 {
			t.Errorf("exit status %d", code)
		}
	}
}

func evenPort(t *testing.T) int {
	t.Helper()
	for range 50 {
		a, err := net.ListenPacket("udp4", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		port := a.LocalAddr().(*net.UDPAddr).Port
		b, err := net.ListenPacket("udp4", net.JoinHostPort("127.0.0.1", strconv.Itoa(port+1)))
		_ = a.Close()
		if err == nil {
			_ = b.Close()
			if port%2 == 0 {
				return port
			}
		}
	}
	t.Fatal("no two free ports")
	return 0
}

// A source with B-frames is coded anew for the destination that takes none and passed through to the one that does, and the box says so.
func TestBFrames(t *testing.T) {
	base, folder := startRelay(t), t.TempDir()
	_, page, status := startCameraBox(t, fmt.Sprintf(`
video: {source: file, file: {path: %s}}
uplinks:
  - {name: relay, whip: {url: %s/whip/b}}
  - {name: disk, record: {dir: %s}}
`, clip(t, 2), base, folder))
	var order h264.Order
	for _, n := range coded(watch(t, base+"/whep/b", 50)) {
		if p := order.Observe(h264.Append(nil, n)); p.B {
			t.Fatal("a B slice reached the viewer")
		}
	}
	snapshot(t, page, 320)
	st := status()
	ways := map[string]string{}
	for _, u := range st.Uplinks {
		ways[u.Name] = u.State + ", " + u.Pictures
	}
	said := false
	for _, h := range st.Health {
		said = said || h.Code == "source-b-frames"
	}
	if ways["relay"] != "connected, re-encoded: B-frames" || ways["disk"] != "connected, passed through" || !said || !st.Video.Decoding {
		t.Errorf("%v %+v", ways, st)
	}
}

// The camera, GStreamer's server, vanishes and comes back. The destinations never lose their connections: they get the slate, coded on
// the box, and then the camera's pictures again; one viewer sees it all in one session.
func TestCameraVanishes(t *testing.T) {
	t.Parallel() // it waits most of the time
	addr := testkit.FreeTCP(t)
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		t.Fatal(err)
	}
	script := filepath.Join(testkit.Root(t), "device/rtsp/testdata/camera.py")
	camera := func() *testkit.Process {
		p := testkit.StartCmd(t, exec.Command("/usr/bin/python3", script, port, "digest"))
		p.WaitLine(20*time.Second, "ready")
		return p
	}
	running := camera()
	base := startRelay(t)
	_, _, status := startCameraBox(t, fmt.Sprintf(`
video: {source: rtsp, rtsp: {url: "rtsp://%s/h264", user: cam, password: secret}}
audio: {source: input}
encoder: {bitrate: 800k}
uplinks:
  - {name: relay, whip: {url: %s/whip/cam}}
  - {name: disk, record: {dir: %s}}
`, addr, base, t.TempDir()))
	out := filepath.Join(t.TempDir(), "watched.264")
	viewer := exec.Command(testkit.Bin(t, "gantry-relay"), "watch", "--wait", "--json", "--timeout", "18s", "--out", out, base+"/whep/cam")
	var result bytes.Buffer
	viewer.Stdout = &result
	if err := viewer.Start(); err != nil {
		t.Fatal(err)
	}
	live := func(st cameraBoxStatus) bool {
		connected := 0
		for _, u := range st.Uplinks {
			if u.State == "connected" && u.Pictures == "passed through" {
				connected++
			}
		}
		return connected == 2
	}
	testkit.Eventually(t, 30*time.Second, "pictures go out", func() bool { st := status(); return st.Video.Signal && live(st) })
	before := status()
	running.Kill()
	testkit.Eventually(t, 20*time.Second, "the slate goes out", func() bool { st := status(); return !st.Video.Signal && st.Video.Slates > 20 })
	if st := status(); !live(st) || st.Video.Reason == "" {
		t.Errorf("without the camera: %+v", st)
	}
	camera()
	frames := status().Video.Frames
	testkit.Eventually(t, 30*time.Second, "the camera is back", func() bool { st := status(); return st.Video.Signal && st.Video.Frames > frames+30 })
	after := status()
	for i, u := range after.Uplinks {
		if u.State != "connected" || u.Since != before.Uplinks[i].Since {
			t.Errorf("%s was lost: %+v, before %+v", u.Name, u, before.Uplinks[i])
		}
	}
	if err := viewer.Wait(); err != nil {
		t.Error(err)
	}
	var seen struct {
		Sessions, AccessUnits, Decodable, KeyFrames int
	}
	if err := json.Unmarshal(result.Bytes(), &seen); err != nil || seen.Sessions != 1 || seen.Decodable < 60 || seen.AccessUnits-seen.Decodable > 5 {
		t.Errorf("%v %s", err, result.String())
	}
	if text, err := exec.Command("ffmpeg", "-v", "error", "-i", out, "-f", "null", "-").CombinedOutput(); err != nil || len(text) > 0 {
		t.Errorf("what the viewer got cannot be decoded without fault: %v\n%s", err, text)
	}
}
