package main

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"gantry/encoder/libav"
	"gantry/internal/testkit"
)

func writeConfig(t *testing.T, text string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "gantryd.yaml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// tracks has ffprobe name what lies in a file.
func tracks(t *testing.T, file string) string {
	t.Helper()
	out, err := exec.Command("ffprobe", "-v", "error", "-count_packets", "-show_entries", "stream=codec_name,width,sample_rate,nb_read_packets", "-of", "csv=p=0", file).CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return string(out)
}

func size(file string) int64 {
	if info, err := os.Stat(file); err == nil {
		return info.Size()
	}
	return 0
}

// The daemon sends to other people's programs, to all at once: libsrt's own tool that is called, ffmpeg that calls, nginx.
func TestOtherReceivers(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	called, calling := filepath.Join(folder, "called.ts"), filepath.Join(folder, "calling.ts")
	calls, listens := testkit.FreeTCP(t), testkit.FreeTCP(t)
	tv, records := testkit.Nginx(t)
	out, err := os.Create(called)
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	peer := exec.Command("srt-live-transmit", "-q", "-a:no", "srt://"+calls+"?mode=listener&passphrase=correct-horse", "file://con")
	peer.Stdout = out
	d := testkit.Start(t, testkit.Bin(t, "gantryd"), "--config", writeConfig(t, fmt.Sprintf(`
http: %s
video: {testsrc: {width: 320, height: 180}}
audio: {source: tone}
uplinks:
- {name: called, srt: {addr: "%s", stream: x, passphrase: correct-horse}}
- {name: calling, srt: {addr: "%s", mode: listener}}
- {name: tv, autostart: false, rtmp: {url: "rtmp://%s/live", key: tv}}
`, testkit.FreeTCP(t), calls, listens, tv)))
	page := d.WaitLine(10*time.Second, `what=page address=(\S+)`)[1]
	if err := peer.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = peer.Process.Kill(); _ = peer.Wait() }()
	reader := testkit.StartCmd(t, exec.Command("ffmpeg", "-loglevel", "error", "-i", "srt://"+listens+"?mode=caller", "-c", "copy", "-flush_packets", "1", "-f", "mpegts", calling))
	post := func(what string) {
		res, err := http.Post("http://"+page+"/api/v1/uplinks/tv/"+what, "", nil)
		if err != nil || res.StatusCode != http.StatusNoContent {
			t.Fatal(err, res)
		}
		res.Body.Close()
	}
	post("start")
	recorded := func() string {
		files, _ := filepath.Glob(filepath.Join(records, "tv*.flv"))
		return strings.Join(files, "")
	}
	testkit.Eventually(t, 30*time.Second, "all receive", func() bool {
		return size(called) > 200_000 && size(calling) > 200_000 && size(recorded()) > 200_000
	})
	sound := "aac,48000"
	if libav.Missing() != "" {
		sound = "opus,48000"
	}
	for _, file := range []string{called, calling, recorded()} {
		got := tracks(t, file)
		want := sound
		if strings.HasSuffix(file, ".flv") && libav.Missing() != "" {
			want = ""
		}
		if !strings.Contains(got, "h264,320") || !strings.Contains(got, want) {
			t.Errorf("%s holds %s", filepath.Base(file), got)
		}
	}
	res, err := http.Get("http://" + page + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"called", "calling", "tv"} {
		for _, figure := range []string{"sent_bits_per_second", "sent_bytes_total", "round_trip_seconds", "connected"} {
			if !regexp.MustCompile(`gantry_uplink_` + figure + `\{uplink="` + name + `"\} [1-9]|gantry_uplink_` + figure + `\{uplink="` + name + `"\} 0\.`).Match(text) {
				t.Errorf("no gantry_uplink_%s of %s", figure, name)
			}
		}
	}
	post("stop")
	reader.Kill() // first: without the stream it ends by itself
	if err := d.Stop(); err != nil {
		t.Error(err)
	}
	if log := d.Log(); strings.Contains(log, "level=ERROR") || strings.Contains(log, "correct-horse") {
		t.Errorf("log:\n%s", log)
	}
}
