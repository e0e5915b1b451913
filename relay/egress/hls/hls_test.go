package hls

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/bluenviron/mediacommon/v2/pkg/codecs/av1"

	"gantry/internal/testkit"
	"gantry/internal/testkit/ingesttest"
	"gantry/media"
	"gantry/media/h264"
	"gantry/relay"
	"gantry/relay/ingest"
	"gantry/relay/ingest/srt"
	"gantry/relay/slate"
)

func TestMain(m *testing.M) { testkit.Main(m) }

// FFmpeg publishes over SRT and plays what it gets over HLS, with a play token.
func TestFFmpegPlays(t *testing.T) {
	log := slog.New(slog.NewTextHandler(t.Output(), nil))
	hub := relay.NewHub(relay.Default(), log)
	t.Cleanup(func() { hub.Close() })
	cfg := srt.Default()
	cfg.Addr = "127.0.0.1:0"
	in, err := srt.Listen(cfg, hub, srt.Access{}, log)
	if err != nil {
		t.Fatal(err)
	}
	ingesttest.Run(t, in.Run)
	ingesttest.FFmpeg(t, slices.Concat(ingesttest.H264, []string{"-t", "40", "-g", "30", "-c:a", "aac", "-f", "mpegts", fmt.Sprintf("srt://%v?streamid=studio/cam", in.Addr())})...)
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

// ffprobe finds in HLS what was published, in the codecs that HLS has beside H.264 and AAC.
func TestCodecs(t *testing.T) {
	log := slog.New(slog.NewTextHandler(t.Output(), nil))
	hub := relay.NewHub(relay.Default(), log)
	defer hub.Close()
	server := New(hub, func(string, string) error { return nil }, log)
	site := httptest.NewServer(server)
	defer site.Close()
	defer server.Close()
	ctx, cancel := context.WithCancel(t.Context())
	var work sync.WaitGroup
	defer work.Wait()
	defer cancel()
	for _, c := range []struct {
		name, encoder, format string
		codec                 media.Codec
		args                  []string
	}{
		{"hevc", "libx265", "hevc", media.H265, []string{"-preset", "ultrafast", "-x265-params", "log-level=0:aud=1:repeat-headers=1:keyint=25:bframes=0"}},
		{"av1", "libaom-av1", "ivf", media.AV1, []string{"-cpu-used", "8", "-usage", "realtime", "-lag-in-frames", "0", "-g", "25"}},
	} {
		cmd := exec.Command("ffmpeg", append(append([]string{"-v", "error", "-f", "lavfi", "-i", "testsrc2=rate=25:size=320x180", "-frames:v", "50", "-pix_fmt", "yuv420p",
			"-c:v", c.encoder}, c.args...), "-f", c.format, "-")...)
		recorded, err := cmd.Output()
		if err != nil {
			t.Fatal(err)
		}
		units := map[string]func([]byte) [][]byte{"hevc": hevcUnits, "ivf": ivfUnits}[c.format](recorded)
		feed, err := ingest.NewFeed(hub, c.name, relay.Publisher{Tracks: []media.Track{{Codec: c.codec, ClockRate: 90000}, {Codec: media.Opus, ClockRate: 48000, Channels: 2}}})
		if err != nil {
			t.Fatal(err)
		}
		work.Go(func() {
			defer feed.Close()
			tick := time.NewTicker(40 * time.Millisecond)
			defer tick.Stop()
			for i := 0; ; i++ {
				at := time.Duration(i) * 40 * time.Millisecond
				if unit := units[i%len(units)]; c.codec == media.AV1 {
					var obus av1.Bitstream
					if obus.Unmarshal(unit) == nil {
						feed.AV1(0, at, obus)
					}
				} else {
					feed.Video(0, at, at, slices.Collect(h264.NALUs(unit)))
				}
				for j := range 2 {
					feed.Audio(1, at+time.Duration(j)*20*time.Millisecond, []byte{0xfc, 0xff, 0xfe})
				}
				select {
				case <-tick.C:
				case <-ctx.Done():
					return
				}
			}
		})
		testkit.Eventually(t, 10*time.Second, c.name+" is live", func() bool { _, err := hub.Live(c.name); return err == nil })
		found := ""
		testkit.Eventually(t, 30*time.Second, "ffprobe finds it", func() bool {
			out, _ := exec.Command("ffprobe", "-v", "error", "-show_entries", "stream=codec_name,width,sample_rate", "-of", "csv=p=0", site.URL+"/hls/"+c.name+"/index.m3u8").CombinedOutput()
			found = string(out)
			return strings.Contains(found, c.name+",320") && strings.Contains(found, "opus,48000")
		})
	}
}

// HLS shows the slate while nobody publishes, also to who comes only then.
func TestSlate(t *testing.T) {
	log := slog.New(slog.NewTextHandler(t.Output(), nil))
	hub := relay.NewHub(relay.Default(), log)
	defer hub.Close()
	hub.SetSlate(slate.New("back soon"))
	server := New(hub, nil, log)
	site := httptest.NewServer(server)
	defer site.Close()
	defer server.Close()
	feed, err := ingest.NewFeed(hub, "a", relay.Publisher{Tracks: []media.Track{{Codec: media.H264, ClockRate: 90000, Width: 320, Height: 180}}})
	if err != nil {
		t.Fatal(err)
	}
	units := slate.New("on air")(media.Track{Codec: media.H264, Width: 320, Height: 180})
	feed.Video(0, 0, 0, slices.Collect(h264.NALUs(units[0])))
	feed.Close()
	get := func(file string) (int, string) {
		t.Helper()
		res, err := http.Get(site.URL + "/hls/a/" + file)
		if err != nil {
			t.Fatal(err)
		}
		defer http.DefaultClient.CloseIdleConnections()
		defer res.Body.Close()
		body, err := io.ReadAll(res.Body)
		if err != nil {
			t.Fatal(err)
		}
		return res.StatusCode, string(body)
	}
	if code, _ := get("index.m3u8"); code != http.StatusNotFound {
		t.Errorf("%d before the slate", code)
	}
	list := ""
	testkit.Eventually(t, 10*time.Second, "the slate is shown", func() (ok bool) {
		var code int
		code, list = get("index.m3u8")
		return code == http.StatusOK
	})
	_, list = get(line(list, ".m3u8"))
	_, head, _ := strings.Cut(list, `#EXT-X-MAP:URI="`)
	head, _, _ = strings.Cut(head, `"`)
	_, first := get(head)
	_, segment := get(line(list, "_seg"))
	play := exec.Command("ffmpeg", "-nostdin", "-v", "error", "-i", "-", "-vf", "scale=1:1,format=gray", "-f", "rawvideo", "-")
	play.Stdin = strings.NewReader(first + segment)
	if out, err := play.Output(); err != nil || len(out) == 0 || out[0] > 80 {
		t.Errorf("ffmpeg plays %v: %v", out, err)
	}
}

// line returns the first line of a playlist that names such a file.
func line(list, kind string) string {
	for l := range strings.Lines(list) {
		if l = strings.TrimSpace(l); !strings.HasPrefix(l, "#") && strings.Contains(l, kind) {
			return l
		}
	}
	return ""
}

// hevcUnits splits a byte stream at its access unit delimiters.
func hevcUnits(stream []byte) (units [][]byte) {
	for n := range h264.NALUs(stream) {
		if n[0]>>1&0x3f == 35 {
			units = append(units, nil)
			continue
		}
		units[len(units)-1] = h264.Append(units[len(units)-1], n)
	}
	return units
}

// ivfUnits splits an IVF file: 32 bytes, then for each unit its size and time, 12 bytes.
func ivfUnits(file []byte) (units [][]byte) {
	for rest := file[32:]; len(rest) > 12; {
		size := int(binary.LittleEndian.Uint32(rest))
		units = append(units, rest[12:12+size])
		rest = rest[12+size:]
	}
	return units
}
