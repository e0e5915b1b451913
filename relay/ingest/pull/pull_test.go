package pull

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"os/exec"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/bluenviron/gortsplib/v5"
	"github.com/bluenviron/gortsplib/v5/pkg/auth"
	"github.com/bluenviron/gortsplib/v5/pkg/base"
	"github.com/bluenviron/gortsplib/v5/pkg/description"
	"github.com/bluenviron/gortsplib/v5/pkg/format"
	"github.com/bluenviron/gortsplib/v5/pkg/liberrors"
	"github.com/pion/rtp"

	"gantry/internal/secret"
	"gantry/internal/testkit"
	"gantry/media"
	"gantry/relay"
)

func TestMain(m *testing.M) { testkit.Main(m) }

// camera is an RTSP server that asks for a password (digest) and plays what FFmpeg records to it.
type camera struct {
	server *gortsplib.Server
	stream chan *gortsplib.ServerStream
	played atomic.Value // how it is played, as gortsplib.SessionTransport
	mirror *camera      // plays the same
}

func (c *camera) OnAnnounce(ctx *gortsplib.ServerHandlerOnAnnounceCtx) (*base.Response, error) {
	s := &gortsplib.ServerStream{Server: c.server, Desc: ctx.Description}
	if err := s.Initialize(); err != nil {
		return nil, err
	}
	if m := c.mirror; m != nil {
		other := &gortsplib.ServerStream{Server: m.server, Desc: ctx.Description}
		if err := other.Initialize(); err != nil {
			return nil, err
		}
		m.stream <- other
	}
	c.stream <- s
	return &base.Response{StatusCode: base.StatusOK}, nil
}

func (c *camera) current() *gortsplib.ServerStream {
	s := <-c.stream
	c.stream <- s
	return s
}

func (c *camera) OnDescribe(ctx *gortsplib.ServerHandlerOnDescribeCtx) (*base.Response, *gortsplib.ServerStream, error) {
	if !ctx.Conn.VerifyCredentials(ctx.Request, "admin", "pass word") {
		return &base.Response{StatusCode: base.StatusUnauthorized}, nil, liberrors.ErrServerAuth{}
	}
	return &base.Response{StatusCode: base.StatusOK}, c.current(), nil
}

func (c *camera) OnSetup(ctx *gortsplib.ServerHandlerOnSetupCtx) (*base.Response, *gortsplib.ServerStream, error) {
	if ctx.Session.State() == gortsplib.ServerSessionStatePreRecord {
		return &base.Response{StatusCode: base.StatusOK}, nil, nil
	}
	return &base.Response{StatusCode: base.StatusOK}, c.current(), nil
}

func (c *camera) OnPlay(ctx *gortsplib.ServerHandlerOnPlayCtx) (*base.Response, error) {
	c.played.Store(*ctx.Session.Transport())
	return &base.Response{StatusCode: base.StatusOK}, nil
}

func (c *camera) OnRecord(ctx *gortsplib.ServerHandlerOnRecordCtx) (*base.Response, error) {
	s := c.current()
	to := []*gortsplib.ServerStream{s}
	if c.mirror != nil {
		to = append(to, c.mirror.current())
	}
	ctx.Session.OnPacketRTPAny(func(m *description.Media, _ format.Format, p *rtp.Packet) {
		for _, s := range to {
			_ = s.WritePacketRTP(m, p.Clone())
		}
	})
	return &base.Response{StatusCode: base.StatusOK}, nil
}

func ffmpeg(t *testing.T, output ...string) {
	t.Helper()
	cmd := exec.Command("ffmpeg", append([]string{"-nostdin", "-v", "error", "-re", "-f", "lavfi", "-i", "testsrc2=size=320x180:rate=30",
		"-f", "lavfi", "-i", "sine=frequency=440:sample_rate=48000", "-t", "30", "-c:v", "libx264", "-preset", "ultrafast", "-tune", "zerolatency",
		"-g", "15", "-c:a", "aac"}, output...)...)
	var said strings.Builder
	cmd.Stderr = &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if t.Failed() {
			t.Log("ffmpeg:", said.String())
		}
	})
}

