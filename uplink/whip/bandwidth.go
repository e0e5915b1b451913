package whip

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/pion/interceptor"
	"github.com/pion/interceptor/pkg/gcc"
	"github.com/pion/logging"
	"github.com/pion/rtcp"
	"github.com/pion/rtp"
	"github.com/pion/sdp/v3"

	"gantry/media"
)

const (
	estimateEvery = 100 * time.Millisecond // how often the estimate is looked at, and the most often that feedback goes out
	repeatEvery   = time.Second            // feedback of a steady estimate
	silence       = 600 * time.Millisecond // without feedback: receivers send it each 100 ms or so
	startFactor   = 1.5                    // of the tracks' bitrate: the estimate to begin with
	paceFactor    = 2.5                    // of the estimate: the pacer must empty its queue before the next picture
	paceLimit     = 3                      // of the tracks' bitrate: an estimate far above it was never put to the test
	packOverhead  = 0.04                   // of the video's RTP rate: headers and fragments
	assumedVideo  = 2_500_000              // bit/s of tracks that do not say theirs
	assumedAudio  = 128_000
)

// A bandwidth estimates what the path carries, from the receiver's feedback: transport-wide congestion control through pion's
// GCC (draft-ietf-rmcat-gcc), or else REMB.
type bandwidth struct {
	bwe     *gcc.SendSideBWE
	writers map[uint32]interceptor.RTPWriter
	limits  Bitrate
	media   int          // bit/s that the tracks want
	twcc    atomic.Bool  // feedback arrived
	heard   atomic.Int64 // when it last did, in ns of Unix time
	remb    atomic.Int64 // bit/s, 0: none
}

func newBandwidth(limits Bitrate, tracks []media.Track, log logging.LoggerFactory) (*bandwidth, error) {
	b := &bandwidth{limits: limits, writers: map[uint32]interceptor.RTPWriter{}}
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
	var err error
	b.bwe, err = gcc.NewSendSideBWE(gcc.SendSideBWEInitialBitrate(b.start()), gcc.SendSideBWEMinBitrate(limits.Min),
		gcc.SendSideBWEMaxBitrate(limits.Max), gcc.SendSideBWEPacer(tap{b.writers}), gcc.WithLoggerFactory(log))
	return b, err
}

func (b *bandwidth) start() int {
	return min(max(int(startFactor*float64(b.media)), b.limits.Min), b.limits.Max)
}

// pace returns the rate for the pacer at an estimate.
func (b *bandwidth) pace(estimate int) int {
	return int(paceFactor * float64(min(estimate, paceLimit*b.media)))
}

// writer returns what the stream's packets go through: the estimate notes when each left.
func (b *bandwidth) writer(w *wire) interceptor.RTPWriter {
	out := interceptor.RTPWriterFunc(func(h *rtp.Header, payload []byte, _ interceptor.Attributes) (int, error) {
		return w.out.WriteRTP(h, payload)
	})
	if w.twcc == 0 {
		return out
	}
	b.bwe.AddStream(&interceptor.StreamInfo{SSRC: w.ssrc, RTPHeaderExtensions: []interceptor.RTPHeaderExtension{
		{URI: sdp.TransportCCURI, ID: int(w.twcc)}}}, out)
	noting := b.writers[w.ssrc]
	attributes := interceptor.Attributes{} // the same for every packet, instead of a new map each
	return interceptor.RTPWriterFunc(func(h *rtp.Header, payload []byte, _ interceptor.Attributes) (int, error) {
		return noting.Write(h, payload, attributes)
	})
}

// feedback takes what the receiver measured.
func (b *bandwidth) feedback(p rtcp.Packet) {
	switch p := p.(type) {
	case *rtcp.TransportLayerCC:
		if b.bwe.WriteRTCP([]rtcp.Packet{p}, nil) == nil {
			b.twcc.Store(true)
			b.heard.Store(time.Now().UnixNano())
		}
	case *rtcp.ReceiverEstimatedMaximumBitrate:
		b.remb.Store(int64(p.Bitrate))
	}
}

// estimate returns bit/s of all that is sent, 0 while the receiver has not said anything.
func (b *bandwidth) estimate() int {
	if b.twcc.Load() {
		return b.bwe.GetTargetBitrate()
	}
	if r := b.remb.Load(); r != 0 {
		return min(max(int(r), b.limits.Min), b.limits.Max)
	}
	return 0
}

func (b *bandwidth) close() { _ = b.bwe.Close() }

// watch turns the estimate into the pacer's rate and into feedback, until ctx ends.
func (b *bandwidth) watch(ctx context.Context, p *pacer, count *counters, tell func(media.Feedback)) {
	tick := time.NewTicker(estimateEvery)
	defer tick.Stop()
	var s share
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-tick.C:
			estimate := b.estimate()
			if b.twcc.Load() && now.UnixNano()-b.heard.Load() > int64(silence) {
				estimate = b.limits.Min // nothing arrives there, or nothing comes back
			}
			count.update(func(d *Detail) { d.Estimate = estimate })
			if estimate == 0 {
				continue
			}
			p.setRate(b.pace(estimate))
			if video := s.video(now, estimate, count.audioBytes.Load(), count.rtxBytes.Load()); video != 0 {
				tell(media.Feedback{Bitrate: max(video, b.limits.Min/2)})
			}
		}
	}
}

// A share finds what an estimate leaves to the video encoder, and decides when that is news.
type share struct {
	audio, rtx   rate
	told         int
	toldAt, seen time.Time
}

// video returns the video encoder's share in bit/s, or 0 when there is nothing to tell: it differs by less than 2 %, and was
// told less than a second ago.
func (s *share) video(now time.Time, estimate int, audioBytes, rtxBytes uint64) int {
	if !s.seen.IsZero() {
		dt := now.Sub(s.seen)
		s.audio.add(audioBytes, dt)
		s.rtx.add(rtxBytes, dt)
	} else {
		s.audio.last, s.rtx.last = audioBytes, rtxBytes
	}
	s.seen = now
	video := int((float64(estimate) - s.audio.value - min(s.rtx.value, float64(estimate)/2)) * (1 - packOverhead))
	video = max(video, 1)
	near := s.told-video <= s.told/50 && video-s.told <= s.told/50
	if near && now.Sub(s.toldAt) < repeatEvery {
		return 0
	}
	s.told, s.toldAt = video, now
	return video
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

// A tap is the pacer that GCC is given. Ours sits before it, so it only collects the writers that note departures.
type tap struct {
	writers map[uint32]interceptor.RTPWriter
}

func (t tap) AddStream(ssrc uint32, w interceptor.RTPWriter) { t.writers[ssrc] = w }
func (t tap) SetTargetBitrate(int)                           {}
func (t tap) Close() error                                   { return nil }
func (t tap) Write(h *rtp.Header, payload []byte, a interceptor.Attributes) (int, error) {
	return t.writers[h.SSRC].Write(h, payload, a)
}
