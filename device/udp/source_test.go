package udp

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net"
	"os/exec"
	"strings"
	"testing"
	"time"

	"gantry/device"
	"gantry/internal/clock"
	"gantry/internal/testkit"
	"gantry/media"
)

func TestMain(m *testing.M) { testkit.Main(m) }

var quiet = slog.New(slog.DiscardHandler)

// freeUDP returns a port on which nobody listens.
func freeUDP(t *testing.T) string {
	t.Helper()
	c, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_, port, _ := net.SplitHostPort(c.LocalAddr().String())
	return port
}

func send(t *testing.T, target string, args ...string) *testkit.Process {
	t.Helper()
	all := append([]string{"-v", "error", "-re", "-f", "lavfi", "-i", "testsrc=size=160x90:rate=25", "-f", "lavfi", "-i", "sine=sample_rate=48000",
		"-g", "10", "-pix_fmt", "yuv420p"}, args...)
	p := testkit.StartCmd(t, exec.Command("ffmpeg", append(all, target)...))
	t.Cleanup(p.Kill) // it ends with 255 when it is asked to
	return p
}

var h264aac = []string{"-c:v", "libx264", "-preset", "ultrafast", "-tune", "zerolatency", "-c:a", "aac"}

// ffmpeg sends by unicast, by multicast, and in RTP: access units come on our clock, from a key frame on; when it stops there is no
// signal, and when it comes back it goes on.
func TestFFmpegSends(t *testing.T) {
	for _, c := range []struct {
		name, host, format, scheme, query string
		listen                            Config
		video                             media.Codec
		args                              []string
	}{
		{name: "unicast", host: "127.0.0.1", format: "mpegts", scheme: "udp", query: "?pkt_size=1316", video: media.H264, args: h264aac},
		{name: "multicast", host: "239.255.77.1", format: "mpegts", scheme: "udp", query: "?pkt_size=1316&ttl=0&localaddr=127.0.0.1",
			listen: Config{Interface: "lo"}, video: media.H264, args: h264aac},
		{name: "rtp", host: "127.0.0.1", format: "rtp_mpegts", scheme: "rtp", video: media.H265, args: []string{"-c:v", "libx265", "-preset", "ultrafast",
			"-x265-params", "log-level=error", "-c:a", "aac"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			port := freeUDP(t)
			cfg := c.listen
			cfg.Addr = net.JoinHostPort(c.host, port)
			if err := cfg.Validate(); err != nil {
				t.Fatal(err)
			}
			s := New(cfg, quiet)
			defer s.Close()
			target := c.scheme + "://" + cfg.Addr + c.query
			sender := send(t, target, append(c.args, "-f", c.format)...)
			ctx, cancel := context.WithTimeout(t.Context(), 40*time.Second)
			defer cancel()
			receive(t, ctx, s, c.video)
			if c.name != "unicast" {
				return
			}
			sender.Kill()
			for {
				if _, err := s.Read(ctx); err != nil {
					if !errors.Is(err, device.ErrNoSignal) {
						t.Fatal(err)
					}
					break
				}
			}
			send(t, target, append(c.args, "-f", c.format)...)
			receive(t, ctx, s, c.video)
		})
	}
}

func receive(t *testing.T, ctx context.Context, s *Source, codec media.Codec) {
	t.Helper()
	tracks, err := s.Start(ctx)
	for errors.Is(err, device.ErrNoSignal) { // a machine that is busy
		tracks, err = s.Start(ctx)
	}
	if err != nil {
		t.Fatal(err)
	}
	if len(tracks) != 2 || tracks[0].Codec != codec || tracks[1].Codec != media.AAC {
		t.Fatalf("%+v", tracks)
	}
	var last [2]time.Duration
	for n := [2]int{}; n[0] < 30 || n[1] < 30; {
		p, err := s.Read(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if n[0] == 0 && p.Track == 0 && !p.Key {
			t.Error("the first picture is no key frame")
		}
		if off := clock.Now() - p.DTS; off.Abs() > 3*time.Second {
			t.Errorf("%v from now", off)
		}
		if p.DTS <= last[p.Track] || p.PTS < p.DTS {
			t.Errorf("track %d: DTS %v after %v, PTS %v", p.Track, p.DTS, last[p.Track], p.PTS)
		}
		last[p.Track] = p.DTS
		n[p.Track]++
	}
}

func TestSilence(t *testing.T) {
	s := New(Config{Addr: "127.0.0.1:" + freeUDP(t)}, quiet)
	defer s.Close()
	if _, err := s.Start(t.Context()); !errors.Is(err, device.ErrNoSignal) {
		t.Error(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if _, err := s.Start(ctx); !errors.Is(err, context.DeadlineExceeded) { // the reason has been said
		t.Error(err)
	}
}

func TestConfig(t *testing.T) {
	for want, c := range map[string]Config{
		"addr: \"here\" is not":          {Addr: "here"},
		"addr: \"host:5000\" is not":     {Addr: "host:5000"},
		"addr: \"127.0.0.1:0\" is not":   {Addr: "127.0.0.1:0"},
		"interface: is for multicast":    {Addr: "127.0.0.1:5000", Interface: "lo"},
		"addr: \"127.0.0.1:99999\" is n": {Addr: "127.0.0.1:99999"},
	} {
		if err := c.Validate(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want %q, got %v", want, err)
		}
	}
}

func FuzzTransport(f *testing.F) {
	ts := append([]byte{0x47}, make([]byte, 187)...)
	f.Add(ts)
	f.Add(append([]byte{0x80, 33, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1}, ts...))
	f.Add(append([]byte{0x9f, 33, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1}, ts...))
	f.Fuzz(func(t *testing.T, b []byte) {
		if got := transport(b); got != nil && (got[0] != 0x47 || len(got) > largest || !bytes.Contains(b, got)) {
			t.Errorf("%x", got)
		}
	})
}

func FuzzConfig(f *testing.F) {
	f.Add("239.1.1.1:5000", "eth0")
	f.Add("[ff02::1%lo]:5000", "")
	f.Fuzz(func(t *testing.T, addr, on string) {
		c := Config{Addr: addr, Interface: on}
		if a, err := c.address(); c.Validate() == nil && addr != "" && (err != nil || a.Port() == 0) {
			t.Errorf("%q is allowed: %v %v", addr, a, err)
		}
	})
}