// receive pulls and checks that pictures and sound come on time.
func receive(t *testing.T, c Config) {
	t.Helper()
	log := slog.New(slog.NewTextHandler(t.Output(), nil))
	hub := relay.NewHub(relay.Default(), log)
	defer hub.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	ended := make(chan error, 1)
	go func() { ended <- Run(ctx, c, hub, log) }()
	defer func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}()
	var sub *relay.Subscription
	testkit.Eventually(t, 15*time.Second, "the stream is live", func() bool {
		var err error
		sub, err = hub.Subscribe("cam", relay.Want{})
		return err == nil
	})
	defer sub.Close()
	tracks := sub.Tracks()
	if len(tracks) != 2 || tracks[0].RID != c.Layer || tracks[0].Codec != media.H264 || tracks[0].Width != 320 || tracks[1].Codec != media.AAC {
		t.Fatalf("tracks %+v", tracks)
	}
	var last [2]time.Duration
	var count [2]int
	for count[0] < 45 || count[1] < 45 {
		packets, err := sub.Pull(ctx, nil)
		if err != nil {
			t.Fatal(err, count)
		}
		for _, p := range packets {
			if d := p.PTS - last[p.Track]; count[p.Track] > 0 && (d < 5*time.Millisecond || d > 60*time.Millisecond) {
				t.Errorf("packet %d of track %d comes %v after the one before", count[p.Track], p.Track, d)
			}
			last[p.Track] = p.PTS
			count[p.Track]++
		}
	}
	if d := last[0] - last[1]; d.Abs() > 500*time.Millisecond {
		t.Errorf("the picture is at %v, the sound at %v", last[0], last[1])
	}
	for _, f := range hub.Streams()[0].Publishers[0].Faults {
		t.Errorf("fault %v", f)
	}
}

func TestRTSP(t *testing.T) {
	c := &camera{stream: make(chan *gortsplib.ServerStream, 1)}
	addr := testkit.FreeTCP(t)
	c.server = &gortsplib.Server{Handler: c, RTSPAddress: addr, AuthMethods: []auth.VerifyMethod{auth.VerifyMethodDigestMD5}}
	if err := c.server.Start(); err != nil {
		t.Fatal(err)
	}
	defer c.server.Close()
	ffmpeg(t, "-rtsp_transport", "tcp", "-f", "rtsp", "rtsp://"+addr+"/live")
	receive(t, Config{Name: "cam", URL: secret.String("rtsp://admin:pass%20word@" + addr + "/live")})

	err := Run(t.Context(), Config{Name: "cam", URL: secret.String("rtsp://admin:wrong-one@" + addr + "/live")}, relay.NewHub(relay.Default(), slog.New(slog.DiscardHandler)), slog.New(slog.DiscardHandler))
	if err == nil || strings.Contains(err.Error(), "wrong-one") {
		t.Errorf("a wrong password: %v", err)
	}
	t.Log(err)
	c.current().Close()
}

// certificate is one of the camera's own making, and its fingerprint.
func certificate(t *testing.T) (*tls.Config, string) {
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
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}, fmt.Sprintf("%x", sha256.Sum256(der))
}

