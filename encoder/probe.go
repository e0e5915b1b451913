package encoder

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"

	"gantry/media"
)

const (
	// probeFrames is how many pictures a trial codes.
	probeFrames = 30
	// probeTime bounds one trial: an encoder that hangs is no encoder.
	probeTime = 20 * time.Second
	// probeGrace is what a trial may take to end once it should.
	probeGrace = 2 * time.Second
	// probePSNR is what a decoded picture must have in dB: an encoder that works is far above, a broken one far below.
	probePSNR = 22
	// probeNoise is the grain of the pictures, as a good camera's.
	probeNoise = 3
)

// A Decoder turns access units back into pictures, for the probe to look at.
type Decoder interface {
	Decode(p *media.Packet) ([]*media.Frame, error)
	Close() error
}

// A Trial is what the probe wants of each encoder.
type Trial struct {
	Format media.VideoFormat // of the source
	Params Params            // Codec NoCodec: any
	// Decoder opens a decoder to compare what comes out with what went in; nil leaves that out.
	Decoder func(media.Codec) (Decoder, error)
}

// A Result is what the probe found out about one encoder.
type Result struct {
	Encoder    string  `json:"encoder"`
	Codec      string  `json:"codec"`
	Hardware   bool    `json:"hardware"`
	OK         bool    `json:"ok"`
	Reason     string  `json:"reason,omitempty"` // why it is not OK
	FPS        float64 `json:"fps,omitempty"`    // pictures per second
	FPSPerCore float64 `json:"fps_per_core,omitempty"`
	PSNR       float64 `json:"psnr_db,omitempty"` // of the worst picture's luma; 0: not compared
	Bitrate    int     `json:"bitrate,omitempty"` // bit/s that came out
	Profile    string  `json:"profile,omitempty"`
	Delay      float64 `json:"delay_ms,omitempty"`     // from a picture's going in to its coming out, on average
	KeyDelay   float64 `json:"key_delay_ms,omitempty"` // the same for a key frame that was asked for

	slow bool // the only thing against it
}

// Probe tries each backend that codes what t wants, one after the other, and returns the results in rank: those that pass
// first, then those that are only too slow, the fastest of them first; hardware before software, else as given. It takes about
// a second per software encoder.
func Probe(ctx context.Context, backends []Backend, t Trial) []Result {
	results := make([]Result, 0, len(backends))
	for _, b := range wanted(backends, t) {
		results = append(results, t.try(ctx, b))
	}
	sortResults(results)
	return results
}

func sortResults(results []Result) {
	slices.SortStableFunc(results, func(a, b Result) int {
		if a.slow && b.slow {
			return cmp.Compare(b.speed(), a.speed())
		}
		return cmp.Or(-compare(a.OK, b.OK), -compare(a.slow, b.slow), -compare(a.Hardware, b.Hardware))
	})
}

// Rank is Probe, and returns in rank the backends that work, be it too slowly. It returns ErrUnavailable when none does.
func Rank(ctx context.Context, backends []Backend, t Trial) ([]Backend, []Result, error) {
	return rank(ctx, backends, t, Probe(ctx, backends, t))
}

// First is Rank that stops at the first backend that passes, so that something proven can go on the air soon: it returns that one,
// what it found out, and the backends left to try, which Rank would put after it. Where none passes, nothing is left.
func First(ctx context.Context, backends []Backend, t Trial) (ranked, left []Backend, results []Result, err error) {
	list := wanted(backends, t)
	for i, b := range list {
		r := t.try(ctx, b)
		results = append(results, r)
		if r.OK {
			return []Backend{b}, list[i+1:], results, ctx.Err()
		}
	}
	sortResults(results)
	ranked, results, err = rank(ctx, backends, t, results)
	return ranked, nil, results, err
}

