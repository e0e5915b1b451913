package m2m

import (
	"fmt"
	"math"

	"gantry/encoder"
	kernel "gantry/internal/v4l2"
	"gantry/internal/v4l2/uapi"
	"gantry/media"
)

// controls is what the Encoder asks of its device's controls; a kernel.Device has it.
type controls interface {
	Control(id uint32) (kernel.Control, error)
	Menu(c kernel.Control) (map[int64]string, error)
	SetControls(settings ...kernel.Setting) error
}

var _ controls = (*kernel.Device)(nil)

const (
	bitrateCBR   = 1 // V4L2_MPEG_VIDEO_BITRATE_MODE_CBR
	headerJoined = 1 // V4L2_MPEG_VIDEO_HEADER_MODE_JOINED_WITH_1ST_FRAME
)

// has reports whether the driver has a control that can be set.
func has(c controls, id uint32) (kernel.Control, bool) {
	info, err := c.Control(id)
	return info, err == nil && info.Flags&(uapi.CtrlFlagDisabled|uapi.CtrlFlagReadOnly) == 0
}

// choose sets a menu to the first of the values that it has, and returns it; -1 where the driver has its own way. That is an
// error when must says so.
func choose(c controls, id uint32, what string, must bool, values ...int64) (int64, error) {
	info, ok := has(c, id)
	if !ok {
		if must {
			return -1, fmt.Errorf("%s: the driver lets nobody choose: %w", what, encoder.ErrUnavailable)
		}
		return -1, nil
	}
	menu, err := c.Menu(info)
	if err != nil {
		return -1, err
	}
	for _, v := range values {
		if _, ok := menu[v]; ok && v >= info.Min && v <= info.Max {
			return v, c.SetControls(kernel.Setting{ID: id, Value: v})
		}
	}
	if must {
		return -1, fmt.Errorf("%s: the driver offers %v: %w", what, menu, encoder.ErrUnavailable)
	}
	return -1, nil
}

// setUp sets what holds for the whole run: constant bitrate, no B-frames, parameter sets in the stream, profile, level, and
// then what can change. It returns the Track's Profile.
func setUp(c controls, k coding, in media.VideoFormat, p encoder.Params) (profile string, err error) {
	if _, ok := has(c, uapi.CIDBitrate); !ok && k.rated {
		return "", fmt.Errorf("no control for the bitrate: %w", encoder.ErrUnavailable)
	}
	if _, err := choose(c, uapi.CIDBitrateMode, "bitrate mode", false, bitrateCBR); err != nil {
		return "", err
	}
	if _, err := choose(c, uapi.CIDHeaderMode, "header mode", false, headerJoined); err != nil {
		return "", err
	}
	for _, s := range []kernel.Setting{{ID: uapi.CIDBFrames, Value: 0}, {ID: uapi.CIDRepeatSeqHeader, Value: 1}} {
		if _, ok := has(c, s.ID); ok {
			if err := c.SetControls(s); err != nil {
				return "", err
			}
		}
	}
	if k.settings != nil {
		if profile, err = k.settings(c, in, p); err != nil {
			return "", err
		}
	}
	return profile, setLive(c, in, encoder.Params{Bitrate: -1, GOP: -1}, p)
}

// setLive sets bitrate and distance of key frames where they differ from what is set.
func setLive(c controls, in media.VideoFormat, set, want encoder.Params) error {
	if set.Bitrate != want.Bitrate {
		if info, ok := has(c, uapi.CIDBitrate); ok {
			if err := c.SetControls(within(info, int64(want.Bitrate))); err != nil {
				return err
			}
		}
		if info, ok := has(c, uapi.CIDBitratePeak); ok { // some drivers refuse a peak below the average
			if err := c.SetControls(within(info, int64(want.Bitrate))); err != nil {
				return err
			}
		}
	}
	if set.GOP == want.GOP {
		return nil
	}
	pictures := int64(math.MaxInt32) // on demand only: as far apart as the driver can
	if want.GOP > 0 {
		pictures = max(int64(math.Round(want.GOP.Seconds()*in.Rate.Float())), 1)
	}
	for _, id := range []uint32{uapi.CIDGOPSize, uapi.CIDH264IPeriod} {
		if info, ok := has(c, id); ok {
			if err := c.SetControls(within(info, pictures)); err != nil {
				return err
			}
		}
	}
	return nil
}

// within returns the setting of a number, as near as the driver's range and step allow.
func within(info kernel.Control, v int64) kernel.Setting {
	v = min(max(v, info.Min), info.Max)
	if info.Step > 1 {
		v = info.Min + (v-info.Min)/info.Step*info.Step
	}
	return kernel.Setting{ID: info.ID, Value: v}
}
