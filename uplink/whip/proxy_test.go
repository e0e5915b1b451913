package whip

import (
	"net"
	"net/netip"
	"regexp"
	"sync"
	"testing"
	"time"
)

// A path is a UDP proxy on loopback that stands for the network between sender and server: it loses packets, and carries them
// no faster than its rate, behind a buffer that first delays and then overflows.
type path struct {
	t      *testing.T
	listen *net.UDPConn
	wg     sync.WaitGroup

	mu     sync.Mutex
	server netip.AddrPort
	lose   func(packet []byte) bool // of those from the sender; nil: none
	rate   int                      // bit/s from the sender; 0: no limit
	cut    bool                     // nothing passes in either direction
	back   map[netip.AddrPort]*net.UDPConn
	free   time.Time // when the link has sent all that waits
	queue  chan timed
	done   chan struct{}
}

type timed struct {
	at  time.Time
	b   []byte
	out *net.UDPConn
}

const linkBuffer = 150 * time.Millisecond

func newPath(t *testing.T) *path {
	listen, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	must(t, err)
	p := &path{t: t, listen: listen, back: map[netip.AddrPort]*net.UDPConn{}, queue: make(chan timed, 4096), done: make(chan struct{})}
	p.wg.Go(p.forward)
	p.wg.Go(p.drain)
	t.Cleanup(func() {
		close(p.done)
		_ = listen.Close()
		p.mu.Lock()
		for _, c := range p.back {
			_ = c.Close()
		}
		p.mu.Unlock()
		p.wg.Wait()
	})
	return p
}

var hostCandidate = regexp.MustCompile(`(a=candidate:\S+ [12] udp \d+ )(\S+) (\d+)( typ host)`)

// rewrite puts the path in place of the server's own address.
func (p *path) rewrite(answer string) string {
	own := p.listen.LocalAddr().(*net.UDPAddr).AddrPort()
	return hostCandidate.ReplaceAllStringFunc(answer, func(line string) string {
		m := hostCandidate.FindStringSubmatch(line)
		p.mu.Lock()
		p.server = netip.MustParseAddrPort(m[2] + ":" + m[3])
		p.mu.Unlock()
		return m[1] + own.Addr().String() + " " + regexp.MustCompile(`.*:`).ReplaceAllString(own.String(), "") + m[4]
	})
}

func (p *path) set(change func(*path)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	change(p)
}

func (p *path) forward() {
	b := make([]byte, 2048)
	for {
		n, from, err := p.listen.ReadFromUDPAddrPort(b)
		if err != nil {
			return
		}
		p.mu.Lock()
		p.pass(b[:n], from)
		p.mu.Unlock()
	}
}

func (p *path) pass(b []byte, from netip.AddrPort) {
	if p.cut || p.lose != nil && p.lose(b) || !p.server.IsValid() {
		return
	}
	out := p.back[from]
	if out == nil || out.RemoteAddr().(*net.UDPAddr).AddrPort() != p.server {
		if out != nil {
			_ = out.Close()
		}
		var err error
		if out, err = net.DialUDP("udp4", nil, net.UDPAddrFromAddrPort(p.server)); err != nil {
			return
		}
		p.back[from] = out
		p.wg.Go(func() { p.returns(out, from) })
	}
	now := time.Now()
	if p.free.Before(now) {
		p.free = now
	}
	if p.rate > 0 {
		if p.free.Sub(now) > linkBuffer {
			return
		}
		p.free = p.free.Add(transmission(len(b)+28, p.rate))
	}
	select {
	case p.queue <- timed{p.free, append([]byte(nil), b...), out}:
	default:
	}
}

func (p *path) drain() {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		select {
		case <-p.done:
			return
		case w := <-p.queue:
			if wait := time.Until(w.at); wait > 0 {
				timer.Reset(wait)
				select {
				case <-timer.C:
				case <-p.done:
					return
				}
			}
			_, _ = w.out.Write(w.b)
		}
	}
}

func (p *path) returns(out *net.UDPConn, to netip.AddrPort) {
	b := make([]byte, 2048)
	for {
		n, err := out.Read(b)
		if err != nil {
			select {
			case <-p.done:
				return
			default:
			}
			if _, ok := err.(*net.OpError); ok && !isRefused(err) {
				return
			}
			continue // the server's socket is gone: ICMP
		}
		p.mu.Lock()
		cut := p.cut
		p.mu.Unlock()
		if !cut {
			_, _ = p.listen.WriteToUDPAddrPort(b[:n], to)
		}
	}
}

// media tells whether a datagram is RTP (RFC 7983), not RTCP.
func isMedia(b []byte) bool {
	return len(b) > 12 && b[0] >= 128 && b[0] < 192 && (b[1]&0x7f < 64 || b[1]&0x7f >= 96)
}
