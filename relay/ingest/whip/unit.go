package whip

import (
	"bytes"
	"encoding/base64"
	"strings"
	"time"

	"gantry/media"
	"gantry/media/h264"
)

const (
	maxHeld   = 32   // payloads before the first slice of a picture
	maxSets   = 1200 // bytes of an RTP payload that is inserted
	headBytes = 64   // of a slice, for its picture order count

	idrPatience = 5 * time.Second // after an IDR picture, within which recovery points are no place to begin at

	vps    = 32 // NAL unit types of H.265 (table 7-1): VPS, SPS and PPS follow each other
	aud265 = 35
)

// A builder makes media.Packets of the payloads of one track, in sequence order: it finds where access units begin and end,
// and whether decoding can begin there. Payloads go on at once, except those before the first slice of a picture: only the
// slice tells whether it is a key frame.
type builder struct {
	track uint8
	codec media.Codec
	write func(*media.Packet)
	// whole is called after the last packet of an access unit that nothing is missing in.
	whole func(key bool)
	// described is called when the bitstream tells of another size or profile.
	described func(width, height int, profile string)

	unit unit
	lost bool // to be told with the next access unit
	dts  time.Duration
	slab []byte

	sets  h264.ParameterSets // H.264 only
	h265  [3][]byte          // H.265's: VPS, SPS, PPS
	idr   time.Duration      // H.264: PTS of the last IDR picture
	seen  bool               // there was one
	order order
}

// A unit is the access unit that is being received.
type unit struct {
	open    bool
	ts      uint32
	pts     time.Duration
	held    []*media.Packet
	picture bool // its first slice has come
	key     bool
	started bool // its first packet has gone
	broken  bool // something is missing inside: the rest is of no use
	sps     bool // H.264: it brings parameter sets
	pps     bool
	sets    [3]bool // the same for H.265
}

// keep returns a copy of b. Payloads share large pieces of memory: one allocation for some dozen packets.
func (b *builder) keep(payload []byte) []byte {
	if len(payload) > len(b.slab) {
		b.slab = make([]byte, max(32<<10, len(payload)))
	}
	n := copy(b.slab, payload)
	kept := b.slab[:n:n]
	b.slab = b.slab[n:]
	return kept
}

// add takes the next piece in order. lost: packets before it will never come.
func (b *builder) add(p piece, pts time.Duration, lost bool) {
	if lost {
		b.lost = true
		b.unit.broken = true
		b.unit.held = b.unit.held[:0]
	}
	if len(p.payload) == 0 {
		return
	}
	is := examine(b.codec, p.payload)
	marker := p.marker || b.codec.Audio() // each packet of sound stands alone
	if u := &b.unit; !u.open || u.ts != p.ts {
		b.finish()
		*u = unit{open: true, ts: p.ts, pts: pts, held: u.held[:0], broken: lost && !is.begins}
		b.dts = max(b.dts, pts)
	}
	u := &b.unit
	if !u.broken {
		b.place(p.payload, is, marker)
	}
	// Some senders mark each parameter set as the end of a picture.
	if marker && (u.picture || u.broken) {
		b.finish()
	}
}

// place puts a payload into the current access unit.
func (b *builder) place(payload []byte, is part, marker bool) {
	u := &b.unit
	pkt := &media.Packet{Track: b.track, PTS: u.pts, DTS: b.dts, Data: payload}
	switch {
	case u.picture && !u.key:
	case b.codec == media.H264:
		b.learn(payload)
	case b.codec == media.H265:
		b.learn265(payload)
	}
	if !u.picture && !is.picture && len(u.held) < maxHeld {
		u.held = append(u.held, pkt)
		return
	}
	if !u.picture {
		u.picture = true
		u.key = is.key
		b.firstSlice(payload)
		b.release()
	}
	pkt.End = marker
	b.emit(pkt)
}

// finish closes the current access unit.
func (b *builder) finish() {
	u := &b.unit
	if !u.open {
		return
	}
	u.open = false
	b.release()
	if u.started && u.picture && !u.broken {
		b.whole(u.key)
	}
}

// release writes what was held.
func (b *builder) release() {
	for _, pkt := range b.unit.held {
		b.emit(pkt)
	}
	clear(b.unit.held)
	b.unit.held = b.unit.held[:0]
}

