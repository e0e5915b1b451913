package rtmp_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"log/slog"
	"math/big"
	"net/url"
	"os/exec"
	"slices"
	"testing"
	"time"

	"gantry/internal/testkit"
	"gantry/internal/testkit/ingesttest"
	"gantry/media"
	"gantry/relay"
	"gantry/relay/ingest/rtmp"
)

func TestMain(m *testing.M) { testkit.Main(m) }

func listen(t *testing.T, tlsConfig *tls.Config, authorize func(token, stream string) error) (*relay.Hub, string) {
	t.Helper()
	hub := relay.NewHub(relay.Default(), slog.New(slog.DiscardHandler))
	s, err := rtmp.Listen("127.0.0.1:0", tlsConfig, hub, authorize, slog.New(slog.NewTextHandler(t.Output(), nil)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { hub.Close() })
	ingesttest.Run(t, s.Run)
	return hub, s.Addr().String()
}

// ffmpeg publishes in H.264, with AAC unless it is told otherwise.
func ffmpeg(t *testing.T, to string, sound ...string) *exec.Cmd {
	t.Helper()
	if len(sound) == 0 {
		sound = []string{"-c:a", "aac", "-b:a", "96k"}
	}
	return ingesttest.FFmpeg(t, slices.Concat(ingesttest.H264, sound, []string{"-f", "flv", to})...)
}

func authorize(token, stream string) error {
	if token != "correct-token" || stream != "demo" {
		return errors.New("wrong token")
	}
	return nil
}

func certificate(t *testing.T) *tls.Config {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}
}

func TestPublishers(t *testing.T) {
	for _, scheme := range []string{"rtmp", "rtmps"} {
		t.Run(scheme, func(t *testing.T) {
			var config *tls.Config
			if scheme == "rtmps" {
				config = certificate(t)
			}
			hub, addr := listen(t, config, authorize)
			ffmpeg(t, scheme+"://"+addr+"/live/demo?token=correct-token")
			ingesttest.Steady(t, hub, ingesttest.Subscribe(t, hub, "demo", media.RTP))
		})
	}
}

// Sound that Gantry does not carry is left out; the picture is on the air.
func TestForeignSound(t *testing.T) {
	hub, addr := listen(t, nil, authorize)
	ffmpeg(t, "rtmp://"+addr+"/live/demo?token=correct-token", "-c:a", "libmp3lame")
	testkit.Eventually(t, 10*time.Second, "pictures come", func() bool {
		s := hub.Streams()
		return len(s) == 1 && s[0].Live && len(s[0].Publishers[0].Tracks) == 1 && s[0].Publishers[0].Tracks[0].Frames > 30
	})
}

func TestRefused(t *testing.T) {
	for _, path := range []string{"live/demo", "live/demo?token=wrong", "a/..b/../c?token=correct-token"} {
		t.Run(path, func(t *testing.T) {
			hub, addr := listen(t, nil, authorize)
			ingesttest.Refused(t, hub, ffmpeg(t, "rtmp://"+addr+"/"+path))
		})
	}
}

func TestAddress(t *testing.T) {
	for in, want := range map[string][2]string{
		"rtmp://h/demo":                           {"demo", ""},
		"rtmp://h:1935/live/demo?token=x":         {"demo", "x"},
		"rtmp://h/live/a/b?auth=x":                {"a/b", "x"},
		"rtmp://h/v2/pub/demo?token=x&priority=2": {"demo", "x"},
		"rtmp://h/live#demo":                      {"demo", ""},
		"rtmp://h/live/demo%3Ftoken=x":            {"demo", "x"},
	} {
		u, err := url.Parse(in)
		if err != nil {
			t.Fatal(err)
		}
		if stream, token, _ := rtmp.Address(u); stream != want[0] || token != want[1] {
			t.Errorf("%s: stream %q, token %q", in, stream, token)
		}
	}
}

func FuzzAddress(f *testing.F) {
	f.Add("rtmp://h/live/demo?token=x")
	f.Fuzz(func(t *testing.T, s string) {
		if u, err := url.Parse(s); err == nil {
			rtmp.Address(u)
		}
	})
}
