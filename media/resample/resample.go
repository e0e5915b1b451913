package resample

import (
	"fmt"
	"math"
)

const (
	lobes  = 32   // zero crossings of the sinc on each side
	phases = 512  // rows of the table between two input frames; what lies between is interpolated
	beta   = 10.0 // of the Kaiser window: about 100 dB of stop band
)

// A Resampler converts interleaved sound by a windowed sinc. One goroutine uses it.
//
// Its pass band reaches to 90 % of half of the lower rate. An output frame depends on 32 input frames on each side of it, more
// where the rate is lowered: that much later it comes, and PTS are those of its place, so nothing is to be corrected.
type Resampler struct {
	Cursor
	channels int
	taps     int       // a row's length, even
	table    []float32 // phases+1 rows
	held     []float32 // input frames that are still needed
	row      []float32
}

// New returns a Resampler of sound with the given channels from the rate in to the rate out, in Hz.
func New(channels, in, out int) (*Resampler, error) {
	if channels < 1 || in < 1 || out < 1 || in > 64*out || out > 64*in {
		return nil, fmt.Errorf("resample %d channels from %d to %d Hz: not from 1/64 to 64 times", channels, in, out)
	}
	scale := min(1, float64(out)/float64(in))
	half := int(math.Ceil(lobes / scale))
	r := &Resampler{channels: channels, taps: 2 * half, row: make([]float32, 2*half)}
	r.reach, r.step = half, float64(in)/float64(out)
	r.table = kernel(half, 0.95*scale)
	r.Restart()
	return r, nil
}

// kernel returns the rows of a sinc that passes up to cut times half of the input's rate.
func kernel(half int, cut float64) []float32 {
	taps := 2 * half
	table := make([]float32, (phases+1)*taps)
	for p := range phases + 1 {
		row := table[p*taps : (p+1)*taps]
		sum := 0.0
		weights := make([]float64, taps)
		for i := range row {
			x := float64(i-half+1) - float64(p)/phases // from the output's place to the input frame
			w := x / float64(half)
			if math.Abs(w) < 1 {
				weights[i] = cut * sinc(cut*x) * bessel(beta*math.Sqrt(1-w*w)) / bessel(beta)
			}
			sum += weights[i]
		}
		for i := range row {
			row[i] = float32(weights[i] / sum) // silence and full scale stay what they are
		}
	}
	return table
}

func sinc(x float64) float64 {
	if x == 0 {
		return 1
	}
	return math.Sin(math.Pi*x) / (math.Pi * x)
}

// bessel is the modified Bessel function of the first kind, order zero.
func bessel(x float64) float64 {
	sum, term := 1.0, 1.0
	for k := 1.0; term > 1e-12*sum; k++ {
		term *= (x / (2 * k)) * (x / (2 * k))
		sum += term
	}
	return sum
}

// Restart forgets what was held: the next input frame is the first of a new line, with silence before it.
func (r *Resampler) Restart() {
	r.restart()
	r.held = append(r.held[:0], make([]float32, (r.reach-1)*r.channels)...)
}

// Process appends what src completes to dst and returns that. src is lent; its length is a multiple of the channels.
func (r *Resampler) Process(dst, src []float32) []float32 {
	before := r.whole
	part, step := r.part, r.step
	r.held = append(r.held, src...)
	n := r.Feed(len(src) / r.channels)
	for i := range n {
		at := part + float64(i)*step
		whole := math.Floor(at)
		r.weigh(at - whole)
		dst = r.sum(dst, r.held[int(whole)*r.channels:])
	}
	// Frame 0 of held is that with the number before-reach+1.
	used := min(int(r.whole-before)*r.channels, len(r.held))
	r.held = r.held[:copy(r.held, r.held[used:])]
	return dst
}

// weigh sets the row for a place between two input frames.
func (r *Resampler) weigh(part float64) {
	x := part * phases
	p := int(x)
	t := float32(x - float64(p))
	low := r.table[p*r.taps:][:r.taps]
	high := r.table[(p+1)*r.taps:][:r.taps]
	row := r.row[:r.taps]
	for i := range row {
		row[i] = low[i] + t*(high[i]-low[i])
	}
}

func (r *Resampler) sum(dst, in []float32) []float32 {
	row := r.row
	switch r.channels {
	case 1:
		var a float32
		for i, s := range in[:len(row)] {
			a += s * row[i]
		}
		return append(dst, a)
	case 2:
		var a, b float32
		in = in[:2*len(row)]
		for i, w := range row {
			a += w * in[2*i]
			b += w * in[2*i+1]
		}
		return append(dst, a, b)
	}
	for c := range r.channels {
		var a float32
		for i, w := range row {
			a += w * in[i*r.channels+c]
		}
		dst = append(dst, a)
	}
	return dst
}