func (b *builder) emit(pkt *media.Packet) {
	u := &b.unit
	pkt.Key = u.key
	if !u.started {
		u.started = true
		pkt.Start, pkt.Lost = true, b.lost
		b.lost = false
	}
	b.write(pkt)
}

// learn remembers parameter sets and tells of changes.
func (b *builder) learn(payload []byte) {
	for n := range h264.RTPUnits(payload) {
		switch n.Type() {
		case h264.SPS:
			b.unit.sps = true
			if b.sets.LearnUnit(n) {
				b.describe()
			}
		case h264.PPS:
			b.unit.pps = true
			b.sets.LearnUnit(n)
		}
	}
}

// learn265 remembers H.265's parameter sets, which come whole (RFC 7798 §4.4.1, §4.4.2).
func (b *builder) learn265(payload []byte) {
	for n := range h265Units(payload) {
		i := int(n[0]>>1&0x3f) - vps
		if i < 0 || i >= len(b.h265) || len(n) > maxSets {
			continue
		}
		b.unit.sets[i] = true
		if !bytes.Equal(b.h265[i], n) {
			b.h265[i] = bytes.Clone(n)
		}
	}
}

func (b *builder) describe() {
	if info, err := h264.ParseSPS(b.sets.SPS()); err == nil {
		b.described(info.Width, info.Height, info.ProfileLevelID)
	}
}

// learnSDP takes the parameter sets of an SDP's sprop-parameter-sets (RFC 6184 §8.1).
func (b *builder) learnSDP(sprop string) {
	for set := range strings.SplitSeq(sprop, ",") {
		nalu, err := base64.StdEncoding.DecodeString(set)
		if err != nil || len(nalu) > maxSets {
			continue
		}
		for n := range h264.RTPUnits(nalu) {
			b.sets.LearnUnit(n)
		}
	}
}

// firstSlice looks at the beginning of a picture: its order, and for H.264 what must stand before it.
func (b *builder) firstSlice(payload []byte) {
	u := &b.unit
	switch b.codec {
	case media.H264:
		b.order.picture(u, payload)
		b.begin()
		if !u.key || u.sps && u.pps {
			return
		}
		sets := b.sets.RTPPayloads(maxSets)
		if sets == nil {
			u.key = false // nobody can decode it; it will be asked for again
			return
		}
		// An access unit delimiter must be the first (H.264 §7.4.1.2.3).
		b.insert(sets, len(u.held) > 0 && h264.TypeOf(u.held[0].Data) == h264.AUD)
	case media.H265:
		b.order.times(u.ts)
		if !u.key {
			return
		}
		if u.sets != [3]bool{true, true, true} {
			if b.h265[0] == nil || b.h265[1] == nil || b.h265[2] == nil {
				u.key = false // nobody can decode it; it will be asked for again
				return
			}
			b.insert(b.h265[:], len(u.held) > 0 && u.held[0].Data[0]>>1&0x3f == aud265) // H.265 §7.4.2.4.4
		}
		b.size(b.h265[1])
	default:
		if b.codec.Audio() {
			return
		}
		b.order.times(u.ts)
		if !u.key {
			return
		}
		for _, pkt := range u.held {
			b.size(pkt.Data)
		}
		b.size(payload)
	}
}

// begin makes a recovery point a key frame where no IDR picture has come for long.
func (b *builder) begin() {
	u := &b.unit
	switch {
	case u.key:
		b.idr, b.seen = u.pts, true
	case b.seen && (u.pts-b.idr).Abs() <= idrPatience:
	default:
		for _, pkt := range u.held {
			for n := range h264.RTPUnits(pkt.Data) {
				u.key = u.key || n.Whole && n.Type() == h264.SEI && h264.IsRecoveryPoint(append([]byte{n.Header}, n.Body...))
			}
		}
	}
}

// insert puts parameter sets before what is held, or after the first of it.
func (b *builder) insert(sets [][]byte, second bool) {
	u := &b.unit
	at := 0
	if second {
		at = 1
	}
	var insert []*media.Packet
	for _, data := range sets {
		insert = append(insert, &media.Packet{Track: b.track, PTS: u.pts, DTS: b.dts, Data: data})
	}
	u.held = append(u.held[:at:at], append(insert, u.held[at:]...)...)
}

// size tells of a picture size that payload brings.
func (b *builder) size(payload []byte) {
	if w, h, ok := pictureSize(b.codec, payload); ok && w > 0 && h > 0 {
		b.described(w, h, "")
	}
}
