package pipeline

import (
	"cmp"
	"slices"
	"sync"
	"time"

	"gantry/internal/clock"
	"gantry/media"
)

// keyLimit is the least time between key frames that destinations ask for. A request within it is served at its end.
const keyLimit = 250 * time.Millisecond

// feedback merges what the destinations say. Its methods never block.
type feedback struct {
	level    func(rendition string) level // what a rendition's encoder may use
	reserved func() int                   // bit/s of the sound

	mu     sync.Mutex
	joined map[string]*opinion
	every  wish            // for a key frame of every rendition
	one    map[string]wish // for one of this rendition alone
	asked  uint64
}

// An opinion is what one destination says.
type opinion struct {
	renditions []string // that it gets: the renditions of its tracks of pictures
	aside      bool     // what its path carries does not count
	carries    int      // bit/s; 0: not known
	ladder     ladder   // where it gets several
	order      []int    // of the ladder: places in renditions
}

// A wish is one for a key frame.
type wish struct {
	wanted bool
	last   time.Duration // PTS of the last one that was asked for
}

func newFeedback() *feedback {
	return &feedback{level: func(string) level { return level{} }, reserved: func() int { return 0 },
		joined: map[string]*opinion{}, every: wish{last: -time.Hour}, one: map[string]wish{}}
}

// join says which renditions a destination gets, in the order of its tracks, and whether what its path carries is left aside.
func (b *feedback) join(name string, renditions []string, aside bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.joined[name] = &opinion{renditions: renditions, aside: aside}
}

// turn says that a destination gets other renditions over the same path.
func (b *feedback) turn(name string, renditions []string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if o := b.joined[name]; o != nil {
		b.joined[name] = &opinion{renditions: renditions, aside: o.aside, carries: o.carries}
	}
}

// leave forgets a destination.
func (b *feedback) leave(name string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.joined, name)
}

// put takes what a destination says; an unknown one may ask for key frames. Those that name no track are of every rendition.
// It returns the bit set of the destination's tracks that its path has no room for.
func (b *feedback) put(name string, f media.Feedback) (paused uint64) {
	now := clock.Now()
	b.mu.Lock()
	defer b.mu.Unlock()
	o := b.joined[name]
	if f.KeyFrame {
		b.want(o, f.Tracks)
	}
	if o == nil {
		return 0
	}
	if f.Bitrate > 0 {
		o.carries = f.Bitrate
		b.share(o, now)
	}
	for place, i := range o.order {
		if place >= o.ladder.live {
			paused |= 1 << i
		}
	}
	return paused
}

func (b *feedback) want(o *opinion, tracks uint64) {
	if o == nil || tracks == 0 {
		b.every.wanted = true
		return
	}
	for i, rendition := range o.renditions {
		if tracks&(1<<i) != 0 {
			b.one[rendition] = wish{wanted: true, last: b.one[rendition].last}
		}
	}
}

// share divides what o's path carries among its layers.
func (b *feedback) share(o *opinion, now time.Duration) {
	if len(o.renditions) < 2 {
		return
	}
	levels := make([]level, len(o.renditions))
	order := make([]int, len(o.renditions))
	for i, rendition := range o.renditions {
		levels[i], order[i] = b.level(rendition), i
	}
	slices.SortStableFunc(order, func(i, j int) int { return cmp.Compare(levels[i].ceiling, levels[j].ceiling) })
	sorted := make([]level, len(levels))
	for place, i := range order {
		sorted[place] = levels[i]
	}
	if !slices.Equal(order, o.order) {
		o.order, o.ladder = order, ladder{}
	}
	o.ladder = o.ladder.next(sorted, int(float64(o.carries)*headroom)-b.reserved(), now)
}

// room returns the bit/s that o leaves to a rendition's pictures; 0: no opinion, or another's.
func (o *opinion) room(rendition string, reserved int) int {
	i := slices.Index(o.renditions, rendition)
	if i < 0 || o.aside || o.carries == 0 {
		return 0
	}
	if len(o.ladder.shares) > 0 {
		return max(o.ladder.shares[slices.Index(o.order, i)], 1)
	}
	return o.left(reserved)
}

// left returns the bit/s that o's path leaves to pictures.
func (o *opinion) left(reserved int) int { return max(int(float64(o.carries)*headroom)-reserved, 1) }

// path returns what a destination's path is said to carry, and what it leaves to pictures, in bit/s; 0: it is not known, or left aside.
func (b *feedback) path(name string) (carries, left int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	o := b.joined[name]
	if o == nil || o.aside || o.carries == 0 {
		return 0, 0
	}
	return o.carries, o.left(b.reserved())
}

// smallest returns what the narrowest path leaves to the pictures of a rendition, 0 when nobody has said.
func (b *feedback) smallest(rendition string) (bps int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	reserved := b.reserved()
	for _, o := range b.joined {
		if r := o.room(rendition, reserved); r != 0 && (bps == 0 || r < bps) {
			bps = r
		}
	}
	return bps
}

// of returns what a destination's path is said to carry, and which renditions it has no room for.
func (b *feedback) of(name string) (carries int, paused []string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	o := b.joined[name]
	if o == nil {
		return 0, nil
	}
	for place, i := range o.order {
		if place >= o.ladder.live {
			paused = append(paused, o.renditions[i])
		}
	}
	return o.carries, paused
}

// keys says whether the picture with this PTS shall be a key frame in every rendition, because it follows a cut or somebody
// asked, or in which ones alone: the one rate limit there is for what is asked.
func (b *feedback) keys(pts time.Duration, cut bool) (every bool, some []string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if cut || b.every.due(pts, b.every.last) {
		if !cut {
			b.asked++
		}
		b.every = wish{last: pts}
		clear(b.one)
		return true, nil
	}
	for rendition, w := range b.one {
		if w.due(pts, b.every.last) {
			b.one[rendition] = wish{last: pts}
			b.asked++
			some = append(some, rendition)
		}
	}
	return false, some
}

// due tells whether w is to be met at pts, where another key frame was asked for at other.
func (w wish) due(pts, other time.Duration) bool {
	met := func(last time.Duration) bool { return pts-last >= keyLimit || pts < last }
	return w.wanted && met(w.last) && met(other)
}
