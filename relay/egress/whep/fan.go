package whep

import (
	"context"
	"fmt"
	"log/slog"
	"math"
	"slices"
	"sync"
	"time"

	"gantry/internal/rtc"
	"gantry/media"
	"gantry/relay"
)

// Times of a fan.
const (
	tick     = 200 * time.Millisecond // sender reports, waiting viewers
	catching = 2 * time.Millisecond   // between two bursts of a catch-up
	holdBack = 2 * time.Millisecond   // how long the beginning of a picture waits for its rest
	linger   = 5 * time.Second        // an unused fan stays

	// A group of pictures younger than this is sent to a new viewer as it is; else a key frame is asked for.
	young = 500 * time.Millisecond
	// A publisher that is asked gets so long before the viewer is given what is cached, however old.
	patience = 60 * time.Millisecond
	// askEvery is how often waiting viewers repeat their wish for a key frame.
	askEvery = 500 * time.Millisecond
)

// catchUpRound is how many packets all that catch up are sent in one round of the loop, about.
const catchUpRound = 8 * catchUpBurst

// glances is how many viewers are served between two looks at what has come; some 200 µs.
const glances = 8

// maxTasks bounds what waits for the loop; beyond it, only joins and leaves are taken.
const maxTasks = 4096

// A fan serves some viewers of one stream by one loop.
type fan struct {
	sub    *relay.Subscription
	port   *rtc.Port
	batch  *rtc.Batch
	count  Stats // the loop's own; published every tick
	media  *line
	view   view
	cancel context.CancelFunc // ends run
	log    *slog.Logger

	viewers []*viewer
	round

	mu     sync.Mutex
	tasks  []func()
	ready  chan struct{}
	closed bool
	stats  Stats // copy of count for others
}

// round is one time through the viewers.
type round struct {
	packets []*media.Packet // scratch
	scratch []byte          // a packet for a viewer that the batch does not serve
	first   int             // whose turn it is to be served first
	more    bool            // something has come meanwhile
	failed  error           // the Subscription's
}

// line is the stream as a fan has it.
type line struct {
	tracks []*history
	keyed  time.Time     // when the last key frame came
	asked  time.Time     // when the oldest wish for a key frame was made that is not answered yet
	answer time.Duration // how long the publisher took to answer the last one; 0: not known yet
	clock  clock
}

// newFan returns a fan for the stream of sub, which it owns then.
func newFan(sub *relay.Subscription, port *rtc.Port, log *slog.Logger) (*fan, error) {
	batch, err := port.NewBatch()
	if err != nil {
		return nil, fmt.Errorf("open sender: %w", err)
	}
	f := &fan{sub: sub, port: port, batch: batch, log: log, media: &line{}, ready: make(chan struct{}, 1)}
	f.batch.Refused = func(slot int) {
		if slot < len(f.viewers) {
			f.viewers[slot].refused = true
		}
	}
	for _, t := range sub.Tracks() {
		f.media.tracks = append(f.media.tracks, newHistory(t))
	}
	return f, nil
}

// do has task run by the loop. It never blocks; must tells that the task may not be dropped when too many wait. It returns
// false when the loop has ended.
func (f *fan) do(must bool, task func()) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return false
	}
	if must || len(f.tasks) < maxTasks {
		f.tasks = append(f.tasks, task)
	}
	f.wake()
	return true
}

// later has task run in the loop's next round, whenever that is. It may be dropped when too many wait.
func (f *fan) later(task func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.closed && len(f.tasks) < maxTasks {
		f.tasks = append(f.tasks, task)
	}
}