func rank(ctx context.Context, backends []Backend, t Trial, results []Result) ([]Backend, []Result, error) {
	var ranked []Backend
	for _, r := range results {
		if !r.OK && !r.slow {
			continue
		}
		i := slices.IndexFunc(backends, func(b Backend) bool { return b.Name == r.Encoder && b.Codec.String() == r.Codec })
		ranked = append(ranked, backends[i])
	}
	if err := ctx.Err(); err != nil {
		return nil, results, err
	}
	if len(ranked) == 0 {
		return nil, results, fmt.Errorf("choose an encoder for %v: %w", t.Format, unavailable(results))
	}
	return ranked, results, nil
}

// speed is pictures per second: a core's worth counts, not what a busy machine lets through at the moment.
func (r Result) speed() float64 { return max(r.FPS, r.FPSPerCore) }

func unavailable(results []Result) error {
	if len(results) == 0 {
		return fmt.Errorf("%w: this build has none for it", ErrUnavailable)
	}
	var why []string
	for _, r := range results {
		why = append(why, r.Encoder+": "+r.Reason)
	}
	return fmt.Errorf("%w: %s", ErrUnavailable, strings.Join(why, "; "))
}

// wanted returns the backends for t's codec, hardware first.
func wanted(backends []Backend, t Trial) []Backend {
	var some []Backend
	for _, b := range backends {
		if t.Params.Codec == media.NoCodec || b.Codec == t.Params.Codec {
			some = append(some, b)
		}
	}
	slices.SortStableFunc(some, func(a, b Backend) int { return -compare(a.Hardware, b.Hardware) })
	return some
}

func compare(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return 1
	}
	return -1
}

// Table writes results as text, one encoder a line.
func Table(w io.Writer, results []Result) error {
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tw, "ENCODER\tCODEC\tKIND\tFPS\tFPS/CORE\tPSNR\tDELAY ms\tKEY ms\tRESULT")
	for _, r := range results {
		kind, result := "software", "ok"
		if r.Hardware {
			kind = "hardware"
		}
		if !r.OK {
			result = r.Reason
		}
		fmt.Fprintf(tw, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", r.Encoder, r.Codec, kind, figure(r.FPS), figure(r.FPSPerCore),
			figure(r.PSNR), figure(r.Delay), figure(r.KeyDelay), result)
	}
	return tw.Flush()
}

func figure(v float64) string {
	if v == 0 {
		return "-"
	}
	return fmt.Sprintf("%.0f", v)
}

// try runs one encoder.
func (t Trial) try(ctx context.Context, b Backend) Result {
	r := Result{Encoder: b.Name, Codec: b.Codec.String(), Hardware: b.Hardware}
	ctx, cancel := context.WithTimeout(ctx, probeTime)
	defer cancel()
	switch err := t.bounded(ctx, b, &r); {
	case err == nil:
		r.OK = true
	case errors.Is(err, context.DeadlineExceeded):
		r.Reason = fmt.Sprintf("stuck: not done within %v", probeTime)
	default:
		r.Reason = strings.ReplaceAll(err.Error(), "\n", "; ")
		r.slow = errors.Is(err, errSlow)
	}
	return r
}

var errSlow = errors.New("too slow")

// bounded is run, but an encoder that hangs in its library, where no context reaches it, is left behind with what it holds.
func (t Trial) bounded(ctx context.Context, b Backend, r *Result) error {
	found, done := *r, make(chan error, 1)
	go func() { done <- t.run(ctx, b, &found) }()
	select {
	case err := <-done:
		*r = found
		return err
	case <-ctx.Done():
	}
	grace := time.NewTimer(probeGrace)
	defer grace.Stop()
	select {
	case err := <-done:
		*r = found
		return err
	case <-grace.C:
		return errors.New("stuck: it does not return from a call")
	}
}

