package pipeline

import (
	"maps"
	"slices"
	"sync"
	"time"

	"gantry/media"
)

const (
	// queueLimit is how much media time may wait for one destination.
	queueLimit = time.Second
	// overflowKeys is the least time between key frames that are asked for because a destination's queue ran over: one that
	// takes nothing must not make the pictures of the others worse.
	overflowKeys = 5 * time.Second
)

// fanout copies the coded tracks into the queues of the destinations.
type fanout struct {
	feedback *feedback

	mu      sync.Mutex
	outs    map[string]*out
	dropped map[string]uint64 // by destination, of queues that are gone
}

type out struct {
	tracks  []media.Track
	queue   *media.Queue
	started uint64        // bit set of the tracks of pictures that a key frame came of: a destination sees none of those before it
	paused  uint64        // and of those that its path has no room for
	asked   time.Duration // PTS at which its queue last asked for a key frame
	turn    turn
}

// A turn is the change of a destination to other pictures.
type turn struct {
	tracks []media.Track // that it gets from a key frame on; nil: it gets what it has
	held   bool          // what it has had ends: the others have come, and are behind
	last   time.Duration // newest PTS or DTS of its pictures
}

func newFanout(b *feedback) *fanout {
	return &fanout{feedback: b, outs: map[string]*out{}, dropped: map[string]uint64{}}
}

// add returns a new Queue that receives what is coded from the next key frame on. It asks for none: a destination that cannot
// be reached is added again and again.
func (f *fanout) add(name string, tracks []media.Track) *media.Queue {
	q := media.NewQueue(queueLimit, tracks)
	o := &out{queue: q, tracks: tracks, asked: -time.Hour, turn: turn{last: -time.Hour}}
	f.mu.Lock()
	f.outs[name] = o
	f.mu.Unlock()
	return q
}

// reroute has a destination get these tracks in the Queue that it has, from their next key frame on that is newer than what it got:
// until then it gets what it had.
func (f *fanout) reroute(name string, tracks []media.Track) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if o := f.outs[name]; o != nil {
		o.turn.tracks, o.turn.held = tracks, false
	}
}

// turning tells whether a destination gets what it had before reroute.
func (f *fanout) turning() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, o := range f.outs {
		if o.turn.tracks != nil {
			return true
		}
	}
	return false
}

func (f *fanout) remove(name string, err error) {
	f.mu.Lock()
	o := f.outs[name]
	delete(f.outs, name)
	if o != nil {
		f.dropped[name] += o.queue.Dropped()
	}
	f.mu.Unlock()
	if o != nil {
		o.queue.Close(err)
	}
}

// index returns which of the tracks chosen has this codec and rendition; -1: none.
func (o *out) index(c media.Codec, rendition string) int { return indexOf(o.tracks, c, rendition) }

func indexOf(tracks []media.Track, c media.Codec, rendition string) int {
	return slices.IndexFunc(tracks, func(t media.Track) bool {
		return t.Codec == c && (c.Audio() || renditionOf(t) == rendition)
	})
}

// wants tells whether a destination has chosen sound of this codec.
func (f *fanout) wants(c media.Codec) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, o := range f.outs {
		if o.index(c, "") >= 0 {
			return true
		}
	}
	return false
}

// push gives a packet of sound to those that have chosen its codec. It never blocks.
func (f *fanout) push(p *media.Packet, c media.Codec) { f.pushPicture(p, c, "") }

// pushPicture gives a packet to those that have chosen its codec and rendition. It never blocks.
func (f *fanout) pushPicture(p *media.Packet, c media.Codec, rendition string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for name, o := range f.outs {
		if c.Video() && p.Key && indexOf(o.turn.tracks, c, rendition) >= 0 && !o.change(p) {
			f.feedback.put(name, media.Feedback{KeyFrame: true}) // a newer one
		}
		i := o.index(c, rendition)
		if i < 0 || c.Video() && (o.turn.held || !o.begin(p, 1<<i)) {
			continue
		}
		if c.Video() {
			o.turn.last = max(o.turn.last, p.PTS, p.DTS)
		}
		own := p
		if int(p.Track) != i {
			moved := *p
			moved.Track = uint8(i)
			own = &moved
		}
		if _, needKey := o.queue.Push(own); needKey != 0 && (p.PTS-o.asked).Abs() >= overflowKeys {
			o.asked = p.PTS
			f.feedback.put(name, media.Feedback{KeyFrame: true, Tracks: needKey})
		}
	}
}

// change ends the turn with the key frame p of the new tracks, unless it is behind what the destination got.
func (o *out) change(p *media.Packet) bool {
	if p.DTS <= o.turn.last {
		o.turn.held = true
		return false
	}
	o.tracks, o.started, o.turn = o.turn.tracks, 0, turn{}
	return true
}

// begin tells whether a packet of the track with this bit goes to the destination: not while the track is paused, and after that
// from a key frame on.
func (o *out) begin(p *media.Packet, bit uint64) bool {
	switch {
	case o.paused&bit != 0:
		o.started &^= bit
	case p.Key:
		o.started |= bit
	}
	return o.started&bit != 0
}

// tell takes what a destination says, and pauses those of its tracks that its path has no room for.
func (f *fanout) tell(name string, said media.Feedback) {
	paused := f.feedback.put(name, said)
	f.mu.Lock()
	o := f.outs[name]
	var resumed uint64
	if o != nil {
		resumed = o.paused &^ paused
		o.paused = paused
	}
	f.mu.Unlock()
	if resumed != 0 {
		f.feedback.put(name, media.Feedback{KeyFrame: true, Tracks: resumed})
	}
}

// drops returns how many packets were dropped, by destination.
func (f *fanout) drops() map[string]uint64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	all := maps.Clone(f.dropped)
	for name, o := range f.outs {
		all[name] += o.queue.Dropped()
	}
	return all
}
