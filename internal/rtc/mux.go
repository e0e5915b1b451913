package rtc

import (
	"errors"
	"net"
	"net/netip"

	"github.com/pion/ice/v4"
)

// udpMux gives ICE agents their share of the sockets. It is what pion's own multi-socket mux is, for sockets that listen on
// every address.
type udpMux struct {
	muxes    []*ice.UDPMuxDefault // as sockets
	sockets  []*socket
	local    *interfaces
	loopback bool
}

func newUDPMux(sockets []*socket, local *interfaces, loopback bool, logs pionLogs) *udpMux {
	m := &udpMux{sockets: sockets, local: local, loopback: loopback}
	for _, s := range sockets {
		if s.LocalAddr().(*net.UDPAddr).IP.IsLoopback() {
			m.loopback = true
		}
		m.muxes = append(m.muxes, ice.NewUDPMuxDefault(ice.UDPMuxParams{Logger: logs.NewLogger("udp"), UDPConn: s}))
	}
	if !m.loopback {
		for _, a := range m.local.addresses(true, true, false) {
			m.loopback = m.loopback || a.IsLoopback() // nothing else to tell
		}
	}
	return m
}

// GetListenAddresses returns the addresses that peers are told of.
func (m *udpMux) GetListenAddresses() []net.Addr {
	var out []net.Addr
	for _, s := range m.sockets {
		at := s.LocalAddr().(*net.UDPAddr)
		if !at.IP.IsUnspecified() {
			out = append(out, at)
			continue
		}
		for _, ip := range m.local.addresses(s.v4, !s.v4, m.loopback) {
			out = append(out, net.UDPAddrFromAddrPort(netip.AddrPortFrom(ip, uint16(at.Port))))
		}
	}
	return out
}

// tells reports whether peers may be told of ip; it filters ICE-TCP candidates, which are not gathered from the listener.
func (m *udpMux) tells(ip net.IP) bool {
	for _, s := range m.sockets {
		at := s.LocalAddr().(*net.UDPAddr)
		if at.IP.Equal(ip) || at.IP.IsUnspecified() && (ip.To4() != nil) == s.v4 && (m.loopback || !ip.IsLoopback()) && !ip.IsLinkLocalUnicast() {
			return true
		}
	}
	return false
}

// GetConn returns the packets of ufrag on the socket of addr's family.
func (m *udpMux) GetConn(ufrag string, addr net.Addr) (net.PacketConn, error) {
	u, ok := addr.(*net.UDPAddr)
	if !ok {
		return nil, errors.New("not a UDP address: " + addr.String())
	}
	for i, s := range m.sockets {
		if s.v4 == (u.IP.To4() != nil) {
			return m.muxes[i].GetConn(ufrag, u)
		}
	}
	return nil, errors.New("no socket for " + addr.String())
}

// RemoveConnByUfrag forgets ufrag.
func (m *udpMux) RemoveConnByUfrag(ufrag string) {
	for _, x := range m.muxes {
		x.RemoveConnByUfrag(ufrag)
	}
}

// Close closes the sockets and waits for their readers.
func (m *udpMux) Close() error {
	var errs []error
	for i, x := range m.muxes {
		errs = append(errs, x.Close())
		m.sockets[i].read.Lock() // the reader has returned, and will not come again
		//lint:ignore SA2001 taking the lock was the waiting
		m.sockets[i].read.Unlock()
	}
	return errors.Join(errs...)
}
