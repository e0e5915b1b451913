package srt_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	gosrt "github.com/datarhei/gosrt"

	"gantry/internal/secret"
	"gantry/internal/testkit"
	"gantry/media"
	"gantry/relay"
	"gantry/relay/ingest/srt"
)

func TestMain(m *testing.M) { testkit.Main(m) }

// own is the passphrase of the stream "vault".
func own(stream string) secret.String {
	if stream == "vault" {
		return "the-vault-horse"
	}
	return ""
}

// listen serves until the test ends and returns the port's address.
func listen(t *testing.T, cfg srt.Config, authorize func(token, stream string) error) (*relay.Hub, string) {
	t.Helper()
	hub := relay.NewHub(relay.Default(), slog.New(slog.DiscardHandler))
	cfg.Addr = "127.0.0.1:0"
	s, err := srt.Listen(cfg, hub, srt.Access{Publish: authorize, Passphrase: own}, slog.New(slog.NewTextHandler(t.Output(), nil)))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		hub.Close()
	})
	return hub, s.Addr().String()
}

// ffmpeg publishes 20 s of picture and tone in real time and is killed with the test.
func ffmpeg(t *testing.T, addr, query string, encode ...string) *exec.Cmd {
	t.Helper()
	args := []string{"-hide_banner", "-loglevel", "error", "-re", "-f", "lavfi", "-i", "testsrc2=size=320x180:rate=30", "-f", "lavfi", "-i", "sine=frequency=440:sample_rate=48000",
		"-t", "20"}
	if len(encode) == 0 {
		encode = []string{"-c:v", "libx264", "-preset", "ultrafast", "-tune", "zerolatency", "-g", "15"}
	}
	args = append(append(args, encode...), "-c:a", "aac", "-b:a", "96k", "-f", "mpegts", fmt.Sprintf("srt://%s?%s", addr, query))
	cmd := exec.Command("ffmpeg", args...)
	out := &strings.Builder{}
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if t.Failed() {
			t.Log("ffmpeg:", out)
		}
	})
	return cmd
}

// subscribe waits until the stream is live.
func subscribe(t *testing.T, hub *relay.Hub, name string, want media.Packing) *relay.Subscription {
	t.Helper()
	var sub *relay.Subscription
	testkit.Eventually(t, 10*time.Second, name+" is live", func() bool {
		var err error
		sub, err = hub.Subscribe(name, relay.Want{Packing: want})
		return err == nil
	})
	t.Cleanup(func() { sub.Close() })
	return sub
}

func TestPublishers(t *testing.T) {
	for _, c := range []struct {
		name, query, stream string
		cfg                 func(*srt.Config)
	}{
		{name: "bare name", query: "streamid=demo"},
		{name: "the stream's own passphrase", query: "streamid=vault&passphrase=the-vault-horse", stream: "vault", cfg: func(c *srt.Config) { c.Passphrase = "correct-horse" }},
		{name: "standard dialect with token", query: "streamid=%23!::r=demo,m=publish,s=correct-token"},
		{name: "colon dialect with token", query: "streamid=publish:demo:cam:correct-token"},
		{name: "AES-256", query: "streamid=demo&passphrase=correct-horse&pbkeylen=32", cfg: func(c *srt.Config) { c.Passphrase = "correct-horse" }},
	} {
		t.Run(c.name, func(t *testing.T) {
			cfg := srt.Default()
			var authorize func(token, stream string) error
			if c.cfg != nil {
				c.cfg(&cfg)
			} else if strings.Contains(c.query, "token") {
				authorize = func(token, stream string) error {
					if token != "correct-token" || stream != "demo" {
						return errors.New("wrong token")
					}
					return nil
				}
			}
			hub, addr := listen(t, cfg, authorize)
			ffmpeg(t, addr, c.query)
			if c.stream == "" {
				c.stream = "demo"
			}
			sub := subscribe(t, hub, c.stream, media.RTP)
			tracks := sub.Tracks()
			if len(tracks) != 2 || tracks[0].Codec != media.H264 || tracks[0].Width != 320 || tracks[0].Height != 180 || tracks[1].Codec != media.AAC {
				t.Fatalf("tracks %+v", tracks)
			}
			frames, keys := 0, 0
			var last time.Duration
			lost := false
			for frames < 45 {
				packets, err := sub.Pull(t.Context(), nil)
				if err != nil {
					t.Fatal(err)
				}
				for _, p := range packets {
					if p.Start && frames == 0 && !p.Key {
						t.Fatal("does not begin with a key frame")
					}
					lost = lost || p.Lost // the test did not get the processor in time, and the Hub dropped to a key frame
					if p.End {
						frames++
						if d := p.PTS - last; frames > 1 && !lost && (d < 30*time.Millisecond || d > 37*time.Millisecond) {
							t.Errorf("frame %d comes %v after the one before", frames, d)
						}
						last, lost = p.PTS, false
					}
					if p.Start && p.Key {
						keys++
					}
				}
			}
			if keys < 3 {
				t.Errorf("%d key frames in 45 frames with a GOP of 15", keys)
			}
			if f := hub.Streams()[0].Publishers[0].Faults; len(f) > 0 {
				t.Errorf("faults %v", f)
			}
		})
	}
}