// run codes the pictures, then checks what came out.
func (t Trial) run(ctx context.Context, b Backend, r *Result) error {
	const frames, askAt = probeFrames, probeFrames * 2 / 3
	p := t.Params
	p.Codec = b.Codec
	in := t.Format
	if in.Rate.Num <= 0 || in.Rate.Den <= 0 {
		in.Rate = media.Rational{Num: 30, Den: 1}
	}
	if !slices.Contains(b.Inputs, in.FourCC) {
		return fmt.Errorf("takes no %v pictures", in.FourCC)
	}
	e, err := b.Open(ctx, in, p) // first: most are refused, and need no pictures
	if err != nil {
		return err
	}
	scene, err := drawScene(in, 8)
	if err != nil {
		return errors.Join(err, e.Close())
	}
	defer scene.release()
	wall, cpu := time.Now(), processTime()
	packets, delays, err := code(ctx, e, scene, frames, askAt)
	if err != nil {
		return err
	}
	took, used := time.Since(wall).Seconds(), (processTime() - cpu).Seconds()
	r.FPS = float64(frames) / took
	if used > 0 && !b.Hardware {
		r.FPSPerCore = float64(frames) / used
	}
	r.Profile = e.Track().Profile
	if err := checkPackets(packets, scene, frames, askAt); err != nil {
		return err
	}
	size, delay := 0, time.Duration(0)
	for n, p := range packets {
		size += 8 * len(p.Data)
		delay += delays[n] / frames
	}
	r.Delay, r.KeyDelay = 1e3*delay.Seconds(), 1e3*delays[askAt].Seconds()
	r.Bitrate = int(float64(size) / float64(frames) * in.Rate.Float())
	if t.Decoder != nil {
		if r.PSNR, err = t.watch(b, e.Track(), packets, scene); err != nil {
			return err
		}
	}
	if fps := r.speed(); fps < in.Rate.Float() {
		return fmt.Errorf("%w: %.0f pictures per second of %v", errSlow, fps, in.Rate)
	}
	return nil
}

// A scene is the probe's pictures, drawn before the clock runs.
type scene struct {
	format media.VideoFormat
	frames []*media.Frame
}

func drawScene(in media.VideoFormat, n int) (s scene, err error) {
	if planes, _ := in.Packed(); planes == nil {
		return s, fmt.Errorf("cannot draw %v pictures", in.FourCC)
	}
	pool := media.NewPool(in, n)
	s.format = in
	for i := range n {
		f := pool.Get()
		s.frames = append(s.frames, f)
		if err := DrawPattern(f, i, probeNoise); err != nil {
			s.release()
			return s, err
		}
	}
	return s, nil
}

func (s scene) release() {
	for _, f := range s.frames {
		f.Release()
	}
}

// at is which of the drawn pictures is number n of the stream: forth and back, so that it moves without a jump.
func (s scene) at(n int) int {
	last := len(s.frames) - 1
	if last == 0 {
		return 0
	}
	if n %= 2 * last; n > last {
		n = 2*last - n
	}
	return n
}

func (s scene) pts(n int) time.Duration { return time.Hour + time.Duration(n)*s.format.Rate.Interval() }

// code encodes frames pictures, asking for a key frame at askAt, closes e and returns all packets, with how long after its
// picture went in the n-th came out.
func code(ctx context.Context, e Encoder, s scene, frames, askAt int) ([]*media.Packet, []time.Duration, error) {
	type outcome struct {
		packets []*media.Packet
		times   []time.Time
		err     error
	}
	done := make(chan outcome, 1)
	go func() { // waited for below
		var o outcome
		for o.err == nil {
			var p *media.Packet
			if p, o.err = e.Read(ctx); o.err == nil {
				o.packets, o.times = append(o.packets, p), append(o.times, time.Now())
			}
		}
		done <- o
	}()
	var err error
	var sent []time.Time
	for n := 0; n < frames && err == nil; n++ {
		drawn := s.frames[s.at(n)]
		// The same pixels come again at another time: a Frame's fields are not written once it has been handed on.
		f := media.NewFrame(drawn.Format, drawn.Planes, again{drawn})
		f.PTS, f.Seq, f.Slot = s.pts(n), uint32(n), drawn.Slot
		sent = append(sent, time.Now())
		err = e.Encode(ctx, f, n == askAt)
		f.Release()
	}
	closeErr := e.Close()
	o := <-done
	if o.err == io.EOF {
		o.err = nil
	}
	delays := make([]time.Duration, min(len(sent), len(o.times)))
	for n := range delays {
		delays[n] = o.times[n].Sub(sent[n])
	}
	return o.packets, delays, cmp.Or(err, closeErr, o.err)
}

