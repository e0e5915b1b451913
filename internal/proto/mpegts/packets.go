package mpegts

import (
	"bytes"
	"errors"
	"hash/maphash"
	"io"
)

// tsPacket is the length of an MPEG-TS packet (ISO/IEC 13818-1 §2.4.3.2).
const tsPacket = 188

// errProgramme: the programme's tracks change with the next packet.
var errProgramme = errors.New("the MPEG-TS programme changed")

// tsPackets reads whole MPEG-TS packets, without those that come twice or are marked as damaged, and sees what a demultiplexer hides:
// packets that are missing, and a programme map that says something else than before, at which Read stops with errProgramme until
// resume.
type tsPackets struct {
	r     io.Reader
	room  []byte          // for a datagram and what is left of a packet
	buf   []byte          // the part of room that is not yet passed on
	last  map[uint16]seen // by PID
	seed  maphash.Seed
	gap   func(pid uint16)
	noise func(bytes int) // that belong to no packet

	pmt     uint16 // PID of the programme map, 0: not known
	section []byte // the last map
	paused  bool
}

// seen is what is remembered of a PID's last packet with payload.
type seen struct {
	count   byte // continuity counter
	payload uint64
}

func newTSPackets(r io.Reader) *tsPackets {
	return &tsPackets{r: r, room: make([]byte, 8*tsPacket), last: map[uint16]seen{}, seed: maphash.MakeSeed(), gap: func(uint16) {}, noise: func(int) {}}
}

// resume lets Read go on with the new programme, and forgets the old one's counters.
func (t *tsPackets) resume() {
	t.paused = false
	clear(t.last)
}

// Read returns one packet; p has room for it.
func (t *tsPackets) Read(p []byte) (int, error) {
	if len(p) < tsPacket {
		return 0, io.ErrShortBuffer
	}
	for {
		if t.paused {
			return 0, errProgramme
		}
		if packet := t.next(); packet != nil {
			changes, pass := t.inspect(packet)
			if changes {
				t.paused = true
				continue // the packet stays
			}
			t.buf = t.buf[tsPacket:]
			if pass {
				return copy(p, packet), nil
			}
			continue
		}
		left := copy(t.room, t.buf)
		n, err := t.r.Read(t.room[left:])
		if n == 0 && err != nil {
			return 0, err
		}
		t.buf = t.room[:left+n]
	}
}

// next returns the packet at the front, without what is none before it; nil when there is no whole one.
func (t *tsPackets) next() []byte {
	skipped := 0
	for len(t.buf) > 0 && (t.buf[0] != 0x47 || len(t.buf) > tsPacket && t.buf[tsPacket] != 0x47) {
		skipped++
		t.buf = t.buf[1:]
	}
	if skipped > 0 {
		t.noise(skipped)
	}
	if len(t.buf) < tsPacket {
		return nil
	}
	return t.buf[:tsPacket]
}

// inspect counts p and tells whether it changes the programme, and whether it is to be passed on.
func (t *tsPackets) inspect(p []byte) (changes, pass bool) {
	pid := uint16(p[1]&0x1f)<<8 | uint16(p[2])
	if p[1]&0x80 != 0 { // transport_error_indicator: the next of its PID shows that it is missing
		return false, false
	}
	if pid == 0x1fff { // stuffing
		return false, true
	}
	payload, announced := p[4:], false
	if p[3]&0x20 != 0 { // adaptation field
		n := int(payload[0])
		if n >= len(payload) {
			return false, true
		}
		announced = n > 0 && payload[1]&0x80 != 0 // discontinuity_indicator
		payload = payload[1+n:]
	}
	if p[3]&0x10 == 0 {
		return false, true
	}
	now := seen{p[3] & 15, maphash.Bytes(t.seed, payload)}
	last, known := t.last[pid]
	if known && !announced && now == last { // each may come twice (§2.4.3.3)
		return false, false
	}
	if p[1]&0x40 != 0 && (pid == 0 || pid == t.pmt) && t.table(pid, payload) {
		return true, false
	}
	if t.last[pid] = now; known && !announced && now.count != (last.count+1)&15 {
		t.gap(pid)
	}
	return false, true
}

// table reads a section of the programme association or map that fits one packet, and tells whether the map is another.
func (t *tsPackets) table(pid uint16, b []byte) (changes bool) {
	if len(b) < 1 || 1+int(b[0]) > len(b) {
		return false
	}
	b = b[1+int(b[0]):]
	if len(b) < 8 {
		return false
	}
	n := 3 + int(b[1]&15)<<8 + int(b[2])
	if n < 12 || n > len(b) || b[5]&1 == 0 { // current_next_indicator
		return false
	}
	if b = b[:n]; pid == 0 {
		for e := b[8 : n-4]; b[0] == 0 && len(e) >= 4; e = e[4:] {
			if e[0] != 0 || e[1] != 0 { // programme 0 is the network's
				if pmt := uint16(e[2]&0x1f)<<8 | uint16(e[3]); t.pmt != pmt {
					t.pmt, t.section = pmt, nil
				}
				return false
			}
		}
		return false
	}
	if b[0] != 2 || bytes.Equal(b, t.section) {
		return false
	}
	changes = t.section != nil
	t.section = bytes.Clone(b)
	return changes
}
