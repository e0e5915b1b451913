package rtc

import (
	"encoding/binary"
	"net/netip"

	"github.com/pion/ice/v4"
	"golang.org/x/sys/unix"
)

// A Path is where a Peer's packets go. The zero Path is nowhere.
type Path struct {
	addr netip.AddrPort // of UDP; invalid for TCP
	tcp  bool
	name [28]byte // addr as a socket address
	size uint32
}

// UDP tells whether a Batch serves the Path; else its packets go through Peer.Write.
func (p *Path) UDP() bool { return p.addr.IsValid() }

// Valid tells whether the Path leads anywhere.
func (p *Path) Valid() bool { return p.tcp || p.addr.IsValid() }

// UDPPath returns the Path to a UDP address.
func UDPPath(addr netip.AddrPort) Path {
	addr = netip.AddrPortFrom(addr.Addr().Unmap(), addr.Port())
	p := Path{addr: addr}
	binary.BigEndian.PutUint16(p.name[2:], addr.Port())
	if addr.Addr().Is4() {
		a := addr.Addr().As4()
		binary.NativeEndian.PutUint16(p.name[:], unix.AF_INET)
		copy(p.name[4:], a[:])
		p.size = unix.SizeofSockaddrInet4
	} else {
		a := addr.Addr().As16()
		binary.NativeEndian.PutUint16(p.name[:], unix.AF_INET6)
		copy(p.name[8:], a[:])
		p.size = unix.SizeofSockaddrInet6
	}
	return p
}

func pathTo(remote ice.Candidate) Path {
	if remote.NetworkType().IsTCP() {
		return Path{tcp: true}
	}
	ip, err := netip.ParseAddr(remote.Address())
	if err != nil || ip.IsLinkLocalUnicast() { // its scope is ICE's to know
		return Path{tcp: true}
	}
	return UDPPath(netip.AddrPortFrom(ip, uint16(remote.Port())))
}