// again is the memory of a Frame that shows another's pixels.
type again struct{ drawn *media.Frame }

func (a again) CPU(_ *media.Frame, fn func([][]byte) error) error { return a.drawn.CPU(fn) }
func (again) Release(*media.Frame)                                {}

func checkPackets(packets []*media.Packet, s scene, frames, askAt int) error {
	if len(packets) != frames {
		return fmt.Errorf("%d access units of %d pictures", len(packets), frames)
	}
	for n, p := range packets {
		switch {
		case p.PTS != s.pts(n):
			return fmt.Errorf("picture %d came out of order or with another time", n)
		case n == 0 && !p.Key:
			return errors.New("the first picture is no key frame")
		case n == askAt && !p.Key:
			late := slices.IndexFunc(packets[n:], func(p *media.Packet) bool { return p.Key })
			if late > 0 {
				return fmt.Errorf("a key frame comes %d pictures after it was asked for", late)
			}
			return errors.New("no key frame where one was asked for")
		}
	}
	return nil
}

// watch decodes the packets and returns the PSNR of the worst picture where it can be compared.
func (t Trial) watch(b Backend, track media.Track, packets []*media.Packet, s scene) (float64, error) {
	d, err := t.Decoder(b.Codec)
	if err != nil {
		return 0, err
	}
	defer d.Close()
	worst, n := math.Inf(1), 0
	for _, p := range packets {
		frames, err := d.Decode(p)
		if err != nil {
			return 0, fmt.Errorf("its output does not decode: %w", err)
		}
		for _, f := range frames {
			if f.Format.Width != track.Width || f.Format.Height != track.Height {
				err = fmt.Errorf("its pictures decode to %dx%d", f.Format.Width, f.Format.Height)
			} else if psnr := lumaPSNR(f, s.frames[s.at(n)]); err == nil && psnr > 0 {
				worst = min(worst, psnr)
			}
			f.Release()
			n++
		}
		if err != nil {
			return 0, err
		}
	}
	switch {
	case n == 0:
		return 0, errors.New("its output decodes to no picture")
	case math.IsInf(worst, 1):
		return 0, nil
	case worst < probePSNR:
		return worst, fmt.Errorf("its pictures are not those that went in: %.0f dB", worst)
	}
	return worst, nil
}

// lumaPSNR compares luma in dB, 0 when the layouts or sizes do not allow it.
func lumaPSNR(got, want *media.Frame) float64 {
	var psnr float64
	_ = got.CPU(func(g [][]byte) error {
		return want.CPU(func(w [][]byte) error {
			psnr = compareLuma(got, want, g[0], w[0])
			return nil
		})
	})
	return psnr
}

// A grid is where the luma of a layout lies in its first plane, in bytes; of ten bits, the upper eight.
type grid struct{ step, offset int }

var grids = map[media.FourCC]grid{
	media.YU12: {1, 0}, media.NV12: {1, 0}, media.NV16: {1, 0}, media.NV24: {1, 0}, media.YUYV: {2, 0}, media.UYVY: {2, 1},
	media.P010: {2, 1}, media.Y210: {4, 1},
}

func compareLuma(got, want *media.Frame, g, w []byte) float64 {
	from, ok := grids[want.Format.FourCC]
	to, known := grids[got.Format.FourCC]
	width, height := want.Format.Width&^1, want.Format.Height&^1
	if !ok || !known || got.Format.Width != width || got.Format.Height != height {
		return 0
	}
	var sum uint64
	for y := range height {
		a, b := g[y*got.Planes[0].Stride:], w[y*want.Planes[0].Stride:]
		for x := range width {
			d := int(a[x*to.step+to.offset]) - int(b[x*from.step+from.offset])
			sum += uint64(d * d)
		}
	}
	if sum == 0 {
		return 100
	}
	return 10 * math.Log10(255*255*float64(width*height)/float64(sum))
}

// processTime is the CPU time that this process has used.
func processTime() time.Duration {
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
