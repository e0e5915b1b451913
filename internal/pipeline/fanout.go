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
	codecs  []media.Codec // of its tracks
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
	o := &out{queue: q, asked: -time.Hour}
	for _, t := range tracks {
		o.codecs = append(o.codecs, t.Codec)
	}
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

// wants tells whether a destination has chosen a track of this codec.
func (f *fanout) wants(c media.Codec) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, o := range f.outs {
		if slices.Contains(o.codecs, c) {
			return true
		}
	}
	return false
}

// push gives a packet to those that have chosen its codec. It never blocks.
func (f *fanout) push(p *media.Packet, c media.Codec) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for name, o := range f.outs {
		if !slices.Contains(o.codecs, c) {
			continue
		}
		if c.Video() && !o.started {
			if !p.Key {
				continue
			}
			o.started = true
		}
		if _, needKey := o.queue.Push(p); needKey && (p.PTS-o.asked).Abs() >= overflowKeys {
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
