package whep

import (
	"encoding/binary"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/pion/srtp/v3"

	"gantry/internal/rtc"
)

// What a packet can have besides its payload: header, extensions, and the original sequence number of RTX.
const (
	rtpHeader       = 12
	extensionHeader = 20 // the profile, abs-capture-time, playout-delay, and the transport-wide sequence number
	rtxHeader       = 2
)

// catchUpBurst is how many packets a viewer that catches up is sent at once; browsers' sockets hold little more.
const catchUpBurst = 32

// A viewer is one session's place in a fan. It belongs to the fan's loop.
type viewer struct {
	session *session
	path    rtc.Path
	sealer  *rtc.Sealer
	rtcp    *srtp.Context
	out     []*outTrack // by the stream's tracks; nil: not sent
	video   *outTrack   // of out; nil when no video is sent
	waiting bool        // video waits for a key frame
	from    uint64      // waiting: the key frame's index is at least this
	until   time.Time   // waiting: then start with what is cached; zero: never
	slot    int         // index in fan.viewers
	budget  int         // retransmissions it may still ask for
	refused bool        // the socket had no room for a packet of the current round
	link    link
	layering
}

// An outTrack is one track on its way to one viewer.
type outTrack struct {
	section
	history *history
	base    uint32 // RTP time of PTS 0
	origin  uint32 // base where no layer had to be moved
	sent    uint32 // RTP time of the newest packet sent
	whole   bool   // that packet ended its access unit
	next    uint64 // index to send next
	shift   uint64 // sequence number (with ROC above it) = index + shift, for those from since on
	since   uint64
	last    uint64 // newest sequence number sent
	packets uint32
	octets  uint32
	stamped time.Duration // PTS of the last abs-capture-time
	catch   catchUp
	timing
	resending
}

// resending is what was sent again of a track.
type resending struct {
	rtx     uint64   // newest sequence number of RTX
	repeats *repeats // nil: nothing
}

// catchUp gives frames of the past the times of their being sent: a player would take their own pace for the stream's and stay
// behind, and a pace that is not that of their arrival for jitter, and wait.
type catchUp struct {
	active bool     // until the viewer has all that has come
	first  uint64   // frame
	times  []uint32 // RTP times of the frames from first on, less outTrack.base; kept for who asks for one again
}

// timing is what the player was told of when to play the track.
type timing struct {
	report report
	waits  waits
}

// report is what the last sender report said.
type report struct {
	sent  time.Time
	mid   uint32 // middle bits of its NTP time
	count int    // reports so far
}

// waits is how long the player was told to hold pictures back at least.
type waits struct {
	least  time.Duration
	longer bool // since the current picture
}

// soundWaits is what players need for sound beyond what they need for pictures, at the least: two packets in the jitter buffer and
// what the sound card has. Browsers find that out and hold the pictures back, but it takes them half a minute.
const soundWaits = 60 * time.Millisecond

// stretch tells the player to hold the picture that is about to be sent back a little longer than the one before, as far as its
// sound needs, so that the picture does not stand still.
func (v *viewer) stretch(o *outTrack) {
	w := &o.waits
	w.longer = o.playoutID != 0 && !o.catch.active && o.packets > 0 && w.least < soundWaits && w.least < time.Duration(o.playoutMost)*playoutUnit && v.sounds()
	if w.longer {
		w.least += playoutUnit
	}
}

// sounds tells whether v is sent sound.
func (v *viewer) sounds() bool {
	return slices.ContainsFunc(v.out, func(o *outTrack) bool { return o != nil && o.history.track.Codec.Audio() })
}

// behind is how far the frames of a catch-up stay behind the live picture, so that the next live one comes after them.
const behind = 50 * time.Millisecond

func newOutTrack(s section, h *history) *outTrack {
	// A first sequence number in the lower half leaves ROC 0 plain to see for the receiver (RFC 3711 §3.3.1).
	first := uint64(rand.Uint32N(1 << 15))
	base := rand.Uint32()
	return &outTrack{section: s, history: h, base: base, origin: base, next: h.next, last: first,
		resending: resending{rtx: uint64(rand.Uint32N(1 << 15))}, stamped: -time.Hour}
}

// startAt goes on with the packet of that index, without a gap in the sequence numbers.
func (o *outTrack) startAt(index uint64) {
	o.next = index
	o.since = o.last + 1
	o.shift = o.since - index // modulo 2⁶⁴
	o.catch = catchUp{}
}

// catchUpFrom is startAt for an index in the past.
func (o *outTrack) catchUpFrom(index uint64) {
	o.startAt(index)
	if e := o.history.at(index); e != nil {
		o.catch = catchUp{active: true, first: e.frame}
	}
}

// timeNow gives the frame of e, which is about to be sent in a catch-up, its time.
func (o *outTrack) timeNow(e *entry) {
	h, c := o.history, &o.catch
	if e.frame < c.first+uint64(len(c.times)) {
		return // a further packet of the frame
	}
	// Not beyond the newest picture, however long the next one takes: it must come after.
	ts := rtpTime(h.newest-behind+min(time.Since(h.arrived), behind), h.track.ClockRate)
	if n := len(c.times); n > 0 && int32(ts-c.times[n-1]) <= 0 {
		ts = c.times[n-1] + 1
	}
	c.times = append(c.times, ts)
}

func (o *outTrack) time(e *entry) uint32 {
	if i := e.frame - o.catch.first; i < uint64(len(o.catch.times)) {
		return o.base + o.catch.times[i]
	}
	return o.base + e.ts
}

