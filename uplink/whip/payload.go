package whip

import (
	"gantry/media/h264"
)

const (
	maxPacket  = 1200 // bytes of an RTP packet without UDP and SRTP: passes every path that WebRTC passes
	rtpHeader  = 12
	extensions = 28                                     // of a packet that has all: profile and length, TWCC, MID, abs-capture-time, padding
	maxPayload = maxPacket - rtpHeader - extensions - 2 // RTX puts two bytes before it
)

// NAL unit types of RFC 6184 §5.2 that exist on the wire only.
const (
	stapA = 24
	fuA   = 28
)

// packH264 splits one access unit, Annex B, into RTP payloads of at most limit bytes for packetization-mode 1 (RFC 6184
// §5.6–5.8). Small units that follow each other, such as parameter sets and SEI, share a STAP-A; large ones are fragmented.
// Access unit delimiters say nothing that the marker bit does not, and are left out. Units that go out whole share memory
// with au.
func packH264(au []byte, limit int) [][]byte {
	payloads := make([][]byte, 0, len(au)/limit+4)
	var small [][]byte // units waiting to be aggregated
	size := 1
	flush := func() {
		switch len(small) {
		case 0:
		case 1:
			payloads = append(payloads, small[0])
		default:
			payloads = append(payloads, aggregate(small, size))
		}
		small, size = small[:0], 1
	}
	for nalu := range h264.NALUs(au) {
		if h264.TypeOf(nalu) == h264.AUD {
			continue
		}
		if size+2+len(nalu) > limit {
			flush()
		}
		if len(nalu) > limit {
			payloads = split(payloads, nalu, limit)
			continue
		}
		small = append(small, nalu)
		size += 2 + len(nalu)
	}
	flush()
	return payloads
}

// aggregate writes a STAP-A (RFC 6184 §5.7.1).
func aggregate(nalus [][]byte, size int) []byte {
	b := make([]byte, 1, size)
	for _, n := range nalus {
		b[0] = max(b[0], n[0]&0x60) // the highest nal_ref_idc
		b = append(b, byte(len(n)>>8), byte(len(n)))
		b = append(b, n...)
	}
	b[0] |= stapA
	return b
}

// split appends the FU-As of one unit (RFC 6184 §5.8). They are evenly long, so that none is a wasteful rest, and share
// one allocation.
func split(payloads [][]byte, nalu []byte, limit int) [][]byte {
	indicator, kind := nalu[0]&0xe0|fuA, nalu[0]&0x1f
	rest := nalu[1:]
	count := (len(rest) + limit - 3) / (limit - 2)
	buf := make([]byte, 0, len(rest)+2*count)
	for i := count; i > 0; i-- {
		n := (len(rest) + i - 1) / i
		header := kind
		if i == count {
			header |= 0x80
		}
		if i == 1 {
			header |= 0x40
		}
		start := len(buf)
		buf = append(append(buf, indicator, header), rest[:n]...)
		payloads = append(payloads, buf[start:len(buf):len(buf)])
		rest = rest[n:]
	}
	return payloads
}
