package rtc

import (
	"context"
	"log/slog"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/pion/stun/v3"

	"gantry/internal/testkit"
)

// What a STUN server sees is told to peers, with the port that is ours and with the one that it saw.
func TestReflect(t *testing.T) {
	server, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		b := make([]byte, 1500)
		for lost := 0; ; lost++ {
			n, from, err := server.ReadFrom(b)
			if err != nil {
				return
			}
			request := &stun.Message{Raw: append([]byte(nil), b[:n]...)}
			if request.Decode() != nil || lost == 0 { // the first one is lost
				continue
			}
			reply, _ := stun.Build(request, stun.BindingSuccess, &stun.XORMappedAddress{IP: net.IPv4(203, 0, 113, 9), Port: 40000}, stun.Fingerprint)
			_, _ = server.WriteTo(reply.Raw, from)
		}
	}()
	port, err := Listen(Config{Addr: "127.0.0.1:0"}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- port.Reflect(ctx, server.LocalAddr().String()) }()
	testkit.Eventually(t, 5*time.Second, "the address is known", func() bool { return len(port.rules()) == 1 })
	peer, err := port.NewPeer(Events{})
	if err != nil {
		t.Fatal(err)
	}
	local, err := peer.Local()
	if err != nil {
		t.Fatal(err)
	}
	all := strings.Join(local.Candidates, "\n")
	if want := " 203.0.113.9 " + port.Addr().String()[len("127.0.0.1:"):] + " typ host"; !strings.Contains(all, want) || !strings.Contains(all, " 127.0.0.1 ") {
		t.Errorf("no %q among\n%s", want, all)
	}
	if want := " 203.0.113.9 40000 typ srflx raddr 127.0.0.1 rport "; !strings.Contains(all, want) {
		t.Errorf("no %q among\n%s", want, all)
	}
	_ = peer.Close()
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	_ = server.Close()
	<-done
	if err := port.Close(); err != nil {
		t.Error(err)
	}
}

func FuzzMapped(f *testing.F) {
	request, _ := stun.Build(stun.TransactionID, stun.BindingRequest)
	reply, _ := stun.Build(request, stun.BindingSuccess, &stun.XORMappedAddress{IP: net.IPv4(203, 0, 113, 9), Port: 40000})
	f.Add(reply.Raw)
	f.Add(request.Raw)
	f.Fuzz(func(t *testing.T, b []byte) {
		if a, err := mapped(b, request.TransactionID); err == nil && !a.IsValid() {
			t.Errorf("%x: %v", b, a)
		}
	})
}
