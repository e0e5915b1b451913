package h264

import (
	"encoding/binary"
	"iter"
)

// NAL unit types that exist in RTP payloads only (RFC 6184 table 1).
const (
	stapA Type = 24
	fuA   Type = 28
)

// A RTPUnit is a NAL unit that begins in an RTP payload.
type RTPUnit struct {
	Header byte   // the NAL unit's own first byte, put together again for a fragment
	Body   []byte // what follows it in this payload; shares the payload's memory
	Whole  bool   // false for the first of several fragments
}

// Type returns the NAL unit's type.
func (u RTPUnit) Type() Type { return Type(u.Header & 0x1f) }

// Slice tells whether the unit is (part of) a coded picture.
func (u RTPUnit) Slice() bool { return u.Type().slice() }

// BeginsPicture tells whether the unit is the first slice of its picture: first_mb_in_slice is 0 (H.264 §7.3.3).
func (u RTPUnit) BeginsPicture() bool { return u.Slice() && len(u.Body) > 0 && u.Body[0]&0x80 != 0 }

// AppendTo appends the unit with a start code to an Annex B byte stream, of its body at most limit bytes.
func (u RTPUnit) AppendTo(dst []byte, limit int) []byte {
	dst = append(append(dst, longStartCode...), u.Header)
	return append(dst, u.Body[:min(limit, len(u.Body))]...)
}

// RTPUnits walks the NAL units that begin in an RTP payload: a single one, those of a STAP-A, or the first fragment of an
// FU-A (RFC 6184 §5.6 to §5.8). Later fragments, the packet types of interleaved mode, and whatever is malformed yield
// nothing. It does not allocate.
func RTPUnits(payload []byte) iter.Seq[RTPUnit] {
	return func(yield func(RTPUnit) bool) {
		if len(payload) < 2 {
			return
		}
		switch t := TypeOf(payload); {
		case t > 0 && t < stapA:
			yield(RTPUnit{Header: payload[0], Body: payload[1:], Whole: true})
		case t == stapA:
			for rest := payload[1:]; len(rest) > 2; {
				size := int(binary.BigEndian.Uint16(rest))
				if rest = rest[2:]; size == 0 || size > len(rest) {
					return
				}
				if !yield(RTPUnit{Header: rest[0], Body: rest[1:size:size], Whole: true}) {
					return
				}
				rest = rest[size:]
			}
		case t == fuA && payload[1]&0x80 != 0 && len(payload) > 2:
			yield(RTPUnit{Header: payload[0]&0xe0 | payload[1]&0x1f, Body: payload[2:], Whole: payload[1]&0x40 != 0})
		}
	}
}

// LearnUnit remembers a copy of a parameter set that came in an RTP payload and tells whether it is new or different. Other
// units it ignores.
func (s *ParameterSets) LearnUnit(u RTPUnit) (changed bool) {
	if !u.Whole {
		return false
	}
	switch u.Type() {
	case SPS:
		return s.learnSPS(append([]byte{u.Header}, u.Body...))
	case PPS:
		return s.learnPPS(append([]byte{u.Header}, u.Body...))
	}
	return false
}

// RTPPayloads returns all parameter sets known as RTP payloads: one STAP-A when it has at most limit bytes, else each set
// alone (RFC 6184 §5.6, §5.7.1). It returns nil unless both kinds are known.
func (s *ParameterSets) RTPPayloads(limit int) [][]byte {
	if !s.Complete() {
		return nil
	}
	var all [][]byte
	size := 1
	for _, kind := range [][]set{s.sps, s.pps} {
		for _, p := range kind {
			all = append(all, p.nalu)
			size += 2 + len(p.nalu)
		}
	}
	if size > limit {
		return all
	}
	packet := make([]byte, 1, size)
	for _, nalu := range all {
		packet[0] = max(packet[0]&0x60, nalu[0]&0x60) | byte(stapA)
		packet = binary.BigEndian.AppendUint16(packet, uint16(len(nalu)))
		packet = append(packet, nalu...)
	}
	return [][]byte{packet}
}
