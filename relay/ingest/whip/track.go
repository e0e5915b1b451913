package whip

import (
	"slices"
	"time"

	"github.com/pion/rtcp"

	"gantry/media"
	"gantry/relay"
)

// How long to wait for missing packets, and when to ask for them again.
const (
	minRetry  = 10 * time.Millisecond
	minHold   = 200 * time.Millisecond // at short round trips it costs little to ask six times and more
	orderHold = 50 * time.Millisecond  // where nothing can be asked for again
	keyRetry  = 300 * time.Millisecond
	codecTime = time.Second     // from the first packet to publishing, while a track may still be of several codecs
	silent    = 5 * time.Second // without a packet, a track has paused: a simulcast layer that the path has no room for
	syncEvery = 200 * time.Millisecond
	alignStep = time.Millisecond // a picture
	alignMost = 5 * time.Second  // beyond, the publisher's clocks are not to be believed
	maxNACKs  = 256              // at once; more missing than that is not mended but asked for as a key frame
)

// origin is what the offer says of a track.
type origin struct {
	section *section
	rid     string
	choices []*choice
}

// A track is the receiving side of one encoding. The session's mutex guards it.
type track struct {
	index uint8
	origin
	choice *choice
	sure   bool          // its packets have confirmed the codec, or there is no other
	info   media.Track   // as published
	ssrc   uint32        // 0 before the first packet
	heard  time.Duration // the last packet
	reception

	reorder  reorder
	timeline timeline
	first    uint16 // sequence number at which the current access unit begins
	last     uint16 // of the last packet that was built
	builder  builder

	needKey  bool          // a key frame is wanted and has not come whole
	keyAsked time.Duration // last PLI; 0: not yet
	wall     wallClock
}

// A wallClock is what the publisher says of when a track's media was captured.
type wallClock struct {
	zero    time.Time     // at PTS 0; zero when it has not said
	capture bool          // abs-capture-time comes: better than sender reports
	taken   time.Duration // arrival of the last one used
}

// hold is how long a hole is waited for: three round trips of asking and the time to notice; at 5 % of loss both ways two are not
// enough for a packet in two thousand, which is a picture in a hundred.
func (t *track) hold(rtt, limit time.Duration) time.Duration {
	if !t.choice.nack {
		return orderHold
	}
	return min(max(7*rtt/2+40*time.Millisecond, minHold), limit)
}

// choose makes t one of codec c.
func (s *session) choose(t *track, c *choice) {
	t.choice, t.info = c, c.track(t.rid)
	t.timeline = timeline{rate: int64(t.info.ClockRate)}
	t.needKey = c.codec.Video()
	t.builder = builder{track: t.index, codec: c.codec, whole: t.whole,
		write:     func(p *media.Packet) { s.write(t, p) },
		described: func(w, h int, profile string) { s.described(t, w, h, profile) },
		order:     order{changed: s.reordered}}
	t.builder.learnSDP(c.sprop)
}

// settle takes the payload type of a packet of t; false when it was not negotiated. When it is of another codec than what was
// published, the session publishes anew. The session is locked.
func (s *session) settle(t *track, payloadType uint8) bool {
	if t.sure && t.choice.params.number == payloadType {
		return true
	}
	for _, c := range t.choices {
		if c.params.number != payloadType {
			continue
		}
		for _, other := range s.tracks {
			if other.choice == c || !slices.Contains(other.choices, c) {
				continue
			}
			if other.choice.codec != c.codec && s.pub != nil {
				s.log.Warn("the publisher changed the codec", "stream", s.stream, "codec", c.codec)
				_ = s.pub.Close()
				s.pub = nil
			}
			s.choose(other, c)
		}
		for _, other := range s.tracks {
			other.sure = other.sure || slices.Contains(other.choices, c)
		}
		return true
	}
	return false
}

