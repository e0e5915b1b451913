package whip

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pion/rtcp"

	"gantry/internal/linkrate"
	"gantry/media"
)

const (
	estimateEvery = 100 * time.Millisecond // how often the estimate is looked at; a fall is told at once
	repeatEvery   = time.Second            // feedback of a steady estimate
	startFactor   = 1.5                    // of the tracks' bitrate: the estimate to begin with
	paceFactor    = 2.5                    // of the estimate: the pacer must empty its queue before the next picture
	tightFactor   = 1.25                   // of an estimate that was too high lately
	drainFactor   = 1.0                    // of the estimate, while a queue stands on the way
	drainTime     = time.Second            // in which the pacer's queue shall become empty
	paceLimit     = 3                      // of the tracks' bitrate: an estimate far above it was never put to the test
	packOverhead  = 0.04                   // of the RTP rate: headers and fragments
	pictureTime   = 50 * time.Millisecond  // that a picture may wait in the pacer
	assumedVideo  = 2_500_000              // bit/s of tracks that do not say theirs
	assumedAudio  = 128_000
)

// A bandwidth estimates what the path carries, from the receiver's feedback: transport-wide congestion control, or else REMB.
type bandwidth struct {
	limits Bitrate
	media  int // bit/s that the tracks want
	epoch  time.Time
	remb   atomic.Int64  // bit/s, 0: none
	fell   chan struct{} // the estimate is much less than before
	resend func(l *lane, seq uint16)
	bonded bool // other paths carry the same

	mu       sync.Mutex
	path     *linkrate.Packets
	left     departures
	sent     time.Duration // when the newest packet left
	reported time.Duration // when the newest report came; 0: never
}

func newBandwidth(limits Bitrate, tracks []media.Track) *bandwidth {
	b := &bandwidth{limits: limits, epoch: time.Now(), fell: make(chan struct{}, 1), resend: func(*lane, uint16) {}}
	for _, t := range tracks {
		switch {
		case t.Bitrate != 0:
			b.media += t.Bitrate
		case t.Codec.Audio():
			b.media += assumedAudio
		default:
			b.media += assumedVideo
		}
	}
	b.path = linkrate.NewPackets(b.start(), limits.Min, limits.Max)
	return b
}

func (b *bandwidth) start() int {
	return min(max(int(startFactor*float64(b.media)), b.limits.Min), b.limits.Max)
}

// pace returns the rate for the pacer at an estimate.
func (b *bandwidth) pace(e estimate) int {
	factor := paceFactor
	switch {
	case e.full:
		factor = drainFactor
	case e.tight:
		factor = tightFactor
	}
	pace := int(factor * float64(min(e.rate, paceLimit*b.media)))
	if b.bonded && !e.full { // the programme is no less for what this path is thought to carry, and may have to come by it alone
		pace = max(pace, int(tightFactor*float64(b.media)))
	}
	return pace
}

// departed notes that a packet leaves now.
func (b *bandwidth) departed(d departure) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.sent = time.Since(b.epoch)
	d.at = b.sent
	b.left.add(d)
}

// feedback takes what the receiver measured.
func (b *bandwidth) feedback(p rtcp.Packet) {
	switch p := p.(type) {
	case *rtcp.TransportLayerCC:
		for _, m := range b.report(p) {
			b.resend(m.lane, m.seq)
		}
	case *rtcp.ReceiverEstimatedMaximumBitrate:
		b.remb.Store(int64(p.Bitrate))
	}
}

// rtt returns the round trip as the reports show it, 0 without.
func (b *bandwidth) rtt() time.Duration {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.path.RTT()
}

// report takes a transport-wide report and returns what is lost: asked for or not, it is sent again, as requests get lost too.
func (b *bandwidth) report(p *rtcp.TransportLayerCC) []missing {
	b.mu.Lock()
	defer b.mu.Unlock()
	arrivals := b.left.report(p)
	if len(arrivals) == 0 {
		return nil
	}
	before := b.path.Rate()
	b.reported = time.Since(b.epoch)
	b.path.Report(b.reported, arrivals)
	if b.path.Rate() < before-before/20 {
		notify(b.fell)
	}
	return slices.Clone(b.left.missing)
}

// An estimate is what is known of the path at one moment.
type estimate struct {
	rate  int  // bit/s of all that is sent, 0 while the receiver has not said anything
	full  bool // a queue stands on the way
	tight bool // one did lately
	fill  int  // bit/s to fill up to, 0: not
}

func (b *bandwidth) estimate() estimate {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.path.Look(time.Since(b.epoch), b.sent > b.reported)
	if b.reported != 0 {
		return estimate{rate: b.path.Rate(), full: b.path.Full(), tight: b.path.Tight(), fill: min(b.path.Recovering(), b.start())}
	}
	if r := b.remb.Load(); r != 0 {
		return estimate{rate: min(max(int(r), b.limits.Min), b.limits.Max)}
	}
	return estimate{}
}

// watch turns the estimate into the pacer's rate and into feedback, until ctx ends.
func (b *bandwidth) watch(ctx context.Context, p *pacer, count *counters, tell func(media.Feedback)) {
	tick := time.NewTicker(estimateEvery)
	defer tick.Stop()
	var s share
	for {
		select {
		case <-ctx.Done():
			return
		case <-b.fell:
		case <-tick.C:
		}
		now, e := time.Now(), b.estimate()
		count.update(func(d *Detail) { d.Estimate = e.rate })
		if e.rate == 0 {
			continue
		}
		backlog := p.setRate(b.pace(e), e.fill)
		if left := s.left(now, e.rate, backlog, count.rtxBytes.Load()); left != 0 {
			tell(media.Feedback{Bitrate: max(left, b.limits.Min/2)})
		}
	}
}

// A share finds what an estimate leaves to the encoders, and decides when that is news.
type share struct {
	rtx          rate
	told         int
	toldAt, seen time.Time
}

// left returns what sound and video may have together in bit/s, or 0 when there is nothing to tell: it differs by less than 2 %,
// and was told less than a second ago. backlog is what waits in the pacer, in bit.
func (s *share) left(now time.Time, estimate, backlog int, rtxBytes uint64) int {
	if !s.seen.IsZero() {
		s.rtx.add(rtxBytes, now.Sub(s.seen))
	} else {
		s.rtx.last = rtxBytes
	}
	s.seen = now
	left := float64(estimate) - min(s.rtx.value, float64(estimate)/2)
	left -= min(max(0, float64(backlog)/drainTime.Seconds()-float64(estimate)*pictureTime.Seconds()), left/2) // a picture is none
	both := max(int(left*(1-packOverhead)), 1)
	near := s.told-both <= s.told/50 && both-s.told <= s.told/50
	if near && now.Sub(s.toldAt) < repeatEvery {
		return 0
	}
	s.told, s.toldAt = both, now
	return both
}

// A rate is the smoothed bit/s of a byte counter.
type rate struct {
	last  uint64
	value float64
}

func (r *rate) add(total uint64, dt time.Duration) {
	if dt <= 0 {
		return
	}
	const memory = 500 * time.Millisecond
	weight := min(1, dt.Seconds()/memory.Seconds())
	r.value += weight * (float64(total-r.last)*8/dt.Seconds() - r.value)
	r.last = total
}
