package rtc_test

import (
	"io"
	"log/slog"
	"net/netip"
	"testing"
	"time"

	"github.com/pion/webrtc/v4"

	"gantry/internal/rtc"
	"gantry/internal/testkit"
)

func TestMain(m *testing.M) { testkit.Main(m) }

var quiet = slog.New(slog.NewTextHandler(io.Discard, nil))

func listen(t testing.TB, cfg rtc.Config) *rtc.Port {
	t.Helper()
	p, err := rtc.Listen(cfg, quiet)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	return p
}

// pionAPI returns an API for a client on loopback.
func pionAPI(t testing.TB, change func(*webrtc.SettingEngine)) *webrtc.API {
	t.Helper()
	var media webrtc.MediaEngine
	if err := media.RegisterDefaultCodecs(); err != nil {
		t.Fatal(err)
	}
	var e webrtc.SettingEngine
	e.SetIncludeLoopbackCandidate(true)
	e.SetICEMulticastDNSMode(1)
	if change != nil {
		change(&e)
	}
	return webrtc.NewAPI(webrtc.WithMediaEngine(&media), webrtc.WithSettingEngine(e))
}

func gathered(t testing.TB, pc *webrtc.PeerConnection, d webrtc.SessionDescription) webrtc.SessionDescription {
	t.Helper()
	done := webrtc.GatheringCompletePromise(pc)
	if err := pc.SetLocalDescription(d); err != nil {
		t.Fatal(err)
	}
	<-done
	return *pc.LocalDescription()
}

// A pion/webrtc peer connection that Configure has set up is reached over UDP, or over TCP where UDP is shut.
func TestConfigure(t *testing.T) {
	for name, networks := range map[string][]webrtc.NetworkType{
		"udp": {webrtc.NetworkTypeUDP4}, "tcp": {webrtc.NetworkTypeTCP4},
	} {
		t.Run(name, func(t *testing.T) {
			port := listen(t, rtc.Config{Addr: "127.0.0.1:0"})
			var e webrtc.SettingEngine
			port.Configure(&e)
			server, err := webrtc.NewAPI(webrtc.WithSettingEngine(e)).NewPeerConnection(webrtc.Configuration{})
			if err != nil {
				t.Fatal(err)
			}
			defer server.GracefulClose()
			client, err := pionAPI(t, func(e *webrtc.SettingEngine) { e.SetNetworkTypes(networks) }).NewPeerConnection(webrtc.Configuration{})
			if err != nil {
				t.Fatal(err)
			}
			defer client.GracefulClose()
			open := make(chan struct{})
			dc, err := client.CreateDataChannel("x", nil)
			if err != nil {
				t.Fatal(err)
			}
			dc.OnOpen(func() { close(open) })
			offer, err := client.CreateOffer(nil)
			if err != nil {
				t.Fatal(err)
			}
			if err := server.SetRemoteDescription(gathered(t, client, offer)); err != nil {
				t.Fatal(err)
			}
			answer, err := server.CreateAnswer(nil)
			if err != nil {
				t.Fatal(err)
			}
			if err := client.SetRemoteDescription(gathered(t, server, answer)); err != nil {
				t.Fatal(err)
			}
			select {
			case <-open:
			case <-time.After(10 * time.Second):
				t.Fatal("not connected")
			}
		})
	}
}

func TestListenOnEveryAddress(t *testing.T) {
	port := listen(t, rtc.Config{Addr: ":0", Loopback: true})
	if port.Addr().Port() == 0 {
		t.Fatal("no port")
	}
	var found bool
	for _, a := range port.UDPMux().GetListenAddresses() {
		found = found || a.String() == netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), port.Addr().Port()).String()
	}
	if !found {
		t.Fatalf("no loopback address among %v", port.UDPMux().GetListenAddresses())
	}
	if _, err := rtc.Listen(rtc.Config{Addr: port.Addr().String()}, quiet); err == nil {
		t.Fatal("the same port was opened twice")
	}
}

func TestConfigRefused(t *testing.T) {
	for _, c := range []rtc.Config{{Addr: "8189"}, {Addr: ":x"}, {Addr: ":0", PublicAddrs: []netip.Addr{netip.IPv4Unspecified()}}} {
		if p, err := rtc.Listen(c, quiet); err == nil {
			_ = p.Close()
			t.Errorf("%+v was accepted", c)
		}
	}
}
