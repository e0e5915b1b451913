package m2m

import (
	"fmt"

	"gantry/encoder"
	"gantry/internal/v4l2/uapi"
	"gantry/media"
	"gantry/media/h264"
)

// A coding is what a coded format needs to be known of.
type coding struct {
	codec  media.Codec
	fourcc media.FourCC
	// key tells whether decoding can begin with an access unit whose buffer's flag does not say so.
	key func(au []byte) bool
	// complete returns a key frame with the parameter sets that a decoder needs; it learns them from what comes by.
	complete func() func(au []byte, key bool) []byte
	// settings sets the controls for profile and level, as far as the driver has them, and returns the Track's Profile.
	settings func(c controls, in media.VideoFormat, p encoder.Params) (string, error)
	rated    bool // an encoder that cannot be given a bitrate is of no use
}

var (
	codedH264 = media.NewFourCC("H264")
	codedHEVC = media.NewFourCC("HEVC")
)

var h264Coding = coding{codec: media.H264, fourcc: codedH264, key: h264.HasIDR, complete: completeH264, settings: h264Settings, rated: true}

var h265Coding = coding{codec: media.H265, fourcc: codedHEVC, key: h265Key, complete: completeH265, settings: h265Settings, rated: true}

func completeH264() func([]byte, bool) []byte {
	var sets h264.ParameterSets
	return func(au []byte, key bool) []byte {
		sets.Learn(au)
		if key {
			return sets.Ensure(au)
		}
		return au
	}
}

// NAL unit types of H.265 (table 7-1).
const (
	h265FirstIRAP = 16
	h265LastIRAP  = 21
	h265VPS       = 32
	h265PPS       = 34
)

func h265Type(nalu []byte) int {
	if len(nalu) == 0 {
		return -1
	}
	return int(nalu[0] >> 1 & 63)
}

func h265Key(au []byte) bool {
	for nalu := range h264.NALUs(au) { // the framing of Annex B is the same
		if t := h265Type(nalu); t >= h265FirstIRAP && t <= h265LastIRAP {
			return true
		}
	}
	return false
}

// completeH265 keeps the parameter sets that came last and puts them before key frames without.
func completeH265() func([]byte, bool) []byte {
	var sets []byte
	return func(au []byte, key bool) []byte {
		var own []byte
		for nalu := range h264.NALUs(au) {
			if t := h265Type(nalu); t >= h265VPS && t <= h265PPS {
				own = h264.Append(own, nalu)
			}
		}
		if own != nil {
			sets = own
			return au
		}
		if key {
			return append(append(make([]byte, 0, len(sets)+len(au)), sets...), au...)
		}
		return au
	}
}

// h264Settings chooses profile and level from the driver's menus.
func h264Settings(c controls, in media.VideoFormat, p encoder.Params) (string, error) {
	const baseline, constrained, main, high = 0, 1, 2, 4 // V4L2_MPEG_VIDEO_H264_PROFILE_*
	var profiles []int64
	switch p.Profile {
	case "", "baseline":
		profiles = []int64{constrained, baseline}
	case "main":
		profiles = []int64{main}
	case "high":
		profiles = []int64{high}
	}
	if p.Profile == "" {
		profiles = append(profiles, main, high)
	}
	profile, err := choose(c, uapi.CIDH264Profile, "profile "+p.Profile, p.Profile != "", profiles...)
	if err != nil {
		return "", err
	}
	// V4L2_MPEG_VIDEO_H264_LEVEL_* counts 1.0, 1b, 1.1 and so on: 3.1 is 9.
	levels := []uint8{10, 9, 11, 12, 13, 20, 21, 22, 30, 31, 32, 40, 41, 42, 50, 51, 52, 60, 61, 62}
	want := h264.Level(in.Width, in.Height, in.Rate.Float(), p.Bitrate)
	var values []int64
	for i, idc := range levels {
		if idc >= want {
			values = append(values, int64(i))
		}
	}
	level, err := choose(c, uapi.CIDH264Level, "level", false, values...)
	if err != nil || profile < 0 || level < 0 {
		return "", err // the stream says
	}
	idc := map[int64]string{baseline: "4200", constrained: "42e0", main: "4d00", high: "6400"}[profile]
	return fmt.Sprintf("%s%02x", idc, levels[level]), nil
}

func h265Settings(c controls, in media.VideoFormat, p encoder.Params) (string, error) {
	const main, main10 = 0, 2 // V4L2_MPEG_VIDEO_HEVC_PROFILE_*
	profile, name := int64(main), "main"
	if in.FourCC.Depth() == 10 {
		profile, name = main10, "main10"
	}
	if p.Profile != "" && p.Profile != name {
		return "", fmt.Errorf("profile %s of %v pictures: it does not change their depth: %w", p.Profile, in.FourCC, encoder.ErrUnavailable)
	}
	_, err := choose(c, uapi.CIDHEVCProfile, "profile "+name, profile == main10, profile)
	return "", err
}
