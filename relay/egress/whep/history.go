package whep

import (
	"math/bits"
	"time"

	"gantry/media"
)

// Sizes of the histories, in packets; powers of two. Video's holds the longest group of pictures that a new viewer is given.
const (
	videoHistory = 4096
	audioHistory = 128
)

// keepFor is how long a packet can be asked for again, when it is not of the newest group of pictures, which is kept whole.
const keepFor = 2 * time.Second

// An entry is one packet as all viewers share it.
type entry struct {
	data            []byte // RTP payload, with its padding; nil: no packet here
	padded          int    // bytes of padding
	index           uint64
	pts             time.Duration
	capture         uint64 // NTP time for abs-capture-time; 0: not known
	frame           uint64 // ordinal of its access unit
	ts              uint32 // RTP time of pts, from 0
	start, end, key bool
}

// A history numbers one track's packets and keeps the newest. An index without an entry stands for a packet that was lost on
// its way here: viewers see the gap and can tell.
type history struct {
	track   media.Track
	ring    []entry
	next    uint64 // index of the packet to come
	oldest  uint64
	frames  uint64
	key     uint64        // index at which the newest key frame starts; valid when keyed
	keyed   bool          // a whole group of pictures is here, from key on
	newest  time.Duration // PTS
	arrived time.Time     // when newest came
	zero    time.Time     // wall time of PTS 0, as the track's own packets tell
	rate    rate
	staged  staged
}

// staged is what has come of an access unit and has no number yet: a whole picture is cut anew before it has.
type staged struct {
	packets  []*media.Packet
	payloads [][]byte
	capture  uint64
	cutter   cutter
}

func newHistory(t media.Track) *history {
	size := videoHistory
	if t.Codec.Audio() {
		size = audioHistory
	}
	return &history{track: t, ring: make([]entry, size)}
}

// add takes a packet. It can be sent after number, at the end of its access unit at the latest.
func (h *history) add(p *media.Packet, capture uint64, now time.Time) {
	if p.Start || p.Lost {
		h.number()
	}
	h.rate.bytes += len(p.Data)
	if p.PTS >= h.newest {
		h.newest, h.arrived = p.PTS, now
	}
	if p.Start {
		h.staged.capture = capture
	}
	h.staged.packets = append(h.staged.packets, p)
	if p.End || h.track.Codec.Audio() {
		h.number()
	}
}

// number gives what has come its numbers, be it the whole of an access unit or not.
func (h *history) number() {
	s := &h.staged
	n := len(s.packets)
	if n == 0 {
		return
	}
	first, last := s.packets[0], s.packets[n-1]
	if first.Lost && h.next > 0 {
		h.next++
	}
	if first.Start {
		h.frames++
		if h.track.Codec.Video() && first.Key {
			h.key, h.keyed = h.next, true
		}
	}
	e := entry{pts: first.PTS, capture: s.capture, frame: h.frames, ts: rtpTime(first.PTS, h.track.ClockRate), key: first.Key}
	if h.track.Codec.Audio() {
		e.start, e.end, e.data = first.Start, last.End, first.Data
		h.put(e)
	} else {
		for _, p := range s.packets {
			s.payloads = append(s.payloads, p.Data)
		}
		pieces := s.cutter.cut(h.track.Codec, s.payloads)
		for i, p := range pieces {
			e.start, e.end = first.Start && i == 0, last.End && i == len(pieces)-1
			e.data, e.padded = p.data, p.padded
			h.put(e)
		}
		clear(s.payloads)
		s.payloads = s.payloads[:0]
	}
	clear(s.packets)
	s.packets = s.packets[:0]
	s.capture = 0
}

func (h *history) put(e entry) {
	e.index = h.next
	h.ring[h.next&uint64(len(h.ring)-1)] = e
	h.next++
	h.trim()
}

// trim lets go of what no viewer may want any more.
func (h *history) trim() {
	if h.next-h.oldest > uint64(len(h.ring)) {
		h.oldest = h.next - uint64(len(h.ring))
		h.keyed = h.keyed && h.key >= h.oldest
	}
	for h.oldest < h.next && (!h.keyed || h.oldest < h.key) {
		e := &h.ring[h.oldest&uint64(len(h.ring)-1)]
		if e.index == h.oldest && h.newest-e.pts < keepFor {
			return
		}
		*e = entry{}
		h.oldest++
	}
}

// at returns the entry of that index, or nil when there is none.
func (h *history) at(index uint64) *entry {
	e := &h.ring[index&uint64(len(h.ring)-1)]
	if e.data == nil || e.index != index || index >= h.next {
		return nil
	}
	return e
}

// last returns the newest entry, or nil.
func (h *history) last() *entry {
	if h.next == 0 {
		return nil
	}
	return h.at(h.next - 1)
}

// whole tells whether the newest access unit has all its packets.
func (h *history) whole() bool {
	if len(h.staged.packets) > 0 {
		return false
	}
	e := h.last()
	return e == nil || e.end
}

// rtpTime converts to units of an RTP clock, modulo 2³².
func rtpTime(d time.Duration, clock int) uint32 {
	hi, lo := bits.Mul64(uint64(max(d, 0)), uint64(clock))
	lo, carry := bits.Add64(lo, uint64(time.Second/2), 0)
	q, _ := bits.Div64((hi+carry)%uint64(time.Second), lo, uint64(time.Second))
	return uint32(q)
}

// ntpTime is t as RTCP and abs-capture-time write it: seconds since 1900 in 32.32 bits.
func ntpTime(t time.Time) uint64 {
	const since1900 = 2208988800
	return uint64(t.Unix()+since1900)<<32 | uint64(t.Nanosecond())<<32/uint64(time.Second)
}