// run serves until the Subscription ends, and returns why, or until ctx ends.
func (f *fan) run(ctx context.Context) error {
	defer f.end()
	ticker := time.NewTicker(tick)
	defer ticker.Stop()
	hold := time.NewTimer(never) // the rest of a picture is late, or a viewer catches up, or has waited long enough
	defer hold.Stop()
	f.sub.ReadyByUnit()
	if err := f.take(); err != nil {
		return err
	}
	var part time.Time // since when a picture has been here in part
	for {
		late := false
		select {
		case <-f.sub.Ready():
			if err := f.take(); err != nil {
				return err
			}
		case <-f.ready:
			f.work()
		case now := <-ticker.C:
			f.housekeep(now)
		case <-hold.C:
			late = true
			if err := f.take(); err != nil {
				return err
			}
		case <-ctx.Done():
			return nil
		}
		switch {
		case late || f.whole():
			f.number()
			f.work() // who has left is sent nothing more, however busy the loop is
			wait := f.serve()
			if f.failed != nil {
				return f.failed
			}
			if part = (time.Time{}); !f.whole() { // the beginning of the next has come meanwhile
				part, wait = time.Now(), min(wait, holdBack)
			}
			hold.Reset(wait)
		case part.IsZero():
			part = time.Now()
			hold.Reset(holdBack) // the rest is on its way: it will leave in the same message
		}
	}
}

// end gives back what the loop held.
func (f *fan) end() {
	f.work()
	f.mu.Lock()
	f.closed = true
	f.mu.Unlock()
	f.work() // what came in between
	for _, v := range f.viewers {
		f.bye(v)
	}
	f.batch.Flush()
	f.publish()
	_ = f.batch.Close()
	_ = f.sub.Close()
}

// take moves what has come into the histories.
func (f *fan) take() error {
	packets, err := f.sub.Take(f.packets[:0])
	now := time.Now()
	for _, p := range packets {
		if int(p.Track) < len(f.media.tracks) {
			f.add(p, now)
		}
	}
	clear(packets)
	f.packets = packets[:0]
	return err
}

func (f *fan) add(p *media.Packet, now time.Time) {
	h := f.media.tracks[p.Track]
	var capture uint64
	if p.Start {
		f.media.clock.update(f.sub, p, now)
		h.zero = f.media.clock.zero
		if t, ok := f.media.clock.capture(p.PTS); ok {
			capture = ntpTime(t)
		}
	}
	h.add(p, capture, now)
	if p.Start && p.Key && h.track.Codec.Video() {
		if !f.media.asked.IsZero() {
			f.media.answer = now.Sub(f.media.asked)
		}
		f.media.keyed, f.media.asked = now, time.Time{}
	}
	if p.Lost && h.track.Codec.Video() {
		f.wantKey(h)
	}
}

// whole tells whether no picture has come in part only.
func (f *fan) whole() bool {
	for _, h := range f.media.tracks {
		if !h.whole() {
			return false
		}
	}
	return true
}

// number makes sendable what has come of pictures that are not whole.
func (f *fan) number() {
	for _, h := range f.media.tracks {
		h.number()
	}
}

// work runs the tasks that wait.
func (f *fan) work() {
	f.mu.Lock()
	tasks := f.tasks
	f.tasks = nil
	f.mu.Unlock()
	for _, task := range tasks {
		task()
	}
	f.batch.Flush()
}

// never is how long nothing is waited for.
const never time.Duration = math.MaxInt64

// serve sends every viewer what has come for it, and returns when it must be called again though nothing comes.
func (f *fan) serve() time.Duration {
	again := never
	f.more = false
	n := len(f.viewers)
	if f.first++; f.first >= n {
		f.first = 0 // somebody else is last each time
	}
	// Those who watch come first; those who catch up share what is bounded, so that joins are not paid for by others.
	for i := range n {
		if v := f.viewers[(i+f.first)%n]; !v.behind() {
			again = min(again, f.attend(v))
		}
		if i%glances == glances-1 {
			f.glance()
		}
	}
	budget := catchUpRound
	for i := range n {
		v := f.viewers[(i+f.first)%n]
		switch {
		case !v.behind():
		case budget <= 0:
			again = min(again, catching)
		default:
			before := v.video.packets
			again = min(again, f.attend(v))
			budget -= int(v.video.packets - before)
		}
	}
	f.batch.Flush()
	if f.more { // and those before have not had it
		f.wake()
	}
	return again
}

