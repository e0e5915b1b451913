package rtc

import (
	"net"
	"strconv"
	"time"

	"github.com/pion/ice/v4"
	"github.com/pion/stun/v3"
)

// Moves find out where a peer is that does not know that it has moved: a NAT between has forgotten it, or has another address
// itself, and the peer's packets come from elsewhere. The controlling side alone may nominate the pair that works now (RFC 8445
// §8.1.1), and a browser does, but others nominate once: for these the media would go on to where nobody is, as long as their
// checks are answered, which they are. So what is selected follows a peer whose checks come from one new address again and
// again, and from the selected one no more.
type moves struct {
	began time.Time // a pair was selected
	from  string    // where the last checks came from
	count int       // so many in a row
	here  string    // was selected for it
}

const (
	movesAfter  = 3 * time.Second // pairs are tried out before
	movesChecks = 2
)

// selected notes that ICE has a pair.
func (m *moves) selected(now time.Time) {
	if m.began.IsZero() {
		m.began = now
	}
}

// stays notes a check from the selected address.
func (m *moves) stays() { m.from, m.count, m.here = "", 0, "" }

// check takes a check that came from an address, answered says whether one of ours was answered there, and tells whether to
// select that.
func (m *moves) check(now time.Time, from string, answered bool) bool {
	if from != m.from {
		m.from, m.count = from, 0
	}
	m.count++
	if m.began.IsZero() || now.Sub(m.began) < movesAfter || m.count < movesChecks || m.here == from || !answered {
		return false
	}
	m.here = from
	return true
}

// check is the ICE agent's question whether to select a pair by which a check came, beyond what the standard says. The agent is
// locked.
func (p *Peer) check(_ *stun.Message, _, remote ice.Candidate, pair *ice.CandidatePair) bool {
	from := net.JoinHostPort(remote.Address(), strconv.Itoa(remote.Port()))
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.moves.check(time.Now(), from, p.port.cfg.Lite || pair.ResponsesReceived() > 0) {
		return false
	}
	p.port.log.Debug("the peer's checks come from", "remote", from)
	return true
}
