package relay

import (
	"time"

	"gantry/media"
)

// A Publication is one publisher's place in a Stream. One goroutine at a time calls Write; the rest may be called by any.
type Publication struct {
	stream    *Stream
	publisher Publisher
	since     time.Time
	done      chan struct{}

	// Guarded by stream.mu.
	tracks []media.Track
	mapped []uint8         // own track → the Stream's
	offset time.Duration   // own PTS → the Stream's
	heard  time.Duration   // elapsed() of the last packet
	asked  []time.Duration // elapsed() of the last request for a key frame of each track
	err    error
	wall   []syncPoint
	faults []Fault
	stats  []counter
	rank
}

// rank decides between the publishers of one Stream.
type rank struct {
	id       string // in the API
	priority int
	ruled    bool          // the API has set the priority: an equal one does not replace this publisher
	damaged  time.Duration // elapsed() of the last second in which much was missing; negative: never
}

// syncPoint ties a PTS to the wall time of its capture.
type syncPoint struct {
	pts  time.Duration
	wall time.Time
}

// Write hands p on to all subscribers when this is the active publisher; else p only keeps the Publication ready to take
// over. It never blocks. PTS must rise within each access unit's track and share one timeline over all tracks.
func (p *Publication) Write(pkt *media.Packet) { p.stream.write(p, pkt) }

// Sync tells when the media of a track at pts was captured, in wall time: from an RTCP sender report or abs-capture-time.
func (p *Publication) Sync(track uint8, pts time.Duration, wall time.Time) {
	p.stream.mu.Lock()
	defer p.stream.mu.Unlock()
	if p.wall == nil {
		p.wall = make([]syncPoint, len(p.tracks))
	}
	if int(track) < len(p.wall) {
		p.wall[track] = syncPoint{pts, wall}
	}
}

// Update replaces what is known of a track, as when its size was read from the bitstream. Codec and packing cannot change.
func (p *Publication) Update(track uint8, t media.Track) {
	p.stream.mu.Lock()
	defer p.stream.mu.Unlock()
	if int(track) >= len(p.tracks) || p.tracks[track].Codec != t.Codec || p.tracks[track].Packing != t.Packing {
		return
	}
	p.tracks[track] = t
	if p.stream.active == p {
		p.stream.line.tracks[p.mapped[track]] = t
		for _, f := range p.stream.forms {
			f.update(p.mapped[track], t)
		}
	}
}

// Fault names something wrong with what is published ("b-frames"), with a reason in words; an empty reason clears it.
func (p *Publication) Fault(code, reason string) {
	p.stream.mu.Lock()
	defer p.stream.mu.Unlock()
	for i, f := range p.faults {
		if f.Code == code {
			p.faults = append(p.faults[:i:i], p.faults[i+1:]...)
			break
		}
	}
	if reason != "" {
		p.faults = append(p.faults, Fault{Code: code, Reason: reason})
		p.stream.hub.log.Warn("published stream has a fault", "stream", p.stream.name, "reason", reason)
	}
}

// Done is closed when the Publication has ended, by Close or by the Hub; Err then says why.
func (p *Publication) Done() <-chan struct{} { return p.done }

// Err returns nil while the Publication lives, then ErrReplaced, ErrEnded, or what Close was told.
func (p *Publication) Err() error {
	p.stream.mu.Lock()
	defer p.stream.mu.Unlock()
	return p.err
}

// Close takes the publisher out of its Stream. Subscribers stay, waiting for another for Config.Hold.
func (p *Publication) Close() error {
	p.stream.mu.Lock()
	defer p.stream.mu.Unlock()
	p.stream.remove(p, ErrEnded)
	return nil
}

// ask asks for a key frame of its own tracks in the bit set, at most once every keyFrameEvery for each; 0 is all video. The
// Stream is locked.
func (p *Publication) ask(tracks uint64, now time.Duration) {
	var due uint64
	for i, t := range p.tracks {
		if bit := uint64(1) << i; t.Codec.Video() && (tracks == 0 || tracks&bit != 0) && now-p.asked[i] >= keyFrameEvery {
			p.asked[i] = now
			due |= bit
		}
	}
	if due != 0 && p.publisher.Feedback != nil {
		p.publisher.Feedback(media.Feedback{KeyFrame: true, Tracks: due})
	}
}
