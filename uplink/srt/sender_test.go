package srt_test

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	gosrt "github.com/datarhei/gosrt"

	"gantry/internal/testkit"
	"gantry/media"
	"gantry/uplink"
	"gantry/uplink/srt"
)

func TestMain(m *testing.M) { testkit.Main(m) }

// run starts a Sender that is stopped with the test. It returns what Run returns if it ends by itself.
func run(t *testing.T, cfg srt.Config) <-chan error {
	t.Helper()
	if err := cfg.Validate(); err != nil {
		t.Fatal(err)
	}
	return testkit.NewProgramme(t, media.Opus).Send(t, srt.New(cfg, slog.New(slog.NewTextHandler(t.Output(), nil))))
}

// received has ffprobe count what lies in the file.
func received(t *testing.T, file string) string {
	t.Helper()
	out, err := exec.Command("ffprobe", "-v", "error", "-count_frames", "-show_entries", "stream=codec_name,width,height", "-of", "csv=p=0", file).CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return string(out)
}

// start runs a program whose output goes to file and which is killed with the test.
func start(t *testing.T, file, name string, args ...string) {
	t.Helper()
	f, err := os.Create(file)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(name, args...)
	out := &strings.Builder{}
	cmd.Stdout, cmd.Stderr = f, out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		defer f.Close()
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("%s: %s", name, out)
		}
	})
}

// waitFor waits until the peer has written enough to tell.
func waitFor(t *testing.T, file string, ended <-chan error) {
	t.Helper()
	testkit.Eventually(t, 15*time.Second, "the peer receives", func() bool {
		select {
		case err := <-ended:
			t.Fatal(err)
		default:
		}
		info, err := os.Stat(file)
		return err == nil && info.Size() > 150_000
	})
}

// TestLibsrtReceives has libsrt's own tool take the stream, plain and with each key length, called and calling.
func TestLibsrtReceives(t *testing.T) {
	for _, c := range []struct {
		name, peerMode string
		change         func(*srt.Config)
		query          string
	}{
		{name: "caller", peerMode: "listener"},
		{name: "caller AES-128", peerMode: "listener", change: func(c *srt.Config) { c.Passphrase = "correct-horse" }, query: "&passphrase=correct-horse&pbkeylen=16"},
		{name: "caller AES-192", peerMode: "listener", change: func(c *srt.Config) { c.Passphrase, c.KeyLength = "correct-horse", 192 }, query: "&passphrase=correct-horse&pbkeylen=24"},
		{name: "listener", peerMode: "caller", change: func(c *srt.Config) { c.Mode = "listener" }},
		{name: "listener AES-256", peerMode: "caller", change: func(c *srt.Config) { c.Mode, c.Passphrase, c.KeyLength = "listener", "correct-horse", 256 },
			query: "&passphrase=correct-horse&pbkeylen=32"},
	} {
		t.Run(c.name, func(t *testing.T) {
			cfg := srt.Default()
			cfg.Addr, cfg.Stream = testkit.FreeTCP(t), "demo"
			if c.change != nil {
				c.change(&cfg)
			}
			file := filepath.Join(t.TempDir(), "out.ts")
			peer := func() {
				start(t, file, "srt-live-transmit", "-q", "-a:no", fmt.Sprintf("srt://%s?mode=%s%s", cfg.Addr, c.peerMode, c.query), "file://con")
			}
			if cfg.Mode == "caller" {
				peer()
			}
			ended := run(t, cfg)
			if cfg.Mode == "listener" {
				peer()
			}
			waitFor(t, file, ended)
			if got := received(t, file); !strings.Contains(got, "h264,320,180") || !strings.Contains(got, "opus") {
				t.Fatalf("received: %s", got)
			}
		})
	}
}

// refuser is a listener that refuses with a code.
func refuser(t *testing.T, reason gosrt.RejectionReason) string {
	t.Helper()
	l, err := gosrt.Listen("srt", "127.0.0.1:0", gosrt.DefaultConfig())
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			req, err := l.Accept2()
			if err != nil {
				return
			}
			req.Reject(reason)
		}
	}()
	t.Cleanup(func() { l.Close(); <-done })
	return l.Addr().String()
}

func TestRefusalIsExplained(t *testing.T) {
	cfg := srt.Default()
	cfg.Addr, cfg.Stream = refuser(t, gosrt.REJX_UNAUTHORIZED), "demo"
	err := <-run(t, cfg)
	if !errors.Is(err, uplink.ErrRefused) || !strings.Contains(err.Error(), "token is not accepted") {
		t.Fatal(err)
	}
	cfg.Addr = refuser(t, gosrt.REJX_OVERLOAD)
	if err := <-run(t, cfg); err == nil || errors.Is(err, uplink.ErrRefused) {
		t.Fatal(err)
	}
}

func TestPeerThatVanishesEndsTheRun(t *testing.T) {
	cfg := srt.Default()
	cfg.Stream = "demo"
	l, err := gosrt.Listen("srt", "127.0.0.1:0", gosrt.DefaultConfig())
	if err != nil {
		t.Fatal(err)
	}
	cfg.Addr = l.Addr().String()
	accepted := make(chan gosrt.Conn, 1)
	go func() {
		if req, err := l.Accept2(); err == nil {
			if conn, err := req.Accept(); err == nil {
				accepted <- conn
			}
		}
	}()
	ended := run(t, cfg)
	conn := <-accepted
	conn.Close()
	l.Close()
	select {
	case err := <-ended:
		if err == nil {
			t.Fatal("a lost connection is no error")
		}
	case <-time.After(10 * time.Second):
		t.Fatal("not noticed")
	}
}

func TestConfig(t *testing.T) {
	good := srt.Default()
	good.Addr, good.Stream = "host:1", "demo"
	if err := good.Validate(); err != nil {
		t.Fatal(err)
	}
	for want, change := range map[string]func(*srt.Config){
		"addr: want host:port":              func(c *srt.Config) { c.Addr = "host" },
		"mode: rendezvous is not supported": func(c *srt.Config) { c.Mode = "rendezvous" },
		"mode: want caller or listener":     func(c *srt.Config) { c.Mode = "x" },
		"stream: a caller names the stream": func(c *srt.Config) { c.Stream = "" },
		"dialect: want":                     func(c *srt.Config) { c.Dialect = "x" },
		"passphrase: SRT wants 10 to 79":    func(c *srt.Config) { c.Passphrase = "short" },
		"key_length: want 128, 192 or 256":  func(c *srt.Config) { c.KeyLength = 64 },
		"latency: want 20ms to 10s":         func(c *srt.Config) { c.Latency = 0 },
		"this dialect cannot carry a token": func(c *srt.Config) { c.Token = "a,b" },
	} {
		c := good
		change(&c)
		if err := c.Validate(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want %q, got %v", want, err)
		}
	}
	good.Token = "hidden"
	if u := good.URL(); u != "srt://host:1?mode=caller&streamid=%23%21%3A%3Ar%3Ddemo%2Cm%3Dpublish" {
		t.Error(u)
	}
}