// header writes the RTP header of e into b and returns it, with abs-capture-time when stamp is set, and with playout-delay and a
// transport-wide sequence number where those are negotiated. Without them, it follows from e and seq alone: where RTX is not negotiated a packet
// is sent twice, and must then be the same bit for bit, or its encryption would be broken. The negotiation sees to it that such
// tracks have no extensions.
func (v *viewer) header(o *outTrack, b []byte, e *entry, seq uint64, stamp bool) []byte {
	b = b[:rtpHeader]
	b[0], b[1] = 0x80, o.pt
	if e.padded > 0 {
		b[0] |= 0x20
	}
	if e.end && o.history.track.Codec.Video() {
		b[1] |= 0x80
	}
	binary.BigEndian.PutUint16(b[2:], uint16(seq))
	binary.BigEndian.PutUint32(b[4:], o.time(e))
	binary.BigEndian.PutUint32(b[8:], o.ssrc)
	playout := o.playoutID != 0 && e.start && (e.key || o.waits.longer)
	if !stamp && !playout && o.transportID == 0 {
		return b
	}
	b[0] |= 0x10
	b = append(b, 0xbe, 0xde, 0, 0) // RFC 8285 §4.2
	if stamp {
		b = append(b, o.captureID<<4|7)
		b = binary.BigEndian.AppendUint64(b, e.capture)
	}
	if playout { // 12 bits for the least, 12 for the most
		least := uint16(o.waits.least / playoutUnit)
		b = append(b, o.playoutID<<4|2, byte(least>>4), byte(least<<4)|byte(o.playoutMost>>8), byte(o.playoutMost))
	}
	if o.transportID != 0 {
		b = append(b, o.transportID<<4|1)
		b = binary.BigEndian.AppendUint16(b, v.link.number(rtpHeader+extensionHeader+len(e.data)))
	}
	for len(b)%4 != 0 {
		b = append(b, 0)
	}
	b[rtpHeader+3] = byte((len(b) - rtpHeader - 4) / 4)
	return b
}

// send sends what has come for o, at most limit packets, and tells whether that was all.
func (v *viewer) send(f *fan, o *outTrack, limit int) bool {
	h := o.history
	if o.next < h.oldest {
		if o == v.video {
			v.wait(f) // its place in the history is gone
			return true
		}
		o.startAt(h.oldest)
	}
	overhead := v.sealer.Overhead()
	for ; o.next < h.next && limit > 0; o.next++ {
		e := h.at(o.next)
		if e == nil {
			continue // lost before it came here
		}
		seq := o.next + o.shift
		stamp := e.start && e.capture != 0 && o.captureID != 0 && (e.key || e.pts-o.stamped >= time.Second)
		if o.catch.active {
			o.timeNow(e)
		} else if stamp { // times of a catch-up cannot be interpolated: there, each picture says its own
			o.stamped = e.pts
		}
		if e.start {
			v.stretch(o)
		}
		buf := f.room(v, rtpHeader+extensionHeader+len(e.data)+overhead)
		f.put(v, v.sealer.Seal(v.header(o, buf, e, seq, stamp), e.data, o.ssrc, seq))
		o.last, o.sent, o.whole = seq, o.time(e), e.end
		o.packets++
		o.octets += uint32(len(e.data) - e.padded)
		v.budget++
		limit--
		if e.end && o == v.video && v.arrived() {
			o.next++ // another layer goes on from here
			return false
		}
		if e.end && o == v.video && v.link.thin {
			v.waiting, v.from, v.until = true, o.next+1, time.Time{}
			return true
		}
	}
	v.budget = min(v.budget, rtxBudget)
	if o.next == h.next {
		o.catch.active = false
	}
	return o.next == h.next
}

// wait makes v's video pause until the next key frame.
func (v *viewer) wait(f *fan) {
	v.waiting, v.from, v.until = true, v.video.history.next, time.Time{}
	f.wantKey(v.video.history)
}

// rtxBudget bounds the retransmissions that a viewer gets beyond what it was sent since.
const rtxBudget = 1024

// resend answers a NACK for one sequence number.
func (v *viewer) resend(f *fan, o *outTrack, lost uint16) {
	seq := o.last - uint64(uint16(o.last)-lost) // the newest with these 16 bits
	if seq > o.last || seq < o.since || v.budget <= 0 || !v.link.spare() {
		return
	}
	e := o.history.at(seq - o.shift)
	if e == nil {
		return
	}
	if o.repeats == nil {
		o.repeats = new(repeats)
	}
	if !o.repeats.due(seq, time.Now()) {
		return
	}
	v.budget--
	f.count.Retransmitted++
	if o.rtxPT != 0 {
		v.again(f, o, e, seq)
		return
	}
	buf := f.room(v, rtpHeader+len(e.data)+v.sealer.Overhead())
	f.put(v, v.sealer.Seal(v.header(o, buf, e, seq, false), e.data, o.ssrc, seq))
}

// again sends a packet once more by RTX (RFC 4588 §4).
func (v *viewer) again(f *fan, o *outTrack, e *entry, seq uint64) {
	buf := f.room(v, rtpHeader+extensionHeader+rtxHeader+len(e.data)+v.sealer.Overhead())
	head := v.header(o, buf, e, seq, false)
	o.rtx++
	head[1] = head[1]&0x80 | o.rtxPT
	binary.BigEndian.PutUint16(head[2:], uint16(o.rtx))
	binary.BigEndian.PutUint32(head[8:], o.rtxSSRC)
	head[0] &^= 0x20 // padding is not repeated
	data := e.data[:len(e.data)-e.padded]
	plain := head[len(head) : len(head)+rtxHeader+len(data)]
	binary.BigEndian.PutUint16(plain, uint16(seq))
	copy(plain[rtxHeader:], data)
	f.put(v, v.sealer.Seal(head, plain, o.rtxSSRC, o.rtx))
}
