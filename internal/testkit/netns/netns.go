// Package netns gives a test network namespaces of its own: two, joined by a link that loses, delays and limits as it is
// told, which is what netem does, without needing it in the kernel; or any number, on an Internet with NATs of every kind. Programs
// run unchanged, on addresses that nothing else on the machine sees, so any number of tests do so at once. It needs root and
// /dev/net/tun.
//
// It knows nothing of what is sent.
package netns

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"testing"

	"golang.org/x/sys/unix"
)

// A Namespace is one side of a link: a loopback interface, and an address on the link.
type Namespace struct {
	// Addr is this side's address on the link.
	Addr netip.Addr

	ns  *os.File // the namespace itself
	tun *os.File // this side's end of the link
}

// Pair makes two namespaces and joins them. What a sends to b suffers toB, the other way suffers toA. All ends with the test.
func Pair(tb testing.TB, toB, toA Impairment) (a, b *Namespace, link *Link) {
	tb.Helper()
	a, b = newNamespace(tb, netip.MustParsePrefix("198.18.0.1/30")), newNamespace(tb, netip.MustParsePrefix("198.18.0.2/30"))
	link = join(a.tun, b.tun, toB, toA)
	tb.Cleanup(link.close)
	return a, b, link
}

// Another joins two namespaces of a Pair by one more link: link1, with the addresses 198.18.4.1 and 198.18.4.2. Each side
// reaches all of the other by either link, by the first where a program does not choose.
func Another(tb testing.TB, a, b *Namespace, toB, toA Impairment) *Link {
	tb.Helper()
	var tuns [2]*os.File
	for i, n := range []*Namespace{a, b} {
		if err := n.Do(func() (err error) {
			tuns[i], err = openTun("link1", netip.PrefixFrom(netip.AddrFrom4([4]byte{198, 18, 4, byte(i + 1)}), 30))
			return err
		}); err != nil {
			tb.Fatal(err)
		}
		for metric, dev := range []string{"link0", "link1"} {
			if out, err := n.Command("ip", "route", "add", "default", "dev", dev, "metric", strconv.Itoa(100+metric)).CombinedOutput(); err != nil {
				tb.Fatalf("%v %s", err, out)
			}
		}
	}
	link := join(tuns[0], tuns[1], toB, toA)
	tb.Cleanup(link.close)
	return link
}

// newNamespace makes one with the interface link0, and gives that an IPv4 address; an IPv6 one is left to the caller.
func newNamespace(tb testing.TB, addr netip.Prefix) *Namespace {
	tb.Helper()
	n := &Namespace{Addr: addr.Addr()}
	if err := onThread(func() error {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("make a network namespace: %w (needs root)", err)
		}
		ns, err := os.Open("/proc/thread-self/ns/net")
		if err != nil {
			return err
		}
		n.ns = ns
		if addr.Addr().Is4() { // IPv6 would fill the link with its own talk; where the setting cannot be written, it does
			_ = os.WriteFile("/proc/sys/net/ipv6/conf/all/disable_ipv6", []byte("1"), 0)
			_ = os.WriteFile("/proc/sys/net/ipv6/conf/default/disable_ipv6", []byte("1"), 0)
		}
		if err := up("lo", netip.Prefix{}); err != nil {
			return err
		}
		n.tun, err = openTun("link0", addr)
		return err
	}); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = n.ns.Close() })
	return n
}

// onThread runs fn on a thread of its own, which ends with it: fn may change the thread's namespace.
func onThread(fn func() error) error {
	result := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlocked: the runtime ends the thread
		result <- fn()
	}()
	return <-result
}

// Do runs fn in the namespace. Sockets that fn opens stay in it, whoever uses them later; goroutines that fn starts do not
// run in it.
func (n *Namespace) Do(fn func() error) error {
	return onThread(func() error {
		if err := unix.Setns(int(n.ns.Fd()), unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("enter the network namespace: %w", err)
		}
		return fn()
	})
}

// Prefix is what to put before a command line to run it in the namespace.
func (n *Namespace) Prefix() []string {
	return []string{"nsenter", "--net=/proc/" + strconv.Itoa(os.Getpid()) + "/fd/" + strconv.Itoa(int(n.ns.Fd())), "--"}
}

// Command is exec.Command for a program that runs in the namespace.
func (n *Namespace) Command(name string, args ...string) *exec.Cmd {
	line := append(append(n.Prefix(), name), args...)
	return exec.Command(line[0], line[1:]...)
}

// DialContext connects from inside the namespace to an address (not a name). It fits http.Transport.
func (n *Namespace) DialContext(ctx context.Context, network, address string) (conn net.Conn, err error) {
	// The dialer races addresses in goroutines of its own only for names and dual stacks; one literal address stays here.
	err = n.Do(func() error {
		conn, err = new(net.Dialer).DialContext(ctx, network, address)
		return err
	})
	return conn, err
}

// Listen is net.Listen inside the namespace.
func (n *Namespace) Listen(network, address string) (l net.Listener, err error) {
	err = n.Do(func() error { l, err = net.Listen(network, address); return err })
	return l, err
}

// ListenPacket is net.ListenPacket inside the namespace.
func (n *Namespace) ListenPacket(network, address string) (c net.PacketConn, err error) {
	err = n.Do(func() error { c, err = net.ListenPacket(network, address); return err })
	return c, err
}

// openTun makes a layer 3 interface in the calling thread's namespace; its packets are read from and written to the file.
func openTun(name string, addr netip.Prefix) (*os.File, error) {
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open /dev/net/tun: %w", err)
	}
	ifr, err := unix.NewIfreq(name)
	if err != nil {
		return nil, err
	}
	ifr.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI)
	if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, ifr); err != nil {
		_ = unix.Close(fd)
		return nil, fmt.Errorf("make the interface %s: %w", name, err)
	}
	if err := up(name, addr); err != nil {
		_ = unix.Close(fd)
		return nil, err
	}
	return os.NewFile(uintptr(fd), "tun"), nil // after TUNSETIFF: before it the file cannot be polled
}

// up gives an interface an IPv4 address, if there is one, and switches it on.
func up(name string, addr netip.Prefix) error {
	s, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(s) }()
	ifr, err := unix.NewIfreq(name)
	if err != nil {
		return err
	}
	if addr.Addr().Is4() {
		for _, set := range []struct {
			request uint
			value   [4]byte
		}{{unix.SIOCSIFADDR, addr.Addr().As4()}, {unix.SIOCSIFNETMASK, [4]byte(net.CIDRMask(addr.Bits(), 32))}} {
			if err := ifr.SetInet4Addr(set.value[:]); err != nil {
				return err
			}
			if err := unix.IoctlIfreq(s, set.request, ifr); err != nil {
				return fmt.Errorf("address %v on %s: %w", addr, name, err)
			}
		}
	}
	ifr.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	if err := unix.IoctlIfreq(s, unix.SIOCSIFFLAGS, ifr); err != nil {
		return fmt.Errorf("switch %s on: %w", name, err)
	}
	return nil
}
