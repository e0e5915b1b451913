package rtc

import (
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"testing"
	"time"
)

func testBatch(t testing.TB, addr string) *Batch {
	t.Helper()
	p, err := Listen(Config{Addr: addr, Loopback: true}, slog.New(slog.NewTextHandler(io.Discard, nil)))
	if err != nil {
		t.Fatal(err)
	}
	b, err := p.NewBatch()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Error(err)
		}
		_ = p.Close()
	})
	return b
}

func receiver(t testing.TB, network, addr string) *net.UDPConn {
	t.Helper()
	c, err := net.ListenPacket(network, addr)
	if err != nil {
		t.Skip("no ", network, ": ", err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c.(*net.UDPConn)
}

func pathOf(c *net.UDPConn) Path { return UDPPath(c.LocalAddr().(*net.UDPAddr).AddrPort()) }

// Packets of all sizes arrive whole and in order at two receivers of two address families, with and without UDP_SEGMENT.
func TestBatch(t *testing.T) {
	for _, segment := range []bool{true, false} {
		t.Run(fmt.Sprint("segment ", segment), func(t *testing.T) {
			b := testBatch(t, ":0")
			if segment && !b.segment {
				t.Skip("this kernel has no UDP_SEGMENT")
			}
			b.segment = segment
			rs := []*net.UDPConn{receiver(t, "udp4", "127.0.0.1:0"), receiver(t, "udp6", "[::1]:0"), receiver(t, "udp4", "127.0.0.1:0")}
			sizes := []int{1200, 1200, 1200, 700, 1200, 20, 20, 1300, 1200, 1}
			paths := make([]Path, len(rs))
			var want [][]byte
			for i, n := range sizes {
				want = append(want, bytes.Repeat([]byte{byte(i + 1)}, n))
			}
			for i, r := range rs {
				paths[i] = pathOf(r)
				b.To(&paths[i], i)
				for _, w := range want {
					b.Put(len(append(b.Room(len(w)), w...)))
				}
			}
			b.Flush()
			buf := make([]byte, 2000)
			for _, r := range rs {
				_ = r.SetReadDeadline(time.Now().Add(5 * time.Second))
				for _, w := range want {
					n, err := r.Read(buf)
					if err != nil || !bytes.Equal(buf[:n], w) {
						t.Fatalf("%d bytes, %v; want %d", n, err, len(w))
					}
				}
			}
			if b.Stats.Packets != uint64(len(rs)*len(sizes)) || b.Stats.Calls > 3 || b.Stats.Refused != 0 {
				t.Errorf("%+v", b.Stats)
			}
		})
	}
}

// More than fits is sent on the way; an unreachable receiver harms nobody and is reported.
func TestBatchOverflowAndUnreachable(t *testing.T) {
	b := testBatch(t, "127.0.0.1:0")
	r := receiver(t, "udp4", "127.0.0.1:0")
	_ = r.SetReadBuffer(4 << 20)
	good, bad := pathOf(r), UDPPath(netip.MustParseAddrPort("127.0.0.1:0")) // no port
	var refused []int
	b.Refused = func(owner int) { refused = append(refused, owner) }
	const rounds = 150
	for range rounds {
		b.To(&good, 1)
		for range 2 {
			b.Put(len(append(b.Room(1200), make([]byte, 1200)...)))
		}
		b.To(&bad, 2)
		b.Put(len(append(b.Room(100), make([]byte, 100)...)))
	}
	b.Flush()
	_ = r.SetReadDeadline(time.Now().Add(5 * time.Second))
	buf := make([]byte, 2000)
	for i := range 2 * rounds {
		if n, err := r.Read(buf); err != nil || n != 1200 {
			t.Fatalf("packet %d: %d bytes, %v", i, n, err)
		}
	}
	if len(refused) != rounds || refused[0] != 2 || refused[rounds-1] != 2 {
		t.Errorf("refused %d times: %v…", len(refused), refused[:min(3, len(refused))])
	}
}

func BenchmarkBatch(b *testing.B) {
	batch := testBatch(b, "127.0.0.1:0")
	r := receiver(b, "udp4", "127.0.0.1:0") // not read: the kernel drops, after all of sending's work
	path := pathOf(r)
	payload := make([]byte, 1200)
	b.SetBytes(14 * 1200)
	b.ReportAllocs()
	for b.Loop() {
		batch.To(&path, 0)
		for range 14 {
			batch.Put(len(append(batch.Room(1200), payload...)))
		}
		batch.Flush()
	}
}
