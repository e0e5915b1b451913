//go:build cgo && !nolibav

package libav

// #include <libavutil/pixfmt.h>
import "C"

import (
	"cmp"
	"context"
	"fmt"
	"strings"

	"gantry/encoder"
	"gantry/media"
	"gantry/media/h264"
)

// A coder is one of FFmpeg's encoders, made fit for live use.
type coder struct {
	name     string
	codec    media.Codec
	hardware bool
	// device is the FFmpeg device whose surfaces the encoder takes, to which pictures are uploaded; empty: it takes memory.
	device string
	// node is where the chip's device files are, to say so when there are none.
	node string
	// live tells from which libavcodec on the encoder follows a new bitrate while running. Measured, or read in its source;
	// not believed: several take it and do nothing.
	live version
	// least is the first libavcodec with which the encoder is of use, and lacks what it cannot do before.
	least version
	lacks string
	// keepsPictures: the encoder may refer to a picture after avcodec_send_frame has returned, so it needs a copy.
	keepsPictures bool
	// wakes: freeing it before it has had a picture hangs.
	wakes bool
	// direct are the layouts that the encoder takes as they are; the rest is converted to the first.
	direct []media.FourCC
	// ten is the AVPixelFormat that pictures of ten bits go in as; 0: it codes eight bits only, to which the others are reduced.
	ten      C.int
	presets  []string // names that Params.Preset may have
	profiles []string // and Params.Profile
	options  func(encoder.Params, media.Rational) []option
}

// A version is libavcodec's, as AV_VERSION_INT packs it.
type version uint32

const (
	always    version = 1
	never     version = 1<<32 - 1
	ffmpeg7_1 version = 61<<16 | 19<<8 | 100
)

type option struct{ key, value string }

var x26xPresets = []string{
	"ultrafast", "superfast", "veryfast", "faster", "fast", "medium", "slow", "slower", "veryslow",
}

// coders is every encoder that this package can drive; which of them exist depends on the FFmpeg that it runs with. The best of
// a kind come first.
var coders = append([]coder{
	{name: "libx264", codec: media.H264, live: always, direct: []media.FourCC{media.YU12, media.NV12, media.NV16},
		presets: x26xPresets, profiles: []string{"baseline", "main", "high"}, options: x264},
	{name: "libx265", codec: media.H265, live: never, direct: []media.FourCC{media.YU12}, ten: planar10,
		presets: x26xPresets, profiles: h265Profiles, options: x265},
	{name: "libsvtav1", codec: media.AV1, live: never, least: ffmpeg7_1, lacks: "makes no key frames on demand", wakes: true,
		keepsPictures: true, direct: []media.FourCC{media.YU12}, ten: planar10,
		presets: []string{"6", "7", "8", "9", "10", "11", "12", "13"}, profiles: []string{"main"}, options: svtav1},
}, hardware...)

// inputs is what swscale and the encoders take together, the cheapest first.
var inputs = []media.FourCC{
	media.YU12, media.NV12, media.YUYV, media.UYVY, media.NV16, media.NV24, media.RGB3, media.BGR3, media.P010, media.Y210,
}

// Backends returns the encoders that this build can drive. Open says ErrUnavailable for those that the installed FFmpeg lacks.
func Backends() []encoder.Backend {
	var all []encoder.Backend
	for i := range coders {
		co := &coders[i]
		all = append(all, encoder.Backend{
			Name: co.name, Codec: co.codec, Hardware: co.hardware, Inputs: inputs,
			Open: func(_ context.Context, in media.VideoFormat, p encoder.Params) (encoder.Encoder, error) {
				return open(co, in, p)
			},
		})
	}
	return all
}

func lines(options []option) string {
	var b strings.Builder
	for _, o := range options {
		b.WriteString(o.key + "=" + o.value + "\n")
	}
	return b.String()
}

// x264 returns libx264's options. tune=zerolatency alone would cut each picture into as many slices as there are threads,
// and scene cuts would become key frames that nobody asked for.
func x264(p encoder.Params, rate media.Rational) []option {
	preset, profile := p.Preset, p.Profile
	if preset == "" {
		preset = "superfast"
	}
	if profile == "" {
		profile = "baseline" // x264's is the constrained one, which browsers decode everywhere
	}
	return []option{
		{"preset", preset},
		{"tune", "zerolatency"},
		{"profile", profile},
		{"level", fmt.Sprint(h264.Level(p.Width, p.Height, rate.Float(), p.Bitrate))},
		{"g", fmt.Sprint(unlimited)},
		{"forced-idr", "1"},
		{"sc_threshold", "0"},
		{"x264-params", "sliced-threads=0:sync-lookahead=0:rc-lookahead=0"},
	}
}

// x265 returns libx265's options. It codes a picture's lines in parallel, still as one slice; pictures in parallel would wait
// for each other.
func x265(p encoder.Params, _ media.Rational) []option {
	preset := p.Preset
	if preset == "" {
		preset = "ultrafast"
	}
	params := "log-level=error:frame-threads=1:bframes=0:scenecut=0:keyint=-1:open-gop=0"
	if p.Threads > 0 {
		params += fmt.Sprintf(":pools=%d", p.Threads)
	}
	return []option{
		{"preset", preset},
		{"tune", "zerolatency"},
		{"profile", cmp.Or(p.Profile, "main")},
		{"g", fmt.Sprint(unlimited)},
		{"forced-idr", "1"},
		{"x265-params", params},
	}
}

// svtav1 returns libsvtav1's options: low delay, without look-ahead, at a constant bitrate, which takes no peak.
func svtav1(p encoder.Params, _ media.Rational) []option {
	preset := p.Preset
	if preset == "" {
		preset = "12"
	}
	params := "pred-struct=1:lookahead=0:scd=0:rc=2"
	if p.Threads > 0 {
		params += fmt.Sprintf(":lp=%d", p.Threads)
	}
	return []option{{"preset", preset}, {"g", fmt.Sprint(unlimited)}, {"maxrate", "0"}, {"svtav1-params", params}}
}