// What FFmpeg records to a camera is fetched over UDP, and over TLS.
func TestRTSPTransports(t *testing.T) {
	for _, c := range []struct {
		scheme string
		want   gortsplib.Protocol
	}{{"rtsp", gortsplib.ProtocolUDP}, {"rtsps", gortsplib.ProtocolTCP}} {
		t.Run(c.scheme, func(t *testing.T) {
			cam := &camera{stream: make(chan *gortsplib.ServerStream, 1)}
			cam.server = &gortsplib.Server{Handler: cam, AuthMethods: []auth.VerifyMethod{auth.VerifyMethodDigestMD5}}
			config := Config{Name: "cam"}
			if c.scheme == "rtsps" {
				cam.server.TLSConfig, config.Fingerprint = certificate(t)
			}
			var err error
			for range 5 { // the pair of ports must be free, the first of them even
				cam.server.RTSPAddress = testkit.FreeTCP(t)
				if c.scheme == "rtsp" {
					_, text, _ := net.SplitHostPort(testkit.FreeTCP(t))
					port, _ := strconv.Atoi(text)
					cam.server.UDPRTPAddress, cam.server.UDPRTCPAddress = fmt.Sprintf("127.0.0.1:%d", port&^1), fmt.Sprintf("127.0.0.1:%d", port|1)
				}
				if err = cam.server.Start(); err == nil {
					break
				}
			}
			if err != nil {
				t.Fatal(err)
			}
			defer cam.server.Close()
			record := &camera{stream: make(chan *gortsplib.ServerStream, 1), mirror: cam}
			record.server = &gortsplib.Server{Handler: record, RTSPAddress: testkit.FreeTCP(t)}
			if err := record.server.Start(); err != nil {
				t.Fatal(err)
			}
			defer record.server.Close()
			// A server that encrypts (SRTP) has no room in what it sends for packets that fill it.
			ffmpeg(t, "-rtsp_transport", "tcp", "-pkt_size", "1200", "-f", "rtsp", "rtsp://"+record.server.RTSPAddress+"/live")
			config.URL = secret.String(c.scheme + "://admin:pass%20word@" + cam.server.RTSPAddress + "/live")
			receive(t, config)
			for fingerprint, want := range map[string]string{"": "set fingerprint: ", strings.Repeat("ab", 32): "its fingerprint is "} {
				stranger := config
				if stranger.Fingerprint = fingerprint; c.scheme != "rtsps" {
					continue
				}
				err := Run(t.Context(), stranger, nil, slog.New(slog.DiscardHandler))
				if err == nil || !strings.Contains(strings.ToLower(strings.ReplaceAll(err.Error(), ":", "")), strings.ReplaceAll(want, ":", "")+config.Fingerprint) {
					t.Errorf("fingerprint %q: %v", fingerprint, err)
				}
			}
			if got, ok := cam.played.Load().(gortsplib.SessionTransport); !ok || got.Protocol != c.want {
				t.Errorf("it came by %+v", got)
			}
			cam.current().Close()
		})
	}
}

func TestSRT(t *testing.T) {
	addr := testkit.FreeTCP(t) // as good for UDP
	ffmpeg(t, "-f", "mpegts", fmt.Sprintf("srt://%s?mode=listener&passphrase=correct-horse", addr))
	log := slog.New(slog.NewTextHandler(io.Discard, nil))
	hub := relay.NewHub(relay.Default(), log)
	defer hub.Close()
	if err := Run(t.Context(), Config{Name: "cam", URL: secret.String("srt://" + addr + "?passphrase=another-horse")}, hub, log); err == nil || strings.Contains(err.Error(), "another-horse") {
		t.Errorf("a wrong passphrase: %v", err)
	}
	receive(t, Config{Name: "cam", URL: secret.String("srt://" + addr + "?passphrase=correct-horse"), Layer: "hi"})
}

func TestValidate(t *testing.T) {
	for address, want := range map[string]string{
		"":                              "url: want rtsp://",
		"http://camera/":                "url: want rtsp://",
		"rtsp:///x":                     "names no host",
		"srt://host":                    "needs a port",
		"srt://host:1?passphrase=x":     "10 to 79",
		"srt://host:1?latency=soon":     "latency",
		"rtsp://a:b%zz@host/":           "cannot be read",
		"rtsp://a:secret@camera:x/path": "cannot be read",
	} {
		if err := (Config{Name: "cam", URL: secret.String(address)}).Validate(); err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: %v, want %q", address, err, want)
		}
	}
	for _, address := range []string{"rtsp://camera", "rtsps://a:b@camera:322/x?y=z", "srt://[::1]:9000?streamid=x&latency=500"} {
		if err := (Config{Name: "cam", URL: secret.String(address)}).Validate(); err != nil {
			t.Error(err)
		}
	}
	for _, c := range []Config{
		{Name: "../x", URL: "rtsp://camera"},
		{Name: "cam", URL: "rtsp://camera", Layer: "a b"},
		{Name: "cam", URL: "rtsps://camera", Fingerprint: "ab:cd"},
		{Name: "cam", URL: "rtsp://camera", Fingerprint: strings.Repeat("ab", 32)},
	} {
		if c.Validate() == nil {
			t.Errorf("%+v is valid", c)
		}
	}
}

func FuzzValidate(f *testing.F) {
	f.Add("rtsp://a:b@camera:554/x")
	f.Add("srt://[::1]:9000?streamid=x&latency=500&passphrase=0123456789")
	f.Fuzz(func(t *testing.T, s string) {
		c := Config{Name: "cam", URL: secret.String(s)}
		if c.Validate() == nil && s == "" {
			t.Error("an empty URL is valid")
		}
	})
}
