package rtsp

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"log/slog"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"gantry/device/file"
	device "gantry/device/rtsp"
	"gantry/internal/testkit"
	"gantry/media"
)

func TestMain(m *testing.M) { testkit.Main(m) }

var quiet = slog.New(slog.DiscardHandler)

// serve runs a Sender with a clip in a loop until the test ends.
func serve(t *testing.T, c Config, codecs ...string) *Sender {
	t.Helper()
	if err := c.Validate(); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "clip.mp4")
	args := append([]string{"-v", "error", "-f", "lavfi", "-i", "testsrc=size=320x180:rate=25", "-f", "lavfi", "-i", "sine=sample_rate=48000", "-t", "2", "-g", "10",
		"-pix_fmt", "yuv420p"}, codecs...)
	if out, err := exec.Command("ffmpeg", append(args, path)...).CombinedOutput(); err != nil {
		t.Fatalf("%v %s", err, out)
	}
	s := New(c, quiet)
	select {
	case <-testkit.SendFrom(t, s, file.New(file.Config{Path: path}, quiet)):
	case <-time.After(20 * time.Second):
		t.Fatal("not serving")
	}
	return s
}

var h264aac = []string{"-c:v", "libx264", "-bf", "2", "-c:a", "aac"}

// probe has ffprobe play from url, and returns what it counted.
func probe(t *testing.T, url string, args ...string) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 40*time.Second)
	defer cancel()
	all := append(append([]string{"-v", "error"}, args...), "-read_intervals", "%+2", "-count_packets", "-show_entries", "stream=codec_name,nb_read_packets", "-of", "csv=p=0", url)
	out, err := exec.CommandContext(ctx, "ffprobe", all...).CombinedOutput()
	return string(out), err
}

// enough tells whether each of two streams has come, by name, with so many packets at least.
func enough(out string, least int, names ...string) bool {
	found := 0
	for _, line := range strings.Split(strings.TrimSpace(out), "\n") {
		name, count, ok := strings.Cut(line, ",")
		n, err := strconv.Atoi(count)
		for _, want := range names {
			if ok && err == nil && name == want && n >= least {
				found++
			}
		}
	}
	return found == len(names)
}

// ffprobe plays over TCP and UDP with digest authentication, B-frames and all; nobody gets in without.
func TestFFmpegPlays(t *testing.T) {
	c := Default()
	c.Addr, c.User, c.Password, c.RTPPort = testkit.FreeTCP(t), "viewer", "secret", evenPort(t)
	s := serve(t, c, h264aac...)
	for _, transport := range []string{"tcp", "udp"} {
		out, err := probe(t, "rtsp://viewer:secret@"+c.Addr+"/live", "-rtsp_transport", transport)
		if err != nil || !enough(out, 30, "h264", "aac") {
			t.Errorf("%s: %v\n%s", transport, err, out)
		}
	}
	for _, url := range []string{"rtsp://" + c.Addr + "/live", "rtsp://viewer:wrong@" + c.Addr + "/live", "rtsp://viewer:secret@" + c.Addr + "/other"} {
		if out, err := probe(t, url, "-rtsp_transport", "tcp"); err == nil {
			t.Errorf("%s plays: %s", url, out)
		}
	}
	if st := s.Stats(); st.Packets == 0 || st.Bytes == 0 {
		t.Errorf("%+v", st)
	}
	testkit.Eventually(t, 10*time.Second, "the players have gone", func() bool { return s.Stats().Peers == 0 })
}

func evenPort(t *testing.T) int {
	t.Helper()
	for range 50 {
		a, err := net.ListenPacket("udp4", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		port := a.LocalAddr().(*net.UDPAddr).Port
		b, err := net.ListenPacket("udp4", net.JoinHostPort("127.0.0.1", strconv.Itoa(port+1)))
		a.Close()
		if err == nil {
			b.Close()
			if port%2 == 0 {
				return port
			}
		}
	}
	t.Fatal("no two free ports")
	return 0
}

// Over TLS, to our own client as well, H.265 and Opus: what it receives is what was sent.
func TestRTSPS(t *testing.T) {
	c := Default()
	c.Addr = testkit.FreeTCP(t)
	c.Certificate, c.Key = certificate(t)
	serve(t, c, "-c:v", "libx265", "-x265-params", "log-level=error:bframes=0", "-c:a", "libopus")
	if out, err := probe(t, "rtsps://"+c.Addr+"/live", "-rtsp_transport", "tcp"); err != nil || !enough(out, 30, "hevc", "opus") {
		t.Errorf("%v\n%s", err, out)
	}
	mine := device.Default()
	mine.URL = "rtsps://" + c.Addr + "/live"
	_, err := device.New(mine).Start(t.Context())
	if err == nil {
		t.Fatal("a certificate of nobody was taken")
	}
	_, told, ok := strings.Cut(err.Error(), "set fingerprint: ")
	if !ok {
		t.Fatal(err)
	}
	mine.Fingerprint = strings.Repeat("ab", 32)
	if _, err := device.New(mine).Start(t.Context()); err == nil || !strings.Contains(err.Error(), "its fingerprint is "+told) {
		t.Errorf("another certificate: %v", err)
	}
	mine.Fingerprint = told
	player := device.New(mine)
	defer player.Close()
	tracks, err := player.Start(t.Context())
	if err != nil || len(tracks) != 2 || tracks[0].Codec != media.H265 || tracks[1].Codec != media.Opus {
		t.Fatalf("%v %+v", err, tracks)
	}
	for n := 0; n < 30; n++ {
		if _, err := player.Read(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}

func certificate(t *testing.T) (cert, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalECPrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	cert, key = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	for name, block := range map[string]*pem.Block{cert: {Type: "CERTIFICATE", Bytes: der}, key: {Type: "EC PRIVATE KEY", Bytes: secret}} {
		if err := os.WriteFile(name, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return cert, key
}

func TestConfig(t *testing.T) {
	for want, change := range map[string]func(*Config){
		"set user and password":    func(c *Config) { c.Addr = "0.0.0.0:8554" },
		"want host:port":           func(c *Config) { c.Addr = "here" },
		"path: \"a/b\" is not":     func(c *Config) { c.Path = "a/b" },
		"without the other":        func(c *Config) { c.User = "x" },
		"rtp_port: 8001 is not":    func(c *Config) { c.RTPPort = 8001 },
		"certificate and key":      func(c *Config) { c.Certificate = "/x" },
		"is not an absolute path":  func(c *Config) { c.Certificate, c.Key = "x", "/y" },
		"can be reached from othe": func(c *Config) { c.Addr = ":8554" },
	} {
		c := Default()
		change(&c)
		if err := c.Validate(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want %q, got %v", want, err)
		}
	}
}

// What no payload format should be given must not end the daemon.
func FuzzPack(f *testing.F) {
	f.Add([]byte{0, 0, 0, 1, 0x67, 1, 2, 0, 0, 1, 0x65, 3})
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, track := range []media.Track{{Codec: media.H264, ClockRate: 90000}, {Codec: media.H265, ClockRate: 90000}, {Codec: media.Opus, ClockRate: 48000, Channels: 2},
			{Codec: media.AAC, ClockRate: 48000, Channels: 2, Profile: "1190"}} {
			p, err := newPacker(track, 96, b)
			if err != nil {
				continue
			}
			_, _ = p.pack(b)
		}
	})
}