// glance receives and takes what has come while a round is served: the viewers that follow get it in the same message as what
// they are sent anyway, as sound with a picture. The busier the loop, the more that saves.
func (f *fan) glance() {
	f.port.Poll()
	select {
	case <-f.sub.Ready():
		f.more = true
		if err := f.take(); err != nil {
			f.failed = err
		}
	default:
	}
}

// wake has the loop look at its tasks, and then serve.
func (f *fan) wake() {
	select {
	case f.ready <- struct{}{}:
	default:
	}
}

// behind tells whether v catches up.
func (v *viewer) behind() bool { return v.video != nil && v.video.catch.active }

// attend sees to one viewer's state and sends it what has come. It returns when to come again though nothing comes.
func (f *fan) attend(v *viewer) time.Duration {
	again := never
	if v.session.over.Load() {
		return again // its leave is on the way
	}
	if v.refused {
		v.refused = false
		f.count.Dropped++
		if v.video != nil {
			v.wait(f)
		}
	}
	if v.target != nil {
		v.cross(f)
	}
	if v.waiting {
		again = v.begin(f)
	}
	if !f.serveOne(v) {
		again = min(again, catching)
	}
	return again
}

// serveOne sends v what has come for it, and tells whether that was all.
func (f *fan) serveOne(v *viewer) bool {
	if !v.path.Valid() {
		return true
	}
	if v.path.UDP() {
		f.batch.To(&v.path, v.slot)
	}
	if v.link.estimate != nil {
		v.link.now = time.Now()
	}
	done := !v.probe(f)
	if o := v.video; o != nil {
		done = v.sendVideo(f, o) && done
	}
	for _, o := range v.out {
		if o != nil && o != v.video { // its packets are small: they can end the message of a picture
			done = v.send(f, o, math.MaxInt) && done
		}
	}
	return done
}

func (v *viewer) sendVideo(f *fan, o *outTrack) (done bool) {
	if v.waiting {
		o.next = o.history.next
		return true
	}
	limit := math.MaxInt
	if o.next <= o.history.key && o.history.next-o.next > catchUpBurst || o.catch.active && o.history.next-o.next > catchUpBurst {
		limit = catchUpBurst
	}
	return v.send(f, o, min(limit, v.link.allow(int(o.history.next-o.next))))
}

// begin ends the waiting of v when a key frame has come, or when it has waited long enough for one and can be given an old
// one. It returns when to look again.
func (v *viewer) begin(f *fan) time.Duration {
	h := v.video.history
	if h.keyed && h.key >= v.from {
		v.waiting = false
		v.video.startAt(h.key)
		return never
	}
	if v.until.IsZero() || !h.keyed {
		return never
	}
	if left := time.Until(v.until); left > 0 {
		return left
	}
	v.waiting = false
	v.video.catchUpFrom(h.key)
	return never
}

// room returns space for one packet to v, put sends what was written there.
func (f *fan) room(v *viewer, size int) []byte {
	if v.path.UDP() {
		return f.batch.Room(size)
	}
	if cap(f.scratch) < size {
		f.scratch = make([]byte, 0, size)
	}
	return f.scratch[:0:cap(f.scratch)]
}

func (f *fan) put(v *viewer, packet []byte) {
	f.count.Packets++
	f.count.Bytes += uint64(len(packet))
	if v.path.UDP() {
		f.batch.Put(len(packet))
		return
	}
	if v.session.peer.Write(packet) != nil {
		v.refused = true
	}
}

// wantKey asks the publisher for a key frame of h. The Hub coalesces what many fans ask.
func (f *fan) wantKey(h *history) {
	// A wish soon after a key frame is not passed on by the Hub: that it stays unanswered says nothing of the publisher.
	if now := time.Now(); f.media.asked.IsZero() && now.Sub(f.media.keyed) > askEvery {
		f.media.asked = now
	}
	f.count.KeyFramesAsked++
	f.sub.Feedback(media.Feedback{KeyFrame: true, Tracks: 1 << slices.Index(f.media.tracks, h)})
}

