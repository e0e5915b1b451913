package rtsp

import (
	"context"
	"errors"
	"net"
	"os/exec"
	"strings"
	"testing"
	"time"

	"gantry/device"
	"gantry/internal/clock"
	"gantry/internal/testkit"
	"gantry/media"
	"gantry/media/h264"
)

func TestMain(m *testing.M) { testkit.Main(m) }

// camera starts GStreamer's RTSP server and returns its address.
func camera(t *testing.T, args ...string) (addr string, p *testkit.Process) {
	t.Helper()
	addr = testkit.FreeTCP(t)
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		t.Fatal(err)
	}
	p = testkit.StartCmd(t, exec.Command("/usr/bin/python3", append([]string{"testdata/camera.py", port}, args...)...))
	p.WaitLine(20*time.Second, "ready")
	return addr, p
}

func config(url string) Config {
	c := Default()
	c.URL = url
	return c
}

// TestGStreamerCamera pulls each codec from GStreamer's server, over TCP and UDP.
func TestGStreamerCamera(t *testing.T) {
	addr, _ := camera(t)
	for _, c := range []struct {
		path, transport string
		video, audio    media.Codec
	}{
		{"h264", "tcp", media.H264, media.Opus},
		{"h264", "udp", media.H264, media.Opus},
		{"h265", "tcp", media.H265, media.AAC},
		{"bframes", "tcp", media.H264, media.NoCodec},
	} {
		t.Run(c.path+" "+c.transport, func(t *testing.T) {
			cfg := config("rtsp://" + addr + "/" + c.path)
			cfg.Transport = c.transport
			if err := cfg.Validate(); err != nil {
				t.Fatal(err)
			}
			s := New(cfg)
			defer s.Close()
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			defer cancel()
			tracks, err := s.Start(ctx)
			if err != nil {
				t.Fatal(err)
			}
			if tracks[0].Codec != c.video || len(tracks) > 1 && tracks[1].Codec != c.audio || len(tracks) == 1 && c.audio != media.NoCodec {
				t.Fatalf("%+v", tracks)
			}
			var last [2]time.Duration
			var count [2]int
			reordered := 0
			for count[0] < 60 || len(tracks) > 1 && count[1] < 60 {
				p, err := s.Read(ctx)
				if err != nil {
					t.Fatal(err)
				}
				if off := clock.Now() - p.PTS; off < -2*time.Second || off > 2*time.Second { // GStreamer's encoders share the machine
					t.Fatalf("track %d: %v from now", p.Track, off)
				}
				video := tracks[p.Track].Codec.Video()
				if video && count[p.Track] == 0 && (!p.Key || sets(p.Data) < 2) {
					t.Errorf("the first picture is no key frame with parameter sets")
				}
				if video && p.PTS != p.DTS {
					reordered++
				}
				if count[p.Track] > 0 && p.DTS <= last[p.Track] {
					t.Errorf("track %d: DTS %v after %v", p.Track, p.DTS, last[p.Track])
				}
				last[p.Track] = p.DTS
				count[p.Track]++
			}
			if off := last[0] - last[1]; len(tracks) > 1 && off.Abs() > 2*time.Second {
				t.Errorf("sound and pictures are %v apart", off)
			}
			if (reordered > 10) != (c.path == "bframes") {
				t.Errorf("%d pictures shown later than decoded", reordered)
			}
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		})
	}
}

// sets counts SPS and PPS, of H.264 and H.265.
func sets(au []byte) (n int) {
	for nalu := range h264.NALUs(au) {
		switch t, t265 := nalu[0]&0x1f, nalu[0]>>1&0x3f; {
		case t == 7, t == 8, t265 == 33, t265 == 34:
			n++
		}
	}
	return n
}

func TestRefusals(t *testing.T) {
	addr, server := camera(t, "digest")
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	private := config("rtsp://" + addr + "/h264")
	if _, err := New(private).Start(ctx); err == nil || !strings.Contains(err.Error(), "does not accept user and password") {
		t.Errorf("without a password: %v", err)
	}
	private.User, private.Password = "cam", "wrong-one"
	if _, err := New(private).Start(ctx); err == nil || strings.Contains(err.Error(), "wrong-one") {
		t.Errorf("with a wrong one: %v", err)
	}
	private.Password = "secret"
	s := New(private)
	defer s.Close()
	if _, err := s.Start(ctx); err != nil {
		t.Fatalf("digest: %v", err)
	}
	if _, err := s.Read(ctx); err != nil {
		t.Error(err)
	}
	none := private
	none.URL = "rtsp://" + addr + "/none"
	if _, err := New(none).Start(ctx); !errors.Is(err, device.ErrNotFound) {
		t.Errorf("no such stream: %v", err)
	}
	server.Kill()
	for {
		if _, err := s.Read(ctx); err != nil {
			if !errors.Is(err, device.ErrGone) {
				t.Errorf("the server died: %v", err)
			}
			break
		}
	}
}

func TestConfig(t *testing.T) {
	for want, c := range map[string]Config{
		"url: want rtsp://":              {URL: "http://x/", Transport: "tcp"},
		"url: has a user name":           {URL: "rtsp://u:p@x/", Transport: "tcp"},
		"transport: \"quic\" is not one": {URL: "rtsp://x/", Transport: "quic"},
		"fingerprint: want the SHA-256":  {URL: "rtsps://x/", Transport: "tcp", Fingerprint: "ab:cd"},
		"user: is missing":               {URL: "rtsp://x/", Transport: "tcp", Password: "p"},
	} {
		if err := c.Validate(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want %q, got %v", want, err)
		}
	}
}

// Before the server's reports the tracks lie as they come; afterwards as the reports say, and the one that told first does not jump.
func TestTimeline(t *testing.T) {
	var l timeline
	wall := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	ms := time.Millisecond
	for i, c := range []struct {
		pts, now time.Duration
		wall     time.Duration
		known    bool
		want     time.Duration
	}{
		{pts: 0, now: 1000 * ms, want: 1000 * ms},
		{pts: 40 * ms, now: 1055 * ms, want: 1040 * ms},
		{pts: 80 * ms, wall: 80 * ms, known: true, want: 1080 * ms},
		{pts: 120 * ms, wall: 120 * ms, known: true, want: 1120 * ms},
		{pts: 50 * ms, wall: 70 * ms, known: true, want: 1070 * ms}, // the other track, 20 ms off by its arrival
	} {
		if got := l.at(c.pts, wall.Add(c.wall), c.known, c.now); got != c.want {
			t.Errorf("%d: %v, want %v", i, got, c.want)
		}
	}
}
