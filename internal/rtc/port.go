package rtc

import (
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/pion/ice/v4"
)

// Config says where a Port listens and what addresses it tells peers. The value is not comparable for its list.
type Config struct {
	// Addr is "host:port" for UDP and TCP alike. An empty host is every address of the machine, IPv4 and IPv6; port 0 is a
	// free one.
	Addr string
	// PublicAddrs are told to peers besides the machine's own, as behind a 1:1 NAT or a port forwarding.
	PublicAddrs []netip.Addr
	// Loopback tells peers loopback addresses too. They are told in any case when Addr is one, or when there are no others.
	Loopback bool
	// Lite makes Peers ICE-lite (RFC 8445 §2.5): for a relay on a public address.
	Lite bool
	// Silence is how long a peer that answers nothing is kept; 0: 28 s (RFC 7675 §5.1 asks for 30 at most).
	Silence time.Duration
}

// Default returns the ports that the relay's contract names.
func Default() Config { return Config{Addr: ":8189"} }

// Validate says what is wrong with c.
func (c Config) Validate() error {
	if _, _, err := net.SplitHostPort(c.Addr); err != nil {
		return fmt.Errorf("addr: want host:port: %w", err)
	}
	for _, a := range c.PublicAddrs {
		if !a.IsValid() || a.IsUnspecified() || a.IsMulticast() {
			return fmt.Errorf("public address %v: want an address that peers can reach", a)
		}
	}
	return nil
}

// socketBuffer is asked of the kernel for each direction: a key frame to every one of some hundred viewers.
const socketBuffer = 8 << 20

// silence is Config.Silence where nothing else is said.
const silence = 28 * time.Second

// A Port is the UDP and TCP port that all sessions share. Its methods may be called by any goroutine.
type Port struct {
	cfg     Config
	log     *slog.Logger
	sockets []*socket // one per address family
	udp     *udpMux
	tcp     *ice.TCPMuxDefault
	cert    tls.Certificate
	print   string // SHA-256 fingerprint of cert
	rewrite []ice.AddressRewriteRule
	local   interfaces

	mu   sync.Mutex
	seen map[*socket]netip.AddrPort // by a STUN server
}

// Listen opens the UDP and TCP port that cfg names. It warns when the kernel grants smaller socket buffers than wanted.
func Listen(cfg Config, log *slog.Logger) (*Port, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	p := &Port{cfg: cfg, log: log}
	var err error
	if p.cert, p.print, err = newCertificate(); err != nil {
		return nil, err
	}
	listener, err := p.listen()
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", cfg.Addr, err)
	}
	p.warnSmallBuffers()
	logs := pionLogs{log}
	p.udp = newUDPMux(p.sockets, &p.local, cfg.Loopback, logs)
	p.tcp = ice.NewTCPMuxDefault(ice.TCPMuxParams{Listener: newTCPListener(listener), FirstStunBindTimeout: introduction,
		Logger: logs.NewLogger("tcp"), ReadBufferSize: 64, WriteBufferSize: tcpBuffer})
	for _, a := range cfg.PublicAddrs {
		p.rewrite = append(p.rewrite, alsoAt(a))
	}
	return p, nil
}

// listen opens the UDP sockets and the TCP listener on one port number.
func (p *Port) listen() (net.Listener, error) {
	addr, err := net.ResolveUDPAddr("udp", p.cfg.Addr)
	if err != nil {
		return nil, err
	}
	if addr.Port != 0 {
		return p.listenAt(addr.IP, addr.Port)
	}
	for range 20 { // a free UDP port may be taken for TCP
		l, err := p.listenAt(addr.IP, 0)
		if err == nil {
			return l, nil
		}
	}
	return nil, errors.New("no port is free for both UDP and TCP")
}

func (p *Port) listenAt(ip net.IP, port int) (l net.Listener, err error) {
	defer func() {
		if err != nil {
			for _, s := range p.sockets {
				_ = s.Close()
			}
			p.sockets = nil
		}
	}()
	for _, network := range []string{"udp4", "udp6"} {
		v4 := network == "udp4"
		if ip != nil && !ip.IsUnspecified() && (ip.To4() != nil) != v4 || ip != nil && ip.Equal(net.IPv4zero) && !v4 {
			continue
		}
		at := ip
		if ip.IsUnspecified() {
			at = nil
		}
		s, err := openSocket(network, &net.UDPAddr{IP: at, Port: port})
		if err != nil {
			if !v4 && len(p.sockets) > 0 {
				p.log.Info("no IPv6 for media", "err", err)
				continue
			}
			return nil, err
		}
		port = s.LocalAddr().(*net.UDPAddr).Port
		p.sockets = append(p.sockets, s)
	}
	network := "tcp"
	if len(p.sockets) == 1 && p.sockets[0].v4 {
		network = "tcp4"
	}
	return net.Listen(network, net.JoinHostPort(host(ip), fmt.Sprint(port)))
}

func host(ip net.IP) string {
	if ip == nil || ip.IsUnspecified() {
		return ""
	}
	return ip.String()
}

func (p *Port) warnSmallBuffers() {
	for _, s := range p.sockets {
		if r, w := s.bufferSizes(); r < socketBuffer || w < socketBuffer {
			p.log.Warn("small socket buffers: bursts may be lost; raise net.core.rmem_max and net.core.wmem_max",
				"receive", r, "send", w, "want", socketBuffer)
			return
		}
	}
}

// Addr returns the UDP address listened on; with an empty host in Config.Addr, that of the first address family.
func (p *Port) Addr() netip.AddrPort {
	return p.sockets[0].LocalAddr().(*net.UDPAddr).AddrPort()
}

// UDPMux returns the shared UDP port for an ICE agent.
func (p *Port) UDPMux() ice.UDPMux { return p.udp }

// TCPMux returns the shared TCP port for an ICE agent.
func (p *Port) TCPMux() ice.TCPMux { return p.tcp }

// Fingerprint returns the SHA-256 fingerprint of the process's DTLS certificate as a=fingerprint writes it (RFC 8122 §5).
func (p *Port) Fingerprint() string { return p.print }

// Lite tells whether this side is ICE-lite, which SDP must say.
func (p *Port) Lite() bool { return p.cfg.Lite }

// Close ends both ports and every session on them.
func (p *Port) Close() error {
	err := p.udp.Close()
	return errors.Join(err, p.tcp.Close())
}
