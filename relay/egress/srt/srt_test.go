package srt

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"gantry/internal/testkit"
	"gantry/internal/testkit/ingesttest"
	"gantry/relay"
	ingest "gantry/relay/ingest/srt"
)

func TestMain(m *testing.M) { testkit.Main(m) }

// libsrt's and FFmpeg's callers receive what FFmpeg publishes, from a key frame on and whole.
func TestCallersReceive(t *testing.T) {
	log := slog.New(slog.NewTextHandler(t.Output(), nil))
	hub := relay.NewHub(relay.Default(), log)
	t.Cleanup(func() { hub.Close() })
	cfg := ingest.Default()
	cfg.Addr, cfg.Passphrase = "127.0.0.1:0", "correct-horse"
	server, err := ingest.Listen(cfg, hub, ingest.Access{
		Play: func(token, _ string) error {
			if token != "play-token" {
				return errors.New("wrong token")
			}
			return nil
		},
		Player: func(ctx context.Context, w io.Writer, stream string) error { return Play(ctx, hub, stream, w) },
	}, log)
	if err != nil {
		t.Fatal(err)
	}
	ctx := ingesttest.Run(t, server.Run)
	address := "srt://" + server.Addr().String() + "?passphrase=correct-horse&streamid="
	ingesttest.FFmpeg(t, slices.Concat(ingesttest.H264, []string{"-t", "40", "-g", "60", "-c:a", "aac", "-f", "mpegts", address + "demo"})...)
	testkit.Eventually(t, 10*time.Second, "the stream is live", func() bool { _, err := hub.Live("demo"); return err == nil })

	file := filepath.Join(t.TempDir(), "seen.ts")
	if out, err := exec.Command("ffmpeg", "-nostdin", "-v", "error", "-i", address+"read:demo:play-token", "-t", "3", "-c", "copy", file).CombinedOutput(); err != nil {
		t.Fatalf("ffmpeg receives: %v\n%s", err, out)
	}
	check(t, file)

	// srt-live-transmit writes what it receives until it is ended.
	until, stop := context.WithTimeout(ctx, 3*time.Second)
	defer stop()
	out, _ := exec.CommandContext(until, "srt-live-transmit", "-q", address+"read:demo:play-token", "file://con").Output() // until it is ended
	if len(out) < 100*188 || out[0] != 0x47 || out[188] != 0x47 {                                                          // it is cut off anywhere
		t.Errorf("srt-live-transmit received %d bytes", len(out))
	}

	if _, err := exec.Command("ffmpeg", "-nostdin", "-v", "error", "-i", address+"read:demo:wrong-token", "-t", "1", "-c", "copy", "-f", "null", "-").CombinedOutput(); err == nil {
		t.Error("a wrong token receives")
	}
	testkit.Eventually(t, 10*time.Second, "nobody watches", func() bool { return hub.Streams()[0].Viewers == 0 })
}

// check decodes the file, in which there must be nothing wrong.
func check(t *testing.T, file string) {
	t.Helper()
	out, err := exec.Command("ffmpeg", "-nostdin", "-v", "warning", "-i", file, "-f", "null", "-").CombinedOutput()
	if err != nil || len(out) > 0 {
		t.Errorf("decode: %v\n%s", err, out)
	}
	found, err := exec.Command("ffprobe", "-v", "error", "-count_packets", "-show_entries", "stream=codec_name,nb_read_packets", "-of", "csv=p=0", file).Output()
	if got := string(found); err != nil || !strings.Contains(got, "h264,") || !strings.Contains(got, "aac,") {
		t.Errorf("%v %s", err, got)
	}
	t.Logf("%s", strings.ReplaceAll(string(found), "\n", " "))
}
