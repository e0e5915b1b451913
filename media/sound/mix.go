package sound

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
)

// Auto is the mix of any number of channels into two by the usual rules.
const Auto = "auto"

const (
	maxChannels = 64
	minus3dB    = math.Sqrt2 / 2
)

// A Mix says of which input channels each output channel is made. The zero Mix is Auto.
type Mix struct {
	left, right []int // input channels, from 0; none: Auto
}

// ParseMix reads "auto"; one channel for both sides, as "3"; or one for each, as "1,2", where "1+3" is the mean of two. Channels
// count from 1.
func ParseMix(s string) (Mix, error) {
	if s == Auto {
		return Mix{}, nil
	}
	sides := strings.Split(s, ",")
	if len(sides) > 2 {
		return Mix{}, errMix(s)
	}
	var lists [2][]int
	for i, side := range sides {
		for _, text := range strings.Split(side, "+") {
			n, err := strconv.Atoi(strings.TrimSpace(text))
			if err != nil || n < 1 || n > maxChannels {
				return Mix{}, errMix(s)
			}
			lists[i] = append(lists[i], n-1)
		}
	}
	if len(sides) == 1 {
		lists[1] = lists[0]
	}
	return Mix{lists[0], lists[1]}, nil
}

func errMix(s string) error {
	return fmt.Errorf(`%q is not "auto", a channel from 1 to %d for both sides, or one for each, such as "1,2" or "1+3,2+3"`, s, maxChannels)
}

// ErrChannel: the mix names a channel that the sound does not have.
var ErrChannel = errors.New("no such channel")

// A Mixer makes stereo of interleaved sound.
type Mixer struct {
	channels int
	weights  [][2]float32 // of each input channel, to the left and to the right
	plain    bool         // stereo that stays as it is
}

// NewMixer returns a Mixer of sound with the given channels. gain is in dB. It returns ErrChannel where m names more.
func NewMixer(m Mix, channels int, gain float64) (*Mixer, error) {
	w := make([][2]float64, channels)
	if m.left == nil {
		automatic(w)
	} else {
		for side, list := range [2][]int{m.left, m.right} {
			for _, c := range list {
				if c >= channels {
					return nil, fmt.Errorf("channel %d of %d: %w", c+1, channels, ErrChannel)
				}
				w[c][side] += 1 / float64(len(list))
			}
		}
	}
	x := &Mixer{channels: channels, weights: make([][2]float32, channels)}
	factor := math.Pow(10, gain/20)
	for c := range w {
		x.weights[c] = [2]float32{float32(w[c][0] * factor), float32(w[c][1] * factor)}
	}
	x.plain = channels == 2 && x.weights[0] == [2]float32{1, 0} && x.weights[1] == [2]float32{0, 1}
	return x, nil
}

// automatic is mono on both sides, stereo as it is, 5.1 and 7.1 (as FL FR FC LFE BL BR SL SR) by ITU-R BS.775-3 annex 4 made so
// much lower that it cannot clip, and of any other number the first two channels.
func automatic(w [][2]float64) {
	switch len(w) {
	case 0:
	case 1:
		w[0] = [2]float64{1, 1}
	case 6, 8:
		sum := 1 + minus3dB*float64(len(w)/2-1) // front, centre and the channels behind on one side
		w[0], w[1] = [2]float64{1 / sum, 0}, [2]float64{0, 1 / sum}
		w[2] = [2]float64{minus3dB / sum, minus3dB / sum}
		for c := 4; c < len(w); c++ {
			w[c][c%2] = minus3dB / sum
		}
	default:
		w[0], w[1] = [2]float64{1, 0}, [2]float64{0, 1}
	}
}

// Apply returns stereo of src, which it leaves as it is; that may be src itself. Samples beyond full scale are cut off.
func (x *Mixer) Apply(src []float32) []float32 {
	if x.plain {
		return src
	}
	dst := make([]float32, 0, len(src)/max(x.channels, 1)*2)
	for ; len(src) >= x.channels && len(src) > 0; src = src[x.channels:] {
		var l, r float32
		for c, w := range x.weights {
			l += w[0] * src[c]
			r += w[1] * src[c]
		}
		dst = append(dst, min(max(l, -1), 1), min(max(r, -1), 1))
	}
	return dst
}
