package rtc

import (
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/pion/transport/v4"
	"github.com/pion/transport/v4/stdnet"
)

// freshFor is how long what is known of the machine's interfaces is used again. To ask the kernel for each session was a
// tenth of what it costs to open one.
const freshFor = 2 * time.Second

// interfaces keeps what ICE asks of the machine's network interfaces for a moment.
type interfaces struct {
	mu    sync.Mutex
	net   transport.Net
	netAt time.Time
	addrs []netip.Addr
	at    time.Time
}

// network returns the interfaces as ICE agents read them.
func (i *interfaces) network() (transport.Net, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.net == nil || time.Since(i.netAt) > freshFor {
		n, err := stdnet.NewNet()
		if err != nil {
			return nil, err
		}
		i.net, i.netAt = n, time.Now()
	}
	return i.net, nil
}

// addresses returns the machine's addresses of the families that peers may be told of: loopback ones when asked for, or when
// there are no others.
func (i *interfaces) addresses(v4, v6, loopback bool) []netip.Addr {
	var found, loops []netip.Addr
	for _, ip := range i.all() {
		switch {
		case ip.Is4() && !v4, ip.Is6() && !v6, ip.IsLinkLocalUnicast():
		case ip.IsLoopback():
			loops = append(loops, ip)
		default:
			found = append(found, ip)
		}
	}
	if loopback || len(found) == 0 {
		found = append(found, loops...)
	}
	return slices.Compact(found)
}

func (i *interfaces) all() []netip.Addr {
	i.mu.Lock()
	defer i.mu.Unlock()
	if !i.at.IsZero() && time.Since(i.at) < freshFor {
		return i.addrs
	}
	all, err := net.InterfaceAddrs()
	if err != nil {
		return i.addrs
	}
	i.addrs, i.at = nil, time.Now()
	for _, a := range all {
		if prefix, err := netip.ParsePrefix(a.String()); err == nil {
			i.addrs = append(i.addrs, prefix.Addr().Unmap())
		}
	}
	return i.addrs
}
