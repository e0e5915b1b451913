package netns

import (
	"encoding/binary"
	"net/netip"
	"sync"
)

// A NATKind is how a NAT maps and filters UDP (RFC 4787 §4.1, §5), and TCP alike.
type NATKind int

// The kinds of NATs, from the most to the least that they let in.
const (
	// OneToOne keeps ports, and lets everything in for its one host, as a cloud's public address does.
	OneToOne NATKind = iota
	// FullCone: endpoint-independent mapping and filtering.
	FullCone
	// PortRestricted: endpoint-independent mapping, address and port-dependent filtering, as most homes have it.
	PortRestricted
	// Symmetric: address and port-dependent mapping and filtering: what one server sees of the port says nothing to another.
	Symmetric
)

func (k NATKind) String() string {
	return [...]string{"1:1", "full cone", "port-restricted", "symmetric"}[k]
}

// A NAT stands between namespaces with private IPv4 addresses and an Internet: UDP and TCP without fragments pass, nothing else.
// It keeps no port but OneToOne's, and mappings do not expire before Rebind. Its methods may be called while packets pass.
type NAT struct {
	net *Internet

	mu     sync.Mutex
	kind   NATKind
	public netip.Addr
	inside map[netip.Addr]*Namespace
	open   map[uint16]netip.AddrPort // forwarded by hand
	out    map[flow]uint16           // outer port
	in     map[hole]*mapping
	next   uint16 // outer port of the next mapping
}

// A flow is what has an outer port of its own. peer is zero where the mapping does not depend on it.
type flow struct {
	proto       byte
	inner, peer netip.AddrPort
}

type hole struct {
	proto byte
	port  uint16
}

type mapping struct {
	inner netip.AddrPort
	peers map[netip.AddrPort]bool // that were sent to
}

const (
	protoTCP = 6
	protoUDP = 17
)

// NAT makes one with a public address.
func (i *Internet) NAT(kind NATKind, public string) *NAT {
	n := &NAT{net: i, inside: map[netip.Addr]*Namespace{}, open: map[uint16]netip.AddrPort{}, next: 20000}
	n.Rebind(kind, public)
	return n
}

// Forward lets what comes for a port in, UDP and TCP, to the same port of an inner address, as a user sets up a home router.
func (n *NAT) Forward(port uint16, to netip.Addr) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.open[port] = netip.AddrPortFrom(to, port)
}

// Rebind forgets all mappings, as a router does that is switched off and on: what goes on has other ports then, and TCP
// connections are dead. The NAT may be of another kind then, and have another address.
func (n *NAT) Rebind(kind NATKind, public string) {
	a := netip.MustParseAddr(public)
	n.mu.Lock()
	defer n.mu.Unlock()
	n.kind, n.out, n.in = kind, map[flow]uint16{}, map[hole]*mapping{}
	n.next += 100
	if n.public != a {
		n.net.detach(n.public)
		n.public = a
		n.net.attach(a, n.receive)
	}
}

func (n *NAT) attach(inside *Namespace) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.inside[inside.Addr] = inside
}

// Write takes a packet from the inside.
func (n *NAT) Write(ip []byte) (int, error) {
	p, ok := parse(ip)
	if ok && n.outwards(p) {
		return n.net.Write(ip)
	}
	return len(ip), nil
}

func (n *NAT) outwards(p transport) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	from, to := p.source(), p.destination()
	if n.kind == OneToOne {
		p.setSource(netip.AddrPortFrom(n.public, from.Port()))
		return true
	}
	if n.open[from.Port()] == from { // what is forwarded keeps its port both ways
		p.setSource(netip.AddrPortFrom(n.public, from.Port()))
		return true
	}
	f := flow{proto: p.proto, inner: from}
	if n.kind == Symmetric {
		f.peer = to
	}
	port, ok := n.out[f]
	if !ok {
		port = n.next
		n.next++
		n.out[f] = port
		n.in[hole{p.proto, port}] = &mapping{inner: from, peers: map[netip.AddrPort]bool{}}
	}
	n.in[hole{p.proto, port}].peers[to] = true
	p.setSource(netip.AddrPortFrom(n.public, port))
	return true
}

// receive takes a packet from the outside.
func (n *NAT) receive(ip []byte) {
	p, ok := parse(ip)
	if !ok {
		return
	}
	if host := n.inwards(p); host != nil {
		_, _ = host.tun.Write(ip)
	}
}

func (n *NAT) inwards(p transport) *Namespace {
	n.mu.Lock()
	defer n.mu.Unlock()
	from, to := p.source(), p.destination()
	if n.kind == OneToOne {
		for inner, host := range n.inside {
			p.setDestination(netip.AddrPortFrom(inner, to.Port()))
			return host
		}
		return nil
	}
	inner, ok := n.open[to.Port()]
	if m := n.in[hole{p.proto, to.Port()}]; !ok && m != nil && (n.kind == FullCone || m.peers[from]) {
		inner, ok = m.inner, true
	}
	if !ok {
		return nil
	}
	p.setDestination(inner)
	return n.inside[inner.Addr()]
}

// A transport is a UDP or TCP packet in IPv4 whose addresses can be changed.
type transport struct {
	ip, segment []byte
	proto       byte
	sum         []byte // the segment's checksum; nil: it has none
}

func parse(ip []byte) (transport, bool) {
	if len(ip) < 20 || ip[0]>>4 != 4 || binary.BigEndian.Uint16(ip[6:])&0x3fff != 0 { // a fragment
		return transport{}, false
	}
	head := int(ip[0]&15) * 4
	p := transport{ip: ip, proto: ip[9]}
	switch {
	case head < 20:
		return p, false
	case p.proto == protoUDP && len(ip) >= head+8:
		p.segment = ip[head:]
		if s := p.segment[6:8]; s[0]|s[1] != 0 {
			p.sum = s
		}
	case p.proto == protoTCP && len(ip) >= head+20:
		p.segment = ip[head:]
		p.sum = p.segment[16:18]
	default:
		return p, false
	}
	return p, true
}

func (p transport) source() netip.AddrPort      { return p.at(12, 0) }
func (p transport) destination() netip.AddrPort { return p.at(16, 2) }

func (p transport) at(addr, port int) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte(p.ip[addr:addr+4])), binary.BigEndian.Uint16(p.segment[port:]))
}

func (p transport) setSource(a netip.AddrPort)      { p.set(12, 0, a) }
func (p transport) setDestination(a netip.AddrPort) { p.set(16, 2, a) }

func (p transport) set(addr, port int, to netip.AddrPort) {
	a := to.Addr().As4()
	b := binary.BigEndian.AppendUint16(nil, to.Port())
	adjust(p.ip[10:12], p.ip[addr:addr+4], a[:])
	if p.sum != nil {
		adjust(p.sum, p.ip[addr:addr+4], a[:])
		adjust(p.sum, p.segment[port:port+2], b)
	}
	copy(p.ip[addr:], a[:])
	copy(p.segment[port:], b)
}

// adjust brings a checksum up to date for words that change (RFC 1624 §3).
func adjust(sum, before, after []byte) {
	x := uint32(^binary.BigEndian.Uint16(sum))
	for i := 0; i < len(before); i += 2 {
		x += uint32(^binary.BigEndian.Uint16(before[i:])) + uint32(binary.BigEndian.Uint16(after[i:]))
	}
	for x > 0xffff {
		x = x>>16 + x&0xffff
	}
	binary.BigEndian.PutUint16(sum, ^uint16(x))
}
