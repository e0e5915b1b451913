package hls

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"strings"
	"testing"
	"time"

	"gantry/internal/testkit"
	"gantry/relay"
	ingest "gantry/relay/ingest/srt"
)

func TestMain(m *testing.M) { testkit.Main(m) }

// FFmpeg publishes over SRT and plays what it gets over HLS, with a play token.
func TestFFmpegPlays(t *testing.T) {
	log := slog.New(slog.NewTextHandler(t.Output(), nil))
	hub := relay.NewHub(relay.Default(), log)
	defer hub.Close()
	cfg := ingest.Default()
	cfg.Addr = "127.0.0.1:0"
	in, err := ingest.Listen(cfg, hub, ingest.Access{}, log)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- in.Run(ctx) }()
	defer func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}()
	publisher := exec.Command("ffmpeg", "-nostdin", "-v", "error", "-re", "-f", "lavfi", "-i", "testsrc2=size=320x180:rate=30", "-f", "lavfi", "-i", "sine=frequency=440:sample_rate=48000",
		"-t", "40", "-c:v", "libx264", "-preset", "ultrafast", "-tune", "zerolatency", "-g", "30", "-c:a", "aac", "-f", "mpegts", fmt.Sprintf("srt://%v?streamid=studio/cam", in.Addr()))
	if err := publisher.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = publisher.Process.Kill(); _ = publisher.Wait() }()
	testkit.Eventually(t, 10*time.Second, "the stream is live", func() bool { _, err := hub.Live("studio/cam"); return err == nil })

	server := New(hub, func(token, _ string) error {
		if token != "play-token" {
			return errors.New("a token is needed")
		}
		return nil
	}, log)
	site := httptest.NewServer(server)
	defer site.Close()
	defer server.Close()
	get := func(path string) (int, string) {
		t.Helper()
		res, err := http.Get(site.URL + path)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		defer http.DefaultClient.CloseIdleConnections()
		body, _ := io.ReadAll(res.Body)
		return res.StatusCode, string(body)
	}
	for path, want := range map[string]int{
		"/hls/studio/cam/index.m3u8":                   401,
		"/hls/nothing/index.m3u8?token=play-token":     404,
		"/hls/../x/index.m3u8?token=play-token":        404,
		"/hls/index.m3u8?token=play-token":             404,
		"/hls/studio/cam/none.mp4?token=play-token":    404,
		"/hls/studio/cam/index.m3u8?token=wrong-token": 401,
	} {
		if got, body := get(path); got != want {
			t.Errorf("%s: %d %s, want %d", path, got, body, want)
		}
	}
	address := "/hls/studio/cam/index.m3u8?token=play-token"
	code, list := get(address)
	if code != 200 || !strings.Contains(list, "RESOLUTION=320x180") || !strings.Contains(list, "mp4a.40.2") || !strings.Contains(list, "token=play-token") {
		t.Fatalf("%d %s", code, list)
	}
	if code, _ := get("/hls/studio/cam/none.mp4?token=play-token"); code != 404 {
		t.Errorf("a segment that is not there: %d", code)
	}
	_, media := get("/hls/studio/cam/" + strings.TrimSpace(strings.Split(list[strings.Index(list, "video"):], "\n")[0]))
	if !strings.Contains(media, "#EXT-X-PART:") || !strings.Contains(media, "CAN-BLOCK-RELOAD=YES") {
		t.Errorf("no low-latency playlist: %s", media)
	}

	out, err := exec.Command("ffmpeg", "-nostdin", "-v", "error", "-i", site.URL+address, "-t", "3", "-map", "0:v", "-map", "0:a", "-f", "framemd5", "-").CombinedOutput()
	if err != nil {
		t.Fatalf("ffmpeg plays: %v\n%s", err, out)
	}
	if v, a := strings.Count(string(out), "\n0,"), strings.Count(string(out), "\n1,"); v < 85 || a < 130 {
		t.Errorf("3 s had %d pictures and %d frames of sound\n%s", v, a, out)
	}
}
