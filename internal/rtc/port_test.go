package rtc_test

import (
	"io"
	"log/slog"
	"net"
	"net/netip"
	"testing"
	"time"

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

// A Port ends at once though somebody has connected by TCP and says nothing, as where a NAT forgot the connection.
func TestCloseWithSilentTCP(t *testing.T) {
	p, err := rtc.Listen(rtc.Config{Addr: "127.0.0.1:0"}, quiet)
	if err != nil {
		t.Fatal(err)
	}
	c, err := net.Dial("tcp", p.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	time.Sleep(50 * time.Millisecond) // until it is accepted
	begun := time.Now()
	_ = p.Close()
	if took := time.Since(begun); took > 5*time.Second {
		t.Errorf("it took %v", took)
	}
}