// prepare is called when a viewer is on its way: by the time it has connected, a key frame can be there.
func (f *fan) prepare() {
	var layers []*history
	for _, h := range f.media.tracks {
		if h.track.Codec.Video() && (len(layers) == 0 || layers[0].track.Codec == h.track.Codec) {
			layers = append(layers, h)
		}
	}
	if len(layers) == 0 {
		return
	}
	h := layers[0]
	if live := ladder(layers, time.Now()); len(live) > 0 {
		h = live[highest(rates(live), firstBitrate)]
	}
	if !(h.keyed && f.age(h) < young) && f.answers() {
		f.wantKey(h)
	}
}

// age returns how far back the newest key frame lies.
func (f *fan) age(h *history) time.Duration {
	if e := h.at(h.key); e != nil {
		return h.newest - e.pts
	}
	return time.Hour
}

// answers tells whether the publisher makes a key frame when asked, as far as is known.
func (f *fan) answers() bool {
	if a := f.media.answer; a > 3*patience {
		return false
	}
	return f.media.asked.IsZero() || time.Since(f.media.asked) < 3*patience
}

// join makes v a viewer.
func (f *fan) join(v *viewer) {
	v.slot = len(f.viewers)
	f.viewers = append(f.viewers, v)
	f.sub.SetViewers(len(f.viewers))
	if v.video == nil {
		return
	}
	if len(v.layers) > 1 {
		v.video.history = f.choose(v, time.Now())
		v.video.startAt(v.video.history.next)
	}
	h := v.video.history
	switch {
	case h.keyed && (f.age(h) < young || !f.answers()):
		v.video.catchUpFrom(h.key)
	default:
		v.wait(f)
		v.until = time.Now()
		if a := f.media.asked; !a.IsZero() {
			v.until = a
		}
		v.until = v.until.Add(patience)
	}
}

// leave takes v out. It may not have joined.
func (f *fan) leave(v *viewer) {
	if v.slot >= len(f.viewers) || f.viewers[v.slot] != v {
		return
	}
	f.batch.Flush() // it holds v's path and slot
	last := len(f.viewers) - 1
	f.viewers[v.slot] = f.viewers[last]
	f.viewers[v.slot].slot = v.slot
	f.viewers[last] = nil
	f.viewers = f.viewers[:last]
	f.sub.SetViewers(last)
}

// housekeep does what is due from time to time.
func (f *fan) housekeep(now time.Time) {
	due := f.media.asked.IsZero() || now.Sub(f.media.asked) > askEvery
	var wanted []*history
	for _, v := range f.viewers {
		f.reports(v, now)
		f.adapt(v, now)
		if v.waiting && !v.link.thin && due && !slices.Contains(wanted, v.video.history) {
			wanted = append(wanted, v.video.history)
		}
	}
	for _, h := range wanted {
		f.wantKey(h)
	}
	f.look(now)
	f.publish()
}

// publish copies the counters for others.
func (f *fan) publish() {
	f.count.Viewers = len(f.viewers)
	f.count.Calls, f.count.Refused = f.batch.Stats.Calls, f.batch.Stats.Refused
	f.mu.Lock()
	f.stats = f.count
	f.mu.Unlock()
}

// clock ties the stream's PTS to wall time.
type clock struct {
	captured bool
	zero     time.Time // wall time of PTS 0: of capture when captured, else of arrival here
}

func (c *clock) update(sub *relay.Subscription, p *media.Packet, now time.Time) {
	if wall, ok := sub.Wall(p.Track, p.PTS); ok {
		c.captured, c.zero = true, wall.Add(-p.PTS)
		return
	}
	if c.captured {
		return
	}
	zero := now.Add(-p.PTS)
	if c.zero.IsZero() || zero.Before(c.zero) {
		c.zero = zero // the least delayed packet tells best
	} else {
		c.zero = c.zero.Add(zero.Sub(c.zero) / 256)
	}
}

// capture returns when the media at pts was captured, if the publisher has said.
func (c *clock) capture(pts time.Duration) (time.Time, bool) { return c.zero.Add(pts), c.captured }
