//go:build cgo && !nolibav

package libav

import (
	"cmp"
	"fmt"

	"gantry/encoder"
	"gantry/media"
	"gantry/media/h264"
)

var (
	h264Profiles = []string{"baseline", "main", "high"}
	h265Profiles = []string{"main", mainTen}
	// semiplanar is what the chips take; NV16 becomes it line by line.
	semiplanar = []media.FourCC{media.NV12, media.NV16}
	// eight bits are all that these are told to code.
	h265Eight  = []string{"main"}
	qsvPresets = []string{"veryfast", "faster", "fast", "medium", "slow", "slower", "veryslow"}
	nvPresets  = []string{"p1", "p2", "p3", "p4", "p5", "p6", "p7"}
)

// mainTen is H.265's profile of ten bits.
const mainTen = "main10"

// renderNodes are the graphics chips that a program may use without a screen.
const renderNodes = "/dev/dri/renderD*"

// hardware are the encoders in chips. docs/hardware.md says which of them have run, and where. VAAPI takes its own surfaces
// only; the others copy from memory themselves, as fast as an upload would.
var hardware = []coder{
	{name: "h264_nvenc", codec: media.H264, hardware: true, live: always, keepsPictures: true,
		direct: semiplanar, presets: nvPresets, profiles: h264Profiles, options: nvenc},
	{name: "hevc_nvenc", codec: media.H265, hardware: true, live: always, keepsPictures: true,
		direct: semiplanar, ten: semiplanar10, presets: nvPresets, profiles: h265Profiles, options: nvenc},
	{name: "h264_qsv", codec: media.H264, hardware: true, live: ffmpeg7_1, keepsPictures: true, node: renderNodes,
		direct: semiplanar, presets: qsvPresets, profiles: h264Profiles, options: qsv},
	{name: "hevc_qsv", codec: media.H265, hardware: true, live: ffmpeg7_1, keepsPictures: true, node: renderNodes,
		direct: semiplanar, ten: semiplanar10, presets: qsvPresets, profiles: h265Profiles, options: qsv},
	{name: "h264_vaapi", codec: media.H264, hardware: true, live: never, device: "vaapi", node: renderNodes,
		direct: semiplanar, profiles: h264Profiles, options: vaapi},
	{name: "hevc_vaapi", codec: media.H265, hardware: true, live: never, device: "vaapi", node: renderNodes,
		direct: semiplanar, ten: semiplanar10, profiles: h265Profiles, options: vaapi},
	{name: "h264_rkmpp", codec: media.H264, hardware: true, live: never, keepsPictures: true, node: "/dev/mpp_service",
		direct: semiplanar, profiles: h264Profiles, options: rkmpp},
	{name: "hevc_rkmpp", codec: media.H265, hardware: true, live: never, keepsPictures: true, node: "/dev/mpp_service",
		direct: semiplanar, profiles: h265Eight, options: rkmpp},
	{name: "h264_v4l2m2m", codec: media.H264, hardware: true, live: never, keepsPictures: true, node: "/dev/video*",
		direct: semiplanar, profiles: h264Profiles, options: v4l2m2m},
	{name: "hevc_v4l2m2m", codec: media.H265, hardware: true, live: never, keepsPictures: true, node: "/dev/video*",
		direct: semiplanar, profiles: h265Eight, options: v4l2m2m},
}

// profiled returns the options for profile and level: names tells how the encoder spells a profile where it differs from
// Params. For H.265 the encoders choose the level themselves.
func profiled(p encoder.Params, rate media.Rational, names map[string]string) []option {
	if p.Codec == media.H265 {
		return []option{{"profile", cmp.Or(p.Profile, "main")}}
	}
	profile := cmp.Or(p.Profile, "baseline")
	return []option{
		{"profile", cmp.Or(names[profile], profile)},
		{"level", fmt.Sprint(h264.Level(p.Width, p.Height, rate.Float(), p.Bitrate))},
	}
}

// nvenc: ultra low latency means that a picture comes out before the next goes in.
func nvenc(p encoder.Params, rate media.Rational) []option {
	return append(profiled(p, rate, nil), []option{
		{"preset", cmp.Or(p.Preset, "p4")},
		{"tune", "ull"},
		{"rc", "cbr"},
		{"delay", "0"},
		{"zerolatency", "1"},
		{"rc-lookahead", "0"},
		{"forced-idr", "1"},
		{"g", fmt.Sprint(unlimited)},
	}...)
}

// qsv: the distance between key frames has 16 bits there; its largest is half an hour.
func qsv(p encoder.Params, rate media.Rational) []option {
	return append(profiled(p, rate, nil), []option{
		{"preset", cmp.Or(p.Preset, "veryfast")},
		{"async_depth", "1"},
		{"forced_idr", "1"},
		{"g", "65535"},
	}...)
}

// vaapi makes an IDR picture of each that is asked for as intra.
func vaapi(p encoder.Params, rate media.Rational) []option {
	return append(profiled(p, rate, map[string]string{"baseline": "constrained_baseline"}), []option{
		{"async_depth", "1"},
		{"g", fmt.Sprint(unlimited)},
	}...)
}

// rkmpp is in FFmpegs for Rockchip's chips only.
func rkmpp(p encoder.Params, rate media.Rational) []option {
	return append(profiled(p, rate, nil), option{"rc_mode", "CBR"}, option{"g", fmt.Sprint(unlimited)})
}

// v4l2m2m takes profiles by FFmpeg's numbers and has no level. encoder/m2m drives the same chips with more control.
func v4l2m2m(p encoder.Params, _ media.Rational) []option {
	options := []option{{"g", fmt.Sprint(unlimited)}}
	if p.Codec == media.H264 {
		numbers := map[string]string{"baseline": "578", "main": "77", "high": "100"} // 578: constrained
		options = append(options, option{"profile", numbers[cmp.Or(p.Profile, "baseline")]})
	}
	return options
}
