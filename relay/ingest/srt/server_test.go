package srt_test

import (
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
	"gantry/internal/testkit/ingesttest"
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
	t.Cleanup(func() { hub.Close() })
	ingesttest.Run(t, s.Run)
	return hub, s.Addr().String()
}

// ffmpeg publishes, in H.264 for WebRTC unless it is told otherwise, with AAC.
func ffmpeg(t *testing.T, addr, query string, encode ...string) *exec.Cmd {
	t.Helper()
	if len(encode) == 0 {
		encode = ingesttest.H264
	}
	return ingesttest.FFmpeg(t, slices.Concat(encode, []string{"-c:a", "aac", "-b:a", "96k", "-f", "mpegts", fmt.Sprintf("srt://%s?%s", addr, query)})...)
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
			ingesttest.Steady(t, hub, ingesttest.Subscribe(t, hub, c.stream, media.RTP))
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
			ingesttest.Refused(t, hub, ffmpeg(t, addr, c.query+"&connect_timeout=2000"))
		})
	}
}

func TestBFramesAreNamed(t *testing.T) {
	hub, addr := listen(t, srt.Default(), nil)
	ffmpeg(t, addr, "streamid=demo", "-c:v", "libx264", "-preset", "veryfast", "-bf", "2", "-g", "30")
	ingesttest.Subscribe(t, hub, "demo", media.AccessUnits)
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
	sub := ingesttest.Subscribe(t, hub, "demo", media.RTP)
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
