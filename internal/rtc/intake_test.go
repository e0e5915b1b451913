package rtc

import (
	"encoding/binary"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"
)

// listener takes media and notes in which order it comes.
type listener struct {
	mu   sync.Mutex
	next uint32
	odd  int // packets out of order
}

func (l *listener) received(b []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if n := binary.BigEndian.Uint32(b[1:]); n < l.next {
		l.odd++
	} else {
		l.next = n + 1
	}
}

func (l *listener) checked([]byte, netip.AddrPort) []byte { return nil }

// Whoever receives, ICE's mux or those who call Poll, media comes in order and ICE gets what is its own.
func TestPoll(t *testing.T) {
	s, err := openSocket("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	p := &Port{sockets: []*socket{s}}
	client, err := net.DialUDP("udp4", nil, s.LocalAddr().(*net.UDPAddr))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	media := &listener{}
	from := client.LocalAddr().(*net.UDPAddr).AddrPort()
	s.route(from, media)

	// With nobody at the mux, Poll hands on media up to what is for ICE.
	dtls := []byte{22, 1, 2, 3}
	write := func(b []byte) {
		if _, err := client.Write(b); err != nil {
			t.Fatal(err)
		}
	}
	write(binary.BigEndian.AppendUint32([]byte{0x80}, 0))
	write(dtls)
	write(binary.BigEndian.AppendUint32([]byte{0x80}, 1))
	p.Poll()
	if media.next != 1 {
		t.Fatalf("%d packets of media", media.next)
	}
	buf := make([]byte, 100)
	if n, addr, err := s.ReadFromAddrPort(buf); err != nil || string(buf[:n]) != string(dtls) || addr != from {
		t.Fatalf("ICE got %x of %v, %v", buf[:n], addr, err)
	}
	p.Poll()
	if media.next != 2 {
		t.Fatalf("%d packets of media", media.next)
	}

	// With all of them at once.
	const packets, each = 1000, 20
	var readers sync.WaitGroup
	stop := make(chan struct{})
	for range 2 {
		readers.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
					p.Poll()
					time.Sleep(20 * time.Microsecond) // of sending
				}
			}
		})
	}
	strays := 0
	readers.Go(func() {
		buf := make([]byte, 100)
		_ = s.SetReadDeadline(time.Now().Add(10 * time.Second))
		for strays < packets/each {
			if _, _, err := s.ReadFromAddrPort(buf); err != nil {
				t.Errorf("after %d packets for ICE: %v", strays, err)
				break
			}
			strays++
		}
		close(stop)
	})
	for i := range packets {
		write(binary.BigEndian.AppendUint32([]byte{0x80}, uint32(2+i)))
		if i%each == 0 {
			write(dtls)
			time.Sleep(100 * time.Microsecond) // the socket's buffer is no queue to test
		}
	}
	readers.Wait()
	for deadline := time.Now().Add(5 * time.Second); media.next < 2+packets && time.Now().Before(deadline); {
		p.Poll()
	}
	if media.odd > 0 || media.next != 2+packets {
		t.Errorf("%d packets out of order, %d in all", media.odd, media.next)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}
