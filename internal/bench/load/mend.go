package load

import (
	"encoding/binary"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/pion/interceptor/pkg/twcc"
	"github.com/pion/rtcp"
	"github.com/pion/srtp/v3"
)

// How a viewer that mends asks: as a browser does.
const (
	mendEvery   = 20 * time.Millisecond
	askAgain    = 120 * time.Millisecond
	askMost     = 10
	tellEvery   = 100 * time.Millisecond
	keyEvery    = 500 * time.Millisecond
	mendLargest = 64 // sequence numbers in one NACK
)

// Of the offer.
const (
	rtxType     = 103
	transportID = 3
)

// A mender asks for what is missing (NACK, PLI), takes what is sent again (RTX), and tells of all that comes (transport-wide
// feedback). It belongs to its viewer's lock.
type mender struct {
	open, seal *srtp.Context
	send       func([]byte)
	came       *twcc.Recorder
	keep       bool
	kept       kept
	ssrc       uint32 // of the video
	highest    int
	begun      bool
	missing    map[int]*gap
	keyAsked   time.Time
	told       time.Time
	Counts     Mended
}

// A gap is one packet that is missing.
type gap struct {
	seen, asked time.Time
	times       int
}

// Mended counts what a viewer has asked for, and what it has got by that.
type Mended struct {
	Missing, Asked, Again, GivenUp, KeyFrames int
	Pictures                                  int // ends of pictures that came
}

// Add adds o's.
func (m *Mended) Add(o Mended) {
	m.Missing, m.Asked, m.Again, m.GivenUp = m.Missing+o.Missing, m.Asked+o.Asked, m.Again+o.Again, m.GivenUp+o.GivenUp
	m.KeyFrames, m.Pictures = m.KeyFrames+o.KeyFrames, m.Pictures+o.Pictures
}

func newMender(seal *srtp.Context, keep bool, send func([]byte)) *mender {
	return &mender{seal: seal, send: send, keep: keep, came: twcc.NewRecorder(rand.Uint32()), missing: map[int]*gap{}}
}

// packet takes one SRTP packet of video.
func (m *mender) packet(b []byte, at time.Time) {
	pt := b[1] & 0x7f
	if pt != videoType && pt != rtxType {
		return
	}
	plain, err := m.open.DecryptRTP(nil, b, nil)
	if err != nil {
		return
	}
	ssrc := binary.BigEndian.Uint32(plain[8:])
	body := 12
	if plain[0]&0x10 != 0 && len(plain) >= 16 {
		body += 4 + 4*int(binary.BigEndian.Uint16(plain[14:]))
		if body > len(plain) {
			return
		}
		if seq, ok := transportSeq(plain[16:body]); ok {
			m.came.Record(ssrc, seq, at.UnixMicro())
		}
	}
	seq := binary.BigEndian.Uint16(plain[2:])
	if pt == rtxType {
		if len(plain) < body+2 {
			return
		}
		seq = binary.BigEndian.Uint16(plain[body:])
		body += 2
		m.Counts.Again++
	} else {
		m.ssrc = ssrc
	}
	if body >= len(plain) || !m.begun && pt == rtxType {
		return
	}
	m.note(seq, received{ts: binary.BigEndian.Uint32(plain[4:]), marker: plain[1]&0x80 != 0, key: isKey(plain[body:]), at: at})
}

// note counts a packet that has come, and what is missing before it.
func (m *mender) note(seq uint16, r received) {
	if !m.begun {
		m.begun, m.highest = true, int(seq)
	}
	r.seq = m.highest + int(int16(seq-uint16(m.highest)))
	for n := m.highest + 1; n < r.seq; n++ {
		m.missing[n] = &gap{seen: r.at}
		m.Counts.Missing++
	}
	if _, late := m.missing[r.seq]; r.marker && (late || r.seq > m.highest) {
		m.Counts.Pictures++
	}
	m.highest = max(m.highest, r.seq)
	delete(m.missing, r.seq)
	if m.keep {
		m.kept.add(r)
	}
}

// tick asks and tells what is due.
func (m *mender) tick(now time.Time) {
	if m.ssrc == 0 {
		return
	}
	var packets []rtcp.Packet
	var ask []uint16
	lostForGood := false
	for n, g := range m.missing {
		switch {
		case g.times >= askMost:
			delete(m.missing, n)
			m.Counts.GivenUp++
			lostForGood = true
		case len(ask) < mendLargest && now.Sub(g.asked) >= askAgain:
			g.asked, g.times = now, g.times+1
			ask = append(ask, uint16(n))
		}
	}
	if len(ask) > 0 {
		m.Counts.Asked += len(ask)
		slices.SortFunc(ask, func(a, b uint16) int { return int(int16(a - b)) })
		packets = append(packets, &rtcp.TransportLayerNack{MediaSSRC: m.ssrc, Nacks: rtcp.NackPairsFromSequenceNumbers(ask)})
	}
	if lostForGood && now.Sub(m.keyAsked) > keyEvery {
		m.keyAsked = now
		m.Counts.KeyFrames++
		packets = append(packets, &rtcp.PictureLossIndication{MediaSSRC: m.ssrc})
	}
	if now.Sub(m.told) >= tellEvery {
		m.told = now
		packets = append(packets, m.came.BuildFeedbackPacket()...)
	}
	for _, p := range packets {
		if plain, err := p.Marshal(); err == nil {
			if b, err := m.seal.EncryptRTCP(nil, plain, nil); err == nil {
				m.send(b)
			}
		}
	}
}

// transportSeq finds the transport-wide sequence number in one-byte header extensions (RFC 8285 §4.2).
func transportSeq(b []byte) (uint16, bool) {
	for len(b) > 0 {
		id, n := b[0]>>4, int(b[0]&15)+1
		if b[0] == 0 {
			b = b[1:]
			continue
		}
		if len(b) < 1+n {
			break
		}
		if id == transportID && n == 2 {
			return binary.BigEndian.Uint16(b[1:]), true
		}
		b = b[1+n:]
	}
	return 0, false
}

// isKey tells whether an RTP payload of H.264 is of a key frame.
func isKey(p []byte) bool {
	switch p[0] & 31 {
	case 5, 7:
		return true
	case 24:
		return len(p) > 3 && p[3]&31 == 7
	case 28:
		return len(p) > 1 && p[1]&31 == 5
	}
	return false
}

// mend runs until the viewer stops.
func (v *Viewer) mend() {
	ticker := time.NewTicker(mendEvery)
	defer ticker.Stop()
	for {
		select {
		case now := <-ticker.C:
			v.mu.Lock()
			v.meter.mender.tick(now)
			v.mu.Unlock()
		case <-v.stop:
			return
		}
	}
}

// ResetShows forgets what a viewer with Keep has received.
func (v *Viewer) ResetShows() {
	v.mu.Lock()
	defer v.mu.Unlock()
	if m := v.meter.mender; m != nil {
		m.kept.reset()
	}
}

// Shows judges the pictures that a viewer with Keep has received.
func (v *Viewer) Shows() Showing {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.meter.mender == nil {
		return Showing{}
	}
	return judge(v.meter.mender.kept.packets)
}

// Mended returns what a viewer that mends has asked for.
func (v *Viewer) Mended() Mended {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.meter.mender == nil {
		return Mended{}
	}
	return v.meter.mender.Counts
}