func TestRefused(t *testing.T) {
	never := func(string, string) error { return errors.New("wrong token") }
	for _, c := range []struct {
		name, query string
		cfg         srt.Config
		authorize   func(string, string) error
	}{
		{name: "wrong token", query: "streamid=publish:demo:cam:wrong", authorize: never},
		{name: "no token", query: "streamid=demo", authorize: never},
		{name: "no stream id", query: "latency=100000"},
		{name: "no publisher", query: "streamid=%23!::r=demo,m=request"},
		{name: "impossible name", query: "streamid=a/../b"},
		{name: "wrong passphrase", query: "streamid=demo&passphrase=another-horse", cfg: srt.Config{Passphrase: "correct-horse"}},
		{name: "not encrypted", query: "streamid=demo", cfg: srt.Config{Passphrase: "correct-horse"}},
		{name: "another stream's passphrase", query: "streamid=vault&passphrase=correct-horse", cfg: srt.Config{Passphrase: "correct-horse"}},
		{name: "encrypted for nothing", query: "streamid=demo&passphrase=another-horse"},
	} {
		t.Run(c.name, func(t *testing.T) {
			cfg := srt.Default()
			cfg.Passphrase = c.cfg.Passphrase
			hub, addr := listen(t, cfg, c.authorize)
			ended := make(chan error, 1)
			cmd := ffmpeg(t, addr, c.query+"&connect_timeout=2000")
			go func() { ended <- cmd.Wait() }()
			select {
			case err := <-ended:
				if err == nil {
					t.Fatal("ffmpeg was let in")
				}
			case <-time.After(15 * time.Second):
				t.Fatal("ffmpeg was not refused")
			}
			if len(hub.Streams()) != 0 {
				t.Fatal(hub.Streams())
			}
		})
	}
}

func TestBFramesAreNamed(t *testing.T) {
	hub, addr := listen(t, srt.Default(), nil)
	ffmpeg(t, addr, "streamid=demo", "-c:v", "libx264", "-preset", "veryfast", "-bf", "2", "-g", "30")
	subscribe(t, hub, "demo", media.AccessUnits)
	testkit.Eventually(t, 10*time.Second, "the fault is named", func() bool {
		for _, f := range hub.Streams()[0].Publishers[0].Faults {
			if f.Code == "b-frames" {
				return true
			}
		}
		return false
	})
}

func TestPublisherRestarts(t *testing.T) {
	hub, addr := listen(t, srt.Default(), nil)
	first := ffmpeg(t, addr, "streamid=demo")
	sub := subscribe(t, hub, "demo", media.RTP)
	newest := time.Duration(0)
	pull := func() {
		packets, err := sub.Pull(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range packets {
			if p.PTS < newest-50*time.Millisecond {
				t.Fatalf("time ran back from %v to %v", newest, p.PTS)
			}
			newest = max(newest, p.PTS)
		}
	}
	for newest < 2*time.Second {
		pull()
	}
	before := newest
	_ = first.Process.Kill()
	ffmpeg(t, addr, "streamid=demo")
	for newest < before+3*time.Second {
		pull()
	}
}

// A recording that is sent over and over, with another size the second time: clock and continuity counters begin anew with each. The
// same publication and its viewers go on, with decoding times that rise without a hole, and the fault is named.
func TestRecordingsOneAfterTheOther(t *testing.T) {
	hub, addr := listen(t, srt.Default(), nil)
	cfg := gosrt.DefaultConfig()
	cfg.StreamId = "demo"
	conn, err := gosrt.Dial("srt", addr, cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	var sub *relay.Subscription
	last, begun := time.Duration(0), false
	for _, size := range []string{"320x180", "640x360", "320x180"} {
		ts, err := exec.Command("ffmpeg", "-v", "error", "-f", "lavfi", "-i", "testsrc2=rate=30:size="+size, "-t", "3", "-c:v", "libx264", "-preset", "ultrafast",
			"-tune", "zerolatency", "-g", "15", "-f", "mpegts", "-").Output()
		if err != nil {
			t.Fatal(err)
		}
		for datagram := range slices.Chunk(ts, 7*188) {
			if _, err := conn.Write(datagram); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Millisecond) // the sender's pace: SRT drops what is sent faster than the receiver reads
			if sub == nil {
				if sub, err = hub.Subscribe("demo", relay.Want{}); err != nil {
					sub = nil
					continue
				}
				defer sub.Close()
			}
			packets, err := sub.Take(nil)
			if err != nil {
				t.Fatal(err)
			}
			for _, p := range packets {
				if d := p.DTS - last; begun && (d <= 0 || d > time.Second) {
					t.Errorf("%s: a picture comes %v after the one before", size, d)
				}
				last, begun = p.DTS, true
			}
		}
		testkit.Eventually(t, 10*time.Second, size+" is seen", func() bool {
			return sub != nil && fmt.Sprintf("%dx%d", sub.Tracks()[0].Width, sub.Tracks()[0].Height) == size
		})
	}
	p := hub.Streams()[0].Publishers
	if len(p) != 1 || !slices.ContainsFunc(p[0].Faults, func(f relay.Fault) bool { return f.Code == "timestamps" }) {
		t.Errorf("%+v", p)
	}
}

func TestConfig(t *testing.T) {
	for _, c := range []srt.Config{{}, {Addr: "x"}, {Addr: ":1", Latency: time.Minute}, {Addr: ":1", Latency: time.Second, Passphrase: "short"}} {
		if c.Validate() == nil {
			t.Errorf("%+v is valid", c)
		}
	}
	if err := srt.Default().Validate(); err != nil {
		t.Error(err)
	}
}
