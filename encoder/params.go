package encoder

import (
	"errors"
	"fmt"
	"time"

	"gantry/media"
)

// Sizes and rates that an Encoder can be asked for.
const (
	minSide, maxSide       = 16, 8192
	minBitrate, maxBitrate = 16_000, 1_000_000_000
	maxThreads             = 64
)

// Resolve returns p with what it leaves open filled in for pictures of format in, and the size made even: 4:2:0 chroma has
// no half samples, so an odd picture loses its last column or line. It tells all that cannot be at once.
func (p Params) Resolve(in media.VideoFormat) (Params, error) {
	if p.Width == 0 {
		p.Width = in.Width
	}
	if p.Height == 0 {
		p.Height = in.Height
	}
	p.Width &^= 1
	p.Height &^= 1
	var errs []error
	if in.Width < minSide || in.Height < minSide || in.Width > maxSide || in.Height > maxSide {
		errs = append(errs, fmt.Errorf("pictures of %dx%d: each side must be %d to %d", in.Width, in.Height, minSide, maxSide))
	}
	if p.Width < minSide || p.Height < minSide || p.Width > maxSide || p.Height > maxSide {
		errs = append(errs, fmt.Errorf("size %dx%d: each side must be %d to %d", p.Width, p.Height, minSide, maxSide))
	}
	if in.Field != media.Progressive {
		errs = append(errs, errors.New("interlaced pictures must be deinterlaced first"))
	}
	if p.Bitrate < minBitrate || p.Bitrate > maxBitrate {
		errs = append(errs, fmt.Errorf("bitrate %d: must be %d to %d bit/s", p.Bitrate, minBitrate, maxBitrate))
	}
	if p.GOP < 0 {
		errs = append(errs, fmt.Errorf("gop %v: must not be negative", p.GOP))
	}
	if p.Threads < 0 || p.Threads > maxThreads {
		errs = append(errs, fmt.Errorf("threads %d: must be 0 to %d", p.Threads, maxThreads))
	}
	switch p.Profile {
	case "", "baseline", "main", "high", "main10":
	default:
		errs = append(errs, fmt.Errorf("profile %q: must be baseline, main or high, or for H.265 main or main10", p.Profile))
	}
	return p, errors.Join(errs...)
}

// Live tells whether changing from p to q needs no new Encoder by the contract: all but bitrate and GOP are the same.
func (p Params) Live(q Params) bool {
	p.Bitrate, p.GOP = q.Bitrate, q.GOP
	return p == q
}

// A KeyTimer decides which pictures become key frames: the first, each that somebody asks for, and one when the GOP is over.
// Counting in media time keeps the distance right when the source's rate is not what it said.
type KeyTimer struct {
	GOP      time.Duration // 0: only on demand
	Interval time.Duration // between pictures, to hit the nearest one
	last     time.Duration
	started  bool
}

// Key takes the next picture's PTS and tells whether to code it as a key frame.
func (k *KeyTimer) Key(pts time.Duration, asked bool) bool {
	due := !k.started || asked || k.GOP > 0 && pts-k.last >= k.GOP-k.Interval/2
	if due || pts < k.last { // a clock that jumped back must not hold the next key frame off
		k.last, k.started = pts, true
	}
	return due
}