// receive takes a packet of this track; payload is lent.
func (s *session) receive(t *track, payloadType uint8, p piece, payload []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended || !s.settle(t, payloadType) {
		return
	}
	p.payload = t.builder.keep(payload)
	count := &s.server.counters
	count.Packets.Add(1)
	holes := len(t.reorder.holes)
	switch t.reorder.put(p) {
	case filled:
		count.Recovered.Add(1)
	case leapt:
		count.Repairs.Add(1)
	case stale, odd:
		return
	}
	s.advance(t, p.arrival)
	if len(t.reorder.holes) > holes {
		s.wake()
	}
}

// advance writes what is in order, or waited for long enough. The session is locked.
func (s *session) advance(t *track, now time.Duration) {
	if s.pub == nil && (!t.reorder.begun || !s.publish(now)) {
		return
	}
	deadline := now - t.hold(s.rtt, s.server.cfg.Hold)
	if len(t.reorder.holes) > maxNACKs {
		deadline = now
	}
	before := t.reorder.lost
	for {
		p, lost, ok := t.reorder.take(deadline)
		if !ok {
			break
		}
		if t.info.Codec.Video() && p.ts != t.timeline.last {
			s.align(t)
		}
		pts, jumped := t.timeline.at(p.ts, p.arrival)
		if jumped {
			s.server.counters.Repairs.Add(1)
			t.wall.zero = time.Time{}
		}
		if p.capture != 0 && (t.wall.taken == 0 || p.arrival-t.wall.taken >= syncEvery) {
			if wall, ok := ntpTime(p.capture, time.Now()); ok {
				t.wall.capture, t.wall.taken = true, p.arrival
				s.sync(t, pts, wall)
			}
		}
		if lost && t.info.Codec.Video() && s.bond.id == "" { // a bond may have it from another path
			t.needKey = true
			s.wake()
		}
		if u := &t.builder.unit; !u.open || u.ts != p.ts {
			t.first = p.seq
		}
		t.last = p.seq
		t.builder.add(p, pts, lost)
	}
	s.server.counters.Lost.Add(t.reorder.lost - before)
}

// publish enters the session into the Hub: with its first packet, so that nothing is called live that never sent, and when the
// codecs are known. false: not yet. The session is locked.
func (s *session) publish(now time.Duration) bool {
	if s.heard == 0 {
		s.heard = now
	}
	for _, t := range s.tracks {
		if !t.sure && now-s.heard < codecTime {
			return false
		}
	}
	tracks := make([]media.Track, len(s.tracks))
	for i, t := range s.tracks {
		tracks[i] = t.info
	}
	pub, err := s.enter(tracks)
	if err != nil {
		s.end(err)
		return false
	}
	s.pub = pub
	s.wake() // to watch it
	return true
}

// enter publishes the session on its own or as one path of a bond.
func (s *session) enter(tracks []media.Track) (publication, error) {
	if s.bond.id != "" {
		m, err := s.server.bonds.join(s, tracks)
		if err != nil {
			return nil, err // a nil *member is no nil publication
		}
		return m, nil
	}
	pub, err := s.server.hub.Publish(s.stream, relay.Publisher{Tracks: tracks, Protocol: "whip", Remote: s.remote.String(),
		Priority: s.priority, Feedback: s.feedback.Put})
	if err != nil {
		return nil, err
	}
	return pub, nil
}

// write hands on what the builder has made of a track. The session is locked.
func (s *session) write(t *track, p *media.Packet) {
	if m, ok := s.pub.(*member); ok {
		m.write(t.first, t.last, t.builder.unit.ts, p)
		return
	}
	s.pub.Write(p)
}

// whole notes that an access unit went on with nothing missing.
func (t *track) whole(key bool) {
	if key {
		t.needKey = false
	}
}

// described tells the Hub of a size or profile that the bitstream brought.
func (s *session) described(t *track, width, height int, profile string) {
	info := t.info
	info.Width, info.Height = width, height
	if profile != "" {
		info.Profile = profile
	}
	if info != t.info {
		t.info = info
		if s.pub != nil {
			s.pub.Update(t.index, info)
		}
	}
}

