package udp

import (
	"context"
	"log/slog"
	"net"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"gantry/device/file"
	"gantry/internal/testkit"
)

func TestMain(m *testing.M) { testkit.Main(m) }

var quiet = slog.New(slog.DiscardHandler)

// send runs a Sender with a clip in a loop until the test ends.
func send(t *testing.T, c Config) *Sender {
	t.Helper()
	if err := c.Validate(); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "clip.mp4")
	if out, err := exec.Command("ffmpeg", "-v", "error", "-f", "lavfi", "-i", "testsrc=size=640x360:rate=25", "-f", "lavfi", "-i", "sine=sample_rate=48000", "-t", "2", "-g", "10",
		"-pix_fmt", "yuv420p", "-c:v", "libx264", "-crf", "10", "-c:a", "aac", path).CombinedOutput(); err != nil {
		t.Fatalf("%v %s", err, out)
	}
	s := New(c, quiet)
	testkit.SendFrom(t, s, file.New(file.Config{Path: path}, quiet))
	return s
}

// ffprobe receives what is sent, by unicast and by multicast, and finds nothing missing.
func TestFFmpegReceives(t *testing.T) {
	for _, host := range []string{"127.0.0.1", "239.255.78.1"} {
		t.Run(host, func(t *testing.T) {
			t.Parallel()
			c := Default()
			free, err := net.ListenPacket("udp4", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			_, port, _ := net.SplitHostPort(free.LocalAddr().String())
			free.Close()
			c.Addr = net.JoinHostPort(host, port)
			url := "udp://" + c.Addr + "?fifo_size=100000"
			if host != "127.0.0.1" {
				c.Interface, c.TTL = "lo", 0
				url += "&localaddr=127.0.0.1"
			}
			s := send(t, c)
			ctx, cancel := context.WithTimeout(t.Context(), 40*time.Second)
			defer cancel()
			out, err := exec.CommandContext(ctx, "ffprobe", "-v", "warning", "-read_intervals", "%+3", "-count_packets", "-show_entries", "stream=codec_name,nb_read_packets",
				"-of", "csv=p=0", url).CombinedOutput()
			if text := string(out); err != nil || !strings.Contains(text, "h264,") || !strings.Contains(text, "aac,") || strings.Contains(text, "corrupt") ||
				strings.Contains(text, "Continuity") {
				t.Errorf("%v\n%s", err, text)
			}
			if st := s.Stats(); st.Bytes/max(st.Packets, 1) > 7*188 {
				t.Errorf("%+v", st)
			}
		})
	}
}

// A large picture's datagrams do not leave in one burst.
func TestPacing(t *testing.T) {
	conn, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	to, err := net.DialUDP("udp4", nil, conn.LocalAddr().(*net.UDPAddr))
	if err != nil {
		t.Fatal(err)
	}
	defer to.Close()
	var unit datagrams
	for range 60 {
		_, _ = unit.Write(make([]byte, 7*188))
	}
	begin := time.Now()
	New(Config{}, quiet).send(t.Context(), to, &unit)
	if took := time.Since(begin); took < 10*time.Millisecond {
		t.Errorf("60 datagrams in %v", took)
	}
}

func TestConfig(t *testing.T) {
	for want, c := range map[string]Config{
		"addr: want address:port":     {Addr: "here"},
		"5000, got \"0.0.0.0:5000\"":  {Addr: "0.0.0.0:5000"},
		"interface: is for multicast": {Addr: "127.0.0.1:5000", Interface: "lo"},
		"ttl: 256 is not":             {Addr: "239.1.1.1:5000", TTL: 256},
	} {
		if err := c.Validate(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want %q, got %v", want, err)
		}
	}
}
