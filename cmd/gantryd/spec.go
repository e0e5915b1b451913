package main

import (
	"cmp"
	"context"
	"log/slog"
	"slices"

	"gantry/device"
	"gantry/device/testsrc"
	"gantry/device/v4l2"
	"gantry/encoder"
	"gantry/encoder/libav"
	"gantry/encoder/m2m"
	"gantry/encoder/openh264"
	"gantry/encoder/opus"
	"gantry/internal/pipeline"
	"gantry/media"
	"gantry/media/sound"
)

// backends are the video encoders in this build, the best first. What the machine lacks says so when it is opened.
func backends() []encoder.Backend {
	all := append(append(m2m.Backends(), libav.Backends()...), openh264.Backends()...)
	slices.SortStableFunc(all, func(a, b encoder.Backend) int {
		switch {
		case a.Hardware == b.Hardware:
			return 0
		case a.Hardware:
			return -1
		}
		return 1
	})
	return all
}

// spec turns the configuration into what the pipeline works with: the one place that knows which name means which package.
func spec(c boxConfig, log *slog.Logger) pipeline.Spec {
	s := pipeline.Spec{
		Video: video(c, log),
		Audio: audio(c.Audio, c.Video, c.Opus, c.AAC, log),
		Encoder: pipeline.Encoder{Key: c.Encoder.Backend, Params: c.Encoder.params(), Floor: c.Encoder.MinBitrate,
			Timecode: timecodes[c.Encoder.Timecode]},
	}
	for _, b := range backends() {
		if b.Codec == s.Encoder.Params.Codec && (c.Encoder.Backend == auto || c.Encoder.Backend == b.Name) {
			s.Encoder.Backends = append(s.Encoder.Backends, b)
		}
	}
	s.Renditions = renditions(c.Renditions, c.Encoder)
	for _, u := range c.Uplinks {
		s.Uplinks = append(s.Uplinks, u.pipeline())
	}
	return s
}

func video(box boxConfig, log *slog.Logger) pipeline.Video {
	c := box.Video
	if c.coded() {
		return codedInput(box, log)
	}
	if c.Source == sourceV4L2 {
		type key struct {
			v4l2.Config
			deinterlace string
		}
		return pipeline.Video{
			Name: c.V4L2.Device, Key: key{c.V4L2, c.Deinterlace}, Format: slateFormat(c.V4L2),
			Open: func(context.Context) (device.Source, error) {
				src, err := opened(v4l2.Open(c.V4L2, log))
				if err != nil {
					return nil, err
				}
				return pipeline.Converted(src, func(in media.VideoFormat) (encoder.Converter, error) {
					return libav.NewConverter(in, c.Deinterlace == eachField)
				}), nil
			},
		}
	}
	return pipeline.Video{
		Name: sourceTest, Key: c.TestSrc, Format: c.TestSrc.Format(),
		Open: func(context.Context) (device.Source, error) { return opened(testsrc.New(c.TestSrc)) },
	}
}

// opened keeps a nil *T from becoming an interface that is not nil.
func opened[T device.Source](src T, err error) (device.Source, error) {
	if err != nil {
		return nil, err
	}
	return src, nil
}

// slateFormat is what goes out before a device has said what it delivers: what was asked for, or 720p30.
func slateFormat(c v4l2.Config) media.VideoFormat {
	f := testsrc.Default().Format()
	if c.Width > 0 && c.Height > 0 {
		f.Width, f.Height = c.Width, c.Height
	}
	f.Rate.Num, f.Rate.Den = cmp.Or(c.Rate.Num, f.Rate.Num), cmp.Or(c.Rate.Den, f.Rate.Den)
	return f
}

func audio(c audioConfig, v videoConfig, o opus.Config, aac libav.AACConfig, log *slog.Logger) pipeline.Audio {
	type key struct {
		audioConfig
		video string // with which the card goes together
		opus  opus.Config
		aac   libav.AACConfig
	}
	k := key{audioConfig: c, opus: o, aac: aac}
	if goesWithVideo(c.ALSA, v) {
		k.video = v.V4L2.Device
	}
	a := pipeline.Audio{Name: c.Source, Key: k}
	if c.Source == none {
		return a
	}
	if c.Source == audioInput {
		a.Coded = true
		return a
	}
	a.Mix, _ = sound.ParseMix(c.Channels) // Validate has seen to it
	a.Gain, a.Delay = c.Gain, c.Delay
	a.Open = func(context.Context) (device.AudioSource, error) { return testsrc.NewTone(), nil }
	if c.Source == audioALSA {
		a.Name = c.ALSA.Card
		a.Open = soundCard(c.ALSA, v, log)
	}
	a.Codings = codings(o, aac)
	return a
}

func slate(f media.VideoFormat, title, reason string) (pipeline.Still, error) {
	s, err := testsrc.Slate(f, title, reason)
	if err != nil {
		return nil, err
	}
	return s, nil
}