const bFrames = "pictures arrive out of display order: the publisher's encoder makes B-frames, and browsers will stutter. " +
	"Turn B-frames off there (x264: bframes=0 or tune zerolatency; OBS: B-frames 0)"

func (s *session) reordered(yes bool) {
	reason := ""
	if yes {
		reason = bFrames
	}
	if s.pub != nil {
		s.pub.Fault("b-frames", reason)
	}
}

// senderReport ties the track's RTP times to wall time, unless its packets say so themselves.
func (s *session) senderReport(t *track, sr *rtcp.SenderReport) {
	wall, ok := ntpTime(sr.NTPTime, time.Now())
	s.mu.Lock()
	defer s.mu.Unlock()
	if ok && !t.wall.capture && t.timeline.begun && s.pub != nil && !s.ended {
		s.sync(t, t.timeline.of(sr.RTPTime), wall)
	}
}

// sync ties a track's times to wall time. The session is locked.
func (s *session) sync(t *track, pts time.Duration, wall time.Time) {
	t.wall.zero = wall.Add(-pts)
	s.pub.Sync(t.index, pts, wall)
}

// align moves video towards sound: each began its times where its first packet arrived, and only wall time tells how far apart
// these were captured. It is done in steps too small to be seen. The session is locked.
func (s *session) align(t *track) {
	for _, sound := range s.tracks {
		if !sound.info.Codec.Audio() || sound.wall.zero.IsZero() || t.wall.zero.IsZero() {
			continue
		}
		off := t.wall.zero.Sub(sound.wall.zero)
		if off.Abs() < alignStep || off.Abs() > alignMost {
			return
		}
		step := min(max(off, -alignStep), alignStep)
		t.timeline.base += step
		t.wall.zero = t.wall.zero.Add(-step)
		s.pub.Sync(t.index, 0, t.wall.zero)
		return
	}
}

// requests appends the feedback that the track owes now, and returns when to look again at the latest. The session is locked.
func (s *session) requests(t *track, now time.Duration, all []rtcp.Packet) ([]rtcp.Packet, time.Duration) {
	next := idle
	if t.ssrc == 0 {
		return all, next
	}
	if s.pub == nil {
		next = codecTime / 10
	}
	if len(t.reorder.holes) > 0 {
		next = busy
		if t.choice.nack {
			s.nacks = t.reorder.wanted(s.nacks[:0], now, max(s.rtt+s.rtt/8, minRetry))
			if len(s.nacks) > 0 {
				s.server.counters.NACKs.Add(uint64(len(s.nacks)))
				all = append(all, &rtcp.TransportLayerNack{SenderSSRC: s.ssrc, MediaSSRC: t.ssrc, Nacks: rtcp.NackPairsFromSequenceNumbers(s.nacks)})
			}
		}
	}
	if t.needKey && now-t.timeline.arrived < silent {
		next = min(next, keyRetry/5)
		if t.keyAsked == 0 || now-t.keyAsked >= keyRetry {
			t.keyAsked = now
			if request := s.keyRequest(t, t.ssrc); request != nil {
				s.server.counters.KeyRequests.Add(1)
				all = append(all, request)
			}
		}
	}
	return all, next
}

// keyRequest returns what asks the publisher for a key frame (RFC 4585 §6.3.1, RFC 5104 §4.3.1), nil when it takes nothing.
func (s *session) keyRequest(t *track, ssrc uint32) rtcp.Packet {
	switch {
	case t.choice.pli:
		return &rtcp.PictureLossIndication{SenderSSRC: s.ssrc, MediaSSRC: ssrc}
	case t.choice.fir:
		s.firs++
		return &rtcp.FullIntraRequest{SenderSSRC: s.ssrc, MediaSSRC: ssrc, FIR: []rtcp.FIREntry{{SSRC: ssrc, SequenceNumber: s.firs}}}
	}
	return nil
}
