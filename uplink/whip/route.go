package whip

import (
	"context"
	"fmt"
	"hash/fnv"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/pion/webrtc/v4"
	"golang.org/x/sys/unix"

	"gantry/media"
)

// A route is what sets a Sender that uses one interface, or is one of several in a Bond, apart. nil is neither.
type route struct {
	device  string // interface that everything goes out by
	bond    string // of which this is a part; empty: it stands alone
	index   int
	count   int
	numbers *numbers
}

// resumed is what a path of a Bond sends of the time before it worked: what is on the slowest other path just then, and would be
// lost with it.
const resumed = 500 * time.Millisecond

// bonded tells whether other paths carry the same.
func (p *route) bonded() bool { return p != nil && p.bond != "" }

// keep returns those of units, which are not sent now, that a path sends when it works.
func (p *route) keep(units []*media.Packet) []*media.Packet {
	if !p.bonded() {
		return units[:0]
	}
	oldest := units[len(units)-1].PTS - resumed
	return slices.DeleteFunc(units, func(u *media.Packet) bool { return u.PTS < oldest })
}

// numbers are the sequence numbers that access units have on all paths of a Bond.
type numbers struct {
	mu     sync.Mutex
	tracks []numbered
}

// A numbered track remembers the first sequence numbers of its last access units.
type numbered struct {
	next uint16
	at   int
	pts  [512]time.Duration
	seq  [512]uint16
}

// assign gives an access unit of n packets its numbers.
func (s *numbers) assign(track int, pts time.Duration, n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := &s.tracks[track]
	t.pts[t.at], t.seq[t.at] = pts, t.next
	t.at = (t.at + 1) % len(t.pts)
	t.next += uint16(n)
}

// of returns the first number of an access unit; false when it was too long ago.
func (s *numbers) of(track int, pts time.Duration) (uint16, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := &s.tracks[track]
	for i := range t.pts { // the newest first
		if j := (t.at - 1 - i + 2*len(t.pts)) % len(t.pts); t.pts[j] == pts {
			return t.seq[j], true
		}
	}
	return 0, false
}

// number gives the packets of an access unit the numbers that they have on all paths. false: it has none any more.
func (p *route) number(unit *media.Packet, packets []*packet) bool {
	if p == nil || p.numbers == nil {
		return true
	}
	first, ok := p.numbers.of(int(unit.Track), unit.PTS)
	if !ok {
		return false
	}
	for i, pkt := range packets {
		pkt.seq, pkt.numbered = first+uint16(i), true
	}
	return true
}

// share gives streams the clock that they have on all paths.
func (p *route) share(streams []*stream) {
	if !p.bonded() {
		return
	}
	for _, s := range streams {
		s.clock.base = p.base("clock", s.index)
	}
}

// base returns a number that is the same on all paths.
func (p *route) base(what string, track int) uint32 {
	h := fnv.New32a()
	fmt.Fprint(h, p.bond, what, track)
	return h.Sum32()
}

// endpoint adds to an address what tells the server of the Bond.
func (p *route) endpoint(at string) string {
	u, err := url.Parse(at)
	if !p.bonded() || err != nil {
		return at
	}
	q := u.Query()
	q.Set("bond", p.bond)
	q.Set("path", strconv.Itoa(p.index))
	q.Set("paths", strconv.Itoa(p.count))
	u.RawQuery = q.Encode()
	return u.String()
}

// control binds a socket to the interface (SO_BINDTODEVICE).
func (p *route) control(_, _ string, c syscall.RawConn) error {
	var err error
	if e := c.Control(func(fd uintptr) { err = unix.BindToDevice(int(fd), p.device) }); e != nil {
		return e
	}
	if err != nil {
		return fmt.Errorf("bind to the interface %s: %w", p.device, err)
	}
	return nil
}

// transport has HTTP go out by the interface.
func (p *route) transport(t *http.Transport) {
	if p == nil {
		return
	}
	d := net.Dialer{Timeout: requestTimeout, Control: p.control}
	t.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
		return d.DialContext(ctx, network, address)
	}
}

// settings has ICE use the interface alone.
func (p *route) settings(s *webrtc.SettingEngine) {
	if p == nil {
		s.SetNet(&currentNet{})
		return
	}
	s.SetInterfaceFilter(func(name string) bool { return name == p.device })
	s.SetNet(&currentNet{control: p.control})
}
