package netns

import (
	"fmt"
	"net/netip"
	"os"
	"sync"
	"testing"
)

// An Internet joins any number of namespaces, each on an address of its own choice, IPv4 or IPv6, and where it is told so behind
// a NAT. A packet to an address that nobody has is lost. All ends with the test.
type Internet struct {
	tb testing.TB

	mu    sync.Mutex
	hosts map[netip.Addr]func(ip []byte) // by public address; called without the lock
}

// NewInternet returns one without hosts.
func NewInternet(tb testing.TB) *Internet {
	return &Internet{tb: tb, hosts: map[netip.Addr]func([]byte){}}
}

// Host makes a namespace on a public address. An IPv6 one has no IPv4 at all, not even 127.0.0.1, and the other way round.
// What it sends suffers out.
func (i *Internet) Host(addr string, out Impairment) *Namespace {
	i.tb.Helper()
	n := i.namespace(addr)
	i.attach(n.Addr, func(ip []byte) { _, _ = n.tun.Write(ip) })
	i.connect(n, i, out)
	return n
}

// Behind makes a namespace on a private IPv4 address behind nat. What it sends suffers out.
func (i *Internet) Behind(nat *NAT, addr string, out Impairment) *Namespace {
	i.tb.Helper()
	n := i.namespace(addr)
	nat.attach(n)
	i.connect(n, nat, out)
	return n
}

func (i *Internet) namespace(addr string) *Namespace {
	i.tb.Helper()
	a := netip.MustParseAddr(addr)
	n := newNamespace(i.tb, netip.PrefixFrom(a, a.BitLen()))
	commands := [][]string{{"route", "add", "default", "dev", "link0"}}
	if a.Is6() {
		commands = [][]string{{"address", "del", "127.0.0.1/8", "dev", "lo"}, {"-6", "address", "add", addr + "/128", "dev", "link0", "nodad"},
			{"-6", "route", "add", "default", "dev", "link0"}}
	}
	for _, c := range commands {
		if out, err := n.Command("ip", c...).CombinedOutput(); err != nil {
			i.tb.Fatalf("ip %v: %v %s", c, err, out)
		}
	}
	return n
}

// A carrier takes what a namespace sends.
type carrier interface{ Write(ip []byte) (int, error) }

// connect gives what n sends to c until the test ends.
func (i *Internet) connect(n *Namespace, c carrier, out Impairment) {
	d := newDirection(n.tun, c, out, 1)
	var wait sync.WaitGroup
	wait.Go(d.read)
	wait.Go(d.write)
	i.tb.Cleanup(func() {
		close(d.stop)
		_ = n.tun.Close()
		wait.Wait()
	})
}

// attach gives an address to a host.
func (i *Internet) attach(a netip.Addr, receive func(ip []byte)) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.hosts[a] != nil {
		panic(fmt.Sprintf("netns: two hosts on %v", a))
	}
	i.hosts[a] = receive
}

// detach takes it away again.
func (i *Internet) detach(a netip.Addr) {
	i.mu.Lock()
	defer i.mu.Unlock()
	delete(i.hosts, a)
}

// Write gives a packet to the host that it is for, which may be none.
func (i *Internet) Write(ip []byte) (int, error) {
	to, ok := destination(ip)
	if !ok {
		return 0, os.ErrInvalid
	}
	i.mu.Lock()
	receive := i.hosts[to]
	i.mu.Unlock()
	if receive != nil {
		receive(ip)
	}
	return len(ip), nil
}

func destination(ip []byte) (netip.Addr, bool) {
	switch {
	case len(ip) >= 20 && ip[0]>>4 == 4:
		return netip.AddrFrom4([4]byte(ip[16:20])), true
	case len(ip) >= 40 && ip[0]>>4 == 6:
		return netip.AddrFrom16([16]byte(ip[24:40])), true
	}
	return netip.Addr{}, false
}
