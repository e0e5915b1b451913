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
	started bool          // a key frame came: a destination sees none of the pictures before it
	asked   time.Duration // PTS at which its queue last asked for a key frame
}

func newFanout(b *feedback) *fanout {
	return &fanout{feedback: b, outs: map[string]*out{}, dropped: map[string]uint64{}}
}

// add returns a new Queue that receives what is coded from the next key frame on. It asks for none: a destination that cannot
// be reached is added again and again.
func (f *fanout) add(name string, tracks []media.Track) *media.Queue {
	q := media.NewQueue(queueLimit, tracks)
	o := &out{queue: q, tracks: tracks, asked: -time.Hour}
	f.mu.Lock()
	f.outs[name] = o
	f.mu.Unlock()
	return q
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

// has tells whether a track of this codec and rendition is among those chosen.
func (o *out) has(c media.Codec, rid string) bool {
	return slices.ContainsFunc(o.tracks, func(t media.Track) bool { return t.Codec == c && t.RID == rid })
}

// wants tells whether a destination has chosen sound of this codec.
func (f *fanout) wants(c media.Codec) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, o := range f.outs {
		if o.has(c, "") {
			return true
		}
	}
	return false
}

// push gives a packet of sound to those that have chosen its codec. It never blocks.
func (f *fanout) push(p *media.Packet, c media.Codec) { f.pushPicture(p, c, "") }

// pushPicture gives a packet to those that have chosen its codec and rendition. It never blocks.
func (f *fanout) pushPicture(p *media.Packet, c media.Codec, rid string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for name, o := range f.outs {
		if !o.has(c, rid) {
			continue
		}
		if c.Video() && !o.started {
			if !p.Key {
				continue
			}
			o.started = true
		}
		if _, needKey := o.queue.Push(p); needKey != 0 && (p.PTS-o.asked).Abs() >= overflowKeys {
			o.asked = p.PTS
			f.feedback.put(name, media.Feedback{KeyFrame: true})
		}
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
