package netns

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"testing"
	"time"
)

// say sends a packet from one socket to another's address, and returns where it came from as the other sees it.
func say(t *testing.T, from net.PacketConn, to net.PacketConn, addr string) string {
	t.Helper()
	a, err := net.ResolveUDPAddr("udp", addr)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := from.WriteTo([]byte("hello"), a); err != nil {
		t.Fatal(err)
	}
	_ = to.SetReadDeadline(time.Now().Add(5 * time.Second))
	var b [16]byte
	n, seen, err := to.ReadFrom(b[:])
	if err != nil {
		t.Fatalf("nothing came to %s: %v", addr, err)
	}
	if string(b[:n]) != "hello" {
		t.Fatalf("%q came", b[:n])
	}
	return seen.String()
}

// heard tells whether anything comes.
func heard(c net.PacketConn) bool {
	_ = c.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
	var b [16]byte
	_, _, err := c.ReadFrom(b[:])
	return err == nil
}

// What each kind of NAT maps and lets in, with real sockets; RFC 4787's terms.
func TestNAT(t *testing.T) {
	i := NewInternet(t)
	nat := i.NAT(PortRestricted, "198.51.100.7")
	home, one, two := i.Behind(nat, "192.168.0.2", Impairment{}), i.Host("203.0.113.1", Impairment{}), i.Host("203.0.113.2", Impairment{})
	listen := func(n *Namespace) net.PacketConn {
		c, err := n.ListenPacket("udp", n.Addr.String()+":5000")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
		return c
	}
	h, a, b := listen(home), listen(one), listen(two)
	const atA, atB = "203.0.113.1:5000", "203.0.113.2:5000"
	for _, c := range []struct {
		kind             NATKind
		same, kept, lets bool // one port for all; the inner port; strangers in
		publicAddress    string
	}{
		{kind: OneToOne, same: true, kept: true, lets: true, publicAddress: "198.51.100.8"},
		{kind: FullCone, same: true, lets: true, publicAddress: "198.51.100.8"},
		{kind: PortRestricted, same: true, publicAddress: "198.51.100.9"},
		{kind: Symmetric, publicAddress: "198.51.100.9"},
	} {
		nat.Rebind(c.kind, c.publicAddress)
		first := say(t, h, a, atA)
		seen := netip.MustParseAddrPort(first)
		if seen.Addr().String() != c.publicAddress || (seen.Port() == 5000) != c.kept {
			t.Errorf("%v: seen as %v", c.kind, seen)
		}
		if back := say(t, a, h, first); back != atA {
			t.Errorf("%v: the answer came from %q", c.kind, back)
		}
		addr, _ := net.ResolveUDPAddr("udp", first)
		_, _ = b.WriteTo([]byte("hello"), addr) // was not spoken to
		if heard(h) != c.lets {
			t.Errorf("%v: a stranger is let in: %v", c.kind, !c.lets)
		}
		if again := say(t, h, b, atB); (again == first) != c.same {
			t.Errorf("%v: seen as %v and as %v", c.kind, first, again)
		}
		nat.Rebind(c.kind, c.publicAddress)
		if again := say(t, h, a, atA); (again == first) != c.kept {
			t.Errorf("%v: rebound from %v to %v", c.kind, first, again)
		}
	}
	nat.Forward(5000, home.Addr)
	if from := say(t, b, h, "198.51.100.9:5000"); from != atB {
		t.Errorf("what comes for a forwarded port comes from %q", from)
	}
	if from := say(t, h, a, atA); from != "198.51.100.9:5000" {
		t.Errorf("a forwarded port is seen as %q", from)
	}
}

// TCP passes a NAT, with checksums that the kernel takes; and two IPv6 hosts reach each other without any IPv4.
func TestInternetTCP(t *testing.T) {
	i := NewInternet(t)
	home := i.Behind(i.NAT(Symmetric, "198.51.100.7"), "10.0.0.2", Impairment{Delay: time.Millisecond})
	for _, c := range []struct {
		client *Namespace
		server *Namespace
		want   string
	}{
		{home, i.Host("203.0.113.1", Impairment{}), "198.51.100.7"},
		{i.Host("2001:db8::1", Impairment{}), i.Host("2001:db8::2", Impairment{}), "2001:db8::1"},
	} {
		l, err := c.server.Listen("tcp", ":80")
		if err != nil {
			t.Fatal(err)
		}
		done := make(chan error, 1)
		go func() {
			s, err := l.Accept()
			if err == nil {
				_, err = io.WriteString(s, s.RemoteAddr().(*net.TCPAddr).IP.String())
				err = errors.Join(err, s.Close())
			}
			done <- err
		}()
		conn, err := c.client.DialContext(t.Context(), "tcp", net.JoinHostPort(c.server.Addr.String(), "80"))
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(conn)
		if string(got) != c.want || err != nil {
			t.Errorf("the server saw %q, want %q: %v", got, c.want, err)
		}
		if err := <-done; err != nil {
			t.Error(err)
		}
		_, _ = conn.Close(), l.Close()
		if c.server.Addr.Is6() {
			if l, err := c.server.Listen("tcp4", "127.0.0.1:0"); err == nil {
				_ = l.Close()
				t.Error("there is IPv4 where there should be none")
			}
		}
	}
}
