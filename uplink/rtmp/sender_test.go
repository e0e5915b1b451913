package rtmp_test

import (
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"gantry/internal/testkit"
	"gantry/media"
	"gantry/uplink/rtmp"
)

func TestMain(m *testing.M) { testkit.Main(m) }

// run starts a Sender that is stopped with the test. It returns what Run returns if it ends by itself.
func run(t *testing.T, cfg rtmp.Config) <-chan error {
	t.Helper()
	if err := cfg.Validate(); err != nil {
		t.Fatal(err)
	}
	return testkit.NewProgramme(t, media.AAC).Send(t, rtmp.New(cfg, slog.New(slog.NewTextHandler(t.Output(), nil))))
}

// TestNginxReceives publishes to nginx's RTMP module and looks at what it recorded.
func TestNginxReceives(t *testing.T) {
	addr, folder := testkit.Nginx(t)
	for _, c := range []struct {
		name string
		cfg  rtmp.Config
	}{
		{"apart", rtmp.Config{URL: "rtmp://" + addr + "/live", Key: "apart?token=x"}},
		{"within", rtmp.Config{URL: "rtmp://" + addr + "/live/within"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			ended := run(t, c.cfg)
			var file string
			testkit.Eventually(t, 15*time.Second, "nginx records", func() bool {
				select {
				case err := <-ended:
					t.Fatal(err)
				default:
				}
				files, _ := filepath.Glob(filepath.Join(folder, c.name+"*.flv"))
				if len(files) == 0 {
					return false
				}
				file = files[0]
				info, err := os.Stat(file)
				return err == nil && info.Size() > 150_000
			})
			probe, err := exec.Command("ffprobe", "-v", "error", "-show_entries", "stream=codec_name,width", "-of", "csv=p=0", file).CombinedOutput()
			if err != nil || !strings.Contains(string(probe), "h264,320") || !strings.Contains(string(probe), "aac") {
				t.Fatalf("recorded: %v %s", err, probe)
			}
		})
	}
}

func TestLostConnectionEndsTheRun(t *testing.T) {
	addr := testkit.FreeTCP(t)
	if err := <-run(t, rtmp.Config{URL: "rtmp://" + addr + "/live/demo"}); err == nil || !strings.Contains(err.Error(), "connect to "+addr) {
		t.Fatal(err)
	}
}

func TestErrorsHideTheKey(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		if conn, err := l.Accept(); err == nil {
			conn.Close()
		}
	}()
	err = <-run(t, rtmp.Config{URL: "rtmp://" + l.Addr().String() + "/live", Key: "very-secret"})
	if err == nil || strings.Contains(err.Error(), "very-secret") {
		t.Fatal(err)
	}
}

func TestConfig(t *testing.T) {
	for _, c := range []struct {
		cfg  rtmp.Config
		want string
	}{
		{rtmp.Config{}, "url: want rtmp://"},
		{rtmp.Config{URL: "http://x/live"}, "url: want rtmp://"},
		{rtmp.Config{Platform: "nosuch", Key: "k"}, "platform: want one of facebook, twitch, youtube"},
		{rtmp.Config{Platform: "youtube"}, "key: the platform wants"},
		{rtmp.Config{Platform: "youtube", Key: "k", URL: "rtmp://x/y"}, "url: not together"},
		{rtmp.Config{URL: "rtmp://x/live", Key: "a b"}, "key: no spaces"},
	} {
		if err := c.cfg.Validate(); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("want %q, got %v", c.want, err)
		}
	}
	if err := (rtmp.Config{Platform: "youtube-backup", Key: "k"}).Validate(); err != nil {
		t.Error(err)
	}
}
