package load

import (
	"bytes"
	"encoding/binary"
	"time"

	"github.com/pion/srtp/v3"
)

// videoType is the payload type that the offer gives H.264.
const videoType = 102

// stampID marks the SEI message (user_data_unregistered) in which the publisher writes when it sent the picture.
var stampID = [16]byte{'g', 'a', 'n', 't', 'r', 'y', ' ', 'b', 'e', 'n', 'c', 'h', ' ', 's', 'e', 'i'}

// A Measure is what viewers have received.
type Measure struct {
	Packets, Bytes, Lost int
	Latency              []time.Duration // of each picture, from its being sent to the arrival of its last packet
	FirstPacket          time.Duration   // from the POST; 0: none yet
	FirstFrame           time.Duration   // from the POST to the last packet of the first whole key frame
	Keys                 time.Duration   // from the POST to the end of the DTLS handshake
	Profile              string
}

// meter measures one viewer.
type meter struct {
	Measure
	posted  time.Time
	open    *srtp.Context
	held    [][]byte // packets that came before the keys
	heldAt  []time.Time
	scratch []byte
	mender  *mender // nil: what is lost stays lost

	seq     uint16
	begun   bool
	fresh   bool // the next packet begins a picture
	sentAt  int64
	keyFrom bool // a key frame is arriving
	broken  bool // a packet of the current picture is missing
}

func (m *meter) begin(open *srtp.Context, p srtp.ProtectionProfile) {
	m.open, m.Profile = open, p.String()
	m.Keys = time.Since(m.posted)
	for i, b := range m.held {
		m.packet(b, m.heldAt[i])
	}
	m.held, m.heldAt = nil, nil
}

// packet counts one SRTP packet.
func (m *meter) packet(b []byte, at time.Time) {
	if m.open == nil {
		if len(m.held) < 1000 {
			m.held, m.heldAt = append(m.held, bytes.Clone(b)), append(m.heldAt, at)
		}
		return
	}
	if m.FirstPacket == 0 {
		m.FirstPacket = at.Sub(m.posted)
	}
	m.Packets++
	m.Bytes += len(b)
	if m.mender != nil {
		m.mender.packet(b, at)
	}
	if b[1]&0x7f != videoType {
		return
	}
	seq := binary.BigEndian.Uint16(b[2:])
	if gap := seq - m.seq; m.begun && gap != 1 {
		if gap < 1<<15 {
			m.Lost += int(gap) - 1
			m.broken = true
			m.fresh = false
		} else {
			return // late or twice
		}
	}
	m.seq = seq
	if !m.begun {
		m.begun, m.fresh = true, true
	}
	if m.fresh || m.FirstFrame == 0 {
		m.look(b)
	}
	m.fresh = false
	if b[1]&0x80 == 0 {
		return
	}
	if !m.broken && m.sentAt != 0 {
		m.Latency = append(m.Latency, time.Duration(at.UnixNano()-m.sentAt))
	}
	if m.FirstFrame == 0 && m.keyFrom && !m.broken {
		m.FirstFrame = at.Sub(m.posted)
	}
	m.fresh, m.broken, m.keyFrom, m.sentAt = true, false, false, 0
}

// look decrypts a packet for what is written in it.
func (m *meter) look(b []byte) {
	plain, err := m.open.DecryptRTP(m.scratch[:0], b, nil)
	if err != nil {
		return
	}
	m.scratch = plain
	if i := bytes.Index(plain, stampID[:]); i >= 0 && i+24 <= len(plain) {
		m.sentAt = int64(unescape(plain[i+16 : i+24]))
	}
	at := 12
	if plain[0]&0x10 != 0 && len(plain) > 16 {
		at += 4 + 4*int(binary.BigEndian.Uint16(plain[14:]))
	}
	if at+3 >= len(plain) {
		return
	}
	switch p := plain[at:]; p[0] & 31 {
	case 5, 7:
		m.keyFrom = true
	case 24:
		m.keyFrom = m.keyFrom || p[3]&31 == 7
	case 28:
		m.keyFrom = m.keyFrom || p[1]&0x1f == 5
	}
}

// escape writes a time so that no start code can arise from it: 7 bits a byte, the highest bit set, of its lower 56 bits.
func escape(t uint64) (b [8]byte) {
	for i := range b {
		b[i] = byte(t>>(7*(7-i))) | 0x80
	}
	return b
}

func unescape(b []byte) (t uint64) {
	for _, c := range b {
		t = t<<7 | uint64(c&0x7f)
	}
	// The upper 8 bits are this year's.
	now := uint64(time.Now().UnixNano())
	return now&^(1<<56-1) | t
}

// Reset begins a new measurement of packets, losses and latency.
func (v *Viewer) Reset() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.meter.Packets, v.meter.Bytes, v.meter.Lost, v.meter.Latency = 0, 0, 0, nil
}

// Measure returns what v has received so far. Latency is shared: it only grows.
func (v *Viewer) Measure() Measure {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.meter.Measure
}
