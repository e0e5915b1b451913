package rtc

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"time"

	"github.com/pion/ice/v4"
	"github.com/pion/stun/v3"
)

// Times of asking a STUN server.
const (
	reflectEvery = 25 * time.Second // also keeps a NAT from forgetting the port (RFC 4787 §4.3 grants two minutes, many less)
	reflectRetry = 500 * time.Millisecond
	reflectTries = 5
)

// Reflect asks a STUN server, "host" or "host:port", at which address this port is seen (RFC 8489), and tells it to peers from
// then on as if Config.PublicAddrs named it, with the port's own number. Where a NAT shows another port, peers are told of that
// too: who may send there, though nothing is forwarded, is up to the NAT. It asks again from time to time, until ctx ends.
func (p *Port) Reflect(ctx context.Context, server string) error {
	host, port, err := net.SplitHostPort(server)
	if err != nil {
		host, port = server, "3478"
	}
	number, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return fmt.Errorf("STUN server %q: want host:port", server)
	}
	timer := time.NewTimer(0)
	defer timer.Stop()
	heard := make([]string, len(p.sockets))
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
		}
		for i, s := range p.sockets {
			seen, err := s.reflect(ctx, host, uint16(number))
			if err != nil && ctx.Err() == nil && heard[i] == "" && s.v4 {
				p.log.Warn("STUN server does not tell our address", "remote", server, "err", err)
				heard[i] = "nothing"
			}
			if err != nil || heard[i] == seen.String() {
				continue
			}
			heard[i] = seen.String()
			p.reflected(s, seen)
		}
		timer.Reset(reflectEvery)
	}
}

// reflected notes at which address a socket is seen.
func (p *Port) reflected(s *socket, seen netip.AddrPort) {
	own := s.LocalAddr().(*net.UDPAddr).AddrPort()
	local := slices.ContainsFunc(p.udp.GetListenAddresses(), func(a net.Addr) bool { return a.(*net.UDPAddr).IP.Equal(seen.Addr().AsSlice()) })
	p.log.Info("seen at", "remote", seen.String())
	if !local && seen.Port() != own.Port() {
		p.log.Warn("a NAT changes the port: let it forward UDP and TCP to this machine, or not all peers get in", "remote", seen.String(), "port", own.Port())
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.seen == nil {
		p.seen = map[*socket]netip.AddrPort{}
	}
	delete(p.seen, s)
	if !local {
		p.seen[s] = seen
	}
}

// rules say which addresses are told besides the machine's own.
func (p *Port) rules() []ice.AddressRewriteRule {
	rules := slices.Clone(p.rewrite)
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, s := range p.sockets {
		if a, ok := p.seen[s]; ok && !slices.Contains(p.cfg.PublicAddrs, a.Addr()) {
			rules = append(rules, alsoAt(a.Addr()))
		}
	}
	return rules
}

// reflexive returns the candidates that rules cannot tell: those whose port is not ours.
func (p *Port) reflexive() (candidates []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, s := range p.sockets {
		own := s.LocalAddr().(*net.UDPAddr).AddrPort()
		a, ok := p.seen[s]
		if !ok || a.Port() == own.Port() {
			continue
		}
		c, err := ice.NewCandidateServerReflexive(&ice.CandidateServerReflexiveConfig{Network: "udp", Address: a.Addr().String(), Port: int(a.Port()),
			Component: ice.ComponentRTP, RelAddr: own.Addr().Unmap().String(), RelPort: int(own.Port())})
		if err == nil { // an address that the STUN server's answer was checked for
			candidates = append(candidates, "candidate:"+c.Marshal())
		}
	}
	return candidates
}

func alsoAt(a netip.Addr) ice.AddressRewriteRule {
	return ice.AddressRewriteRule{External: []string{a.String()}, AsCandidateType: ice.CandidateTypeHost, Mode: ice.AddressRewriteAppend}
}

// reflect asks once, and again where no answer comes.
func (s *socket) reflect(ctx context.Context, host string, port uint16) (netip.AddrPort, error) {
	network := "ip6"
	if s.v4 {
		network = "ip4"
	}
	addrs, err := net.DefaultResolver.LookupNetIP(ctx, network, host)
	if err != nil {
		return netip.AddrPort{}, err
	}
	server := netip.AddrPortFrom(addrs[0].Unmap(), port)
	answers := make(chan []byte, 1)
	s.hearSTUN(server, func(b []byte) {
		select {
		case answers <- slices.Clone(b):
		default:
		}
	})
	defer s.hearSTUN(netip.AddrPort{}, nil)
	request, err := stun.Build(stun.TransactionID, stun.BindingRequest)
	if err != nil {
		return netip.AddrPort{}, err
	}
	for range reflectTries {
		if _, err := s.WriteToAddrPort(request.Raw, server); err != nil {
			return netip.AddrPort{}, err
		}
		wait := time.NewTimer(reflectRetry)
		select {
		case b := <-answers:
			wait.Stop()
			return mapped(b, request.TransactionID)
		case <-wait.C:
		case <-ctx.Done():
			wait.Stop()
			return netip.AddrPort{}, ctx.Err()
		}
	}
	return netip.AddrPort{}, fmt.Errorf("no answer from %v", server)
}

// mapped reads the address out of a binding response (RFC 8489 §14.2).
func mapped(b []byte, id [stun.TransactionIDSize]byte) (netip.AddrPort, error) {
	m := &stun.Message{Raw: b}
	if err := m.Decode(); err != nil {
		return netip.AddrPort{}, fmt.Errorf("answer of the STUN server: %w", err)
	}
	if m.Type != stun.BindingSuccess || m.TransactionID != id {
		return netip.AddrPort{}, fmt.Errorf("answer of the STUN server: %v to another request, or a refusal", m.Type)
	}
	var x stun.XORMappedAddress
	if err := x.GetFrom(m); err != nil {
		return netip.AddrPort{}, fmt.Errorf("answer of the STUN server: %w", err)
	}
	a, ok := netip.AddrFromSlice(x.IP)
	if !ok || a.IsUnspecified() || a.IsMulticast() || x.Port <= 0 || x.Port > 65535 {
		return netip.AddrPort{}, fmt.Errorf("answer of the STUN server: %v is no address of ours", x)
	}
	return netip.AddrPortFrom(a.Unmap(), uint16(x.Port)), nil
}
