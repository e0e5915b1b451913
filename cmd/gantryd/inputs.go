package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"gantry/device"
	"gantry/device/file"
	"gantry/device/rtsp"
	"gantry/device/testsrc"
	"gantry/device/udp"
	"gantry/device/v4l2"
	"gantry/encoder"
	"gantry/encoder/libav"
	"gantry/encoder/libav/sound"
	"gantry/internal/pipeline"
	"gantry/media"
)

// The sources that come coded, and the sound that they bring.
const (
	sourceRTSP = "rtsp"
	sourceFile = "file"
	sourceUDP  = "udp"
	audioInput = "input"
	always     = "always"
	never      = "never"
)

// passThrough are the values of video.pass_through.
var passThrough = map[string]pipeline.PassThrough{auto: pipeline.PassAuto, always: pipeline.PassAlways, never: pipeline.PassNever}

// sourceNames are what video.source can be.
var sourceNames = []string{sourceTest, sourceV4L2, sourceRTSP, sourceFile, sourceUDP}

// coded tells whether the source comes coded.
func (c videoConfig) coded() bool {
	return c.hasSound() || c.Source == sourceV4L2 && c.V4L2.Coded()
}

// hasSound tells whether sound comes with the pictures.
func (c videoConfig) hasSound() bool {
	return c.Source == sourceRTSP || c.Source == sourceFile || c.Source == sourceUDP
}

// checkCoded says what a coded source still wants, and what goes with no other.
func (c *boxConfig) checkCoded() (errs []error) {
	switch v := c.Video; {
	case v.Source == sourceRTSP && v.RTSP.URL == "":
		errs = append(errs, errors.New("video.rtsp.url: is missing: it is the camera's address, as rtsp://camera/stream"))
	case v.Source == sourceFile && v.File.Path == "":
		errs = append(errs, errors.New("video.file.path: is missing: it is the absolute path of an MP4 or MPEG-TS file"))
	case v.Source == sourceUDP && v.UDP.Addr == "":
		errs = append(errs, errors.New("video.udp.addr: is missing: it is where MPEG-TS comes to, as 239.1.1.1:5000 or 0.0.0.0:5000"))
	}
	if c.Audio.Source == audioInput && !c.Video.hasSound() {
		errs = append(errs, fmt.Errorf("audio.source: %q is the sound of an rtsp, file or udp source, and video.source is %q", audioInput, c.Video.Source))
	}
	return errs
}

// codedInput is what the source and its sound come from.
func codedInput(c boxConfig, log *slog.Logger) pipeline.Video {
	type key struct {
		source      string
		config      any
		sound       bool
		pass        string
		deinterlace string
	}
	v := c.Video
	config := any(v.RTSP)
	in := &pipeline.Coded{
		Open:   func(context.Context) (device.PacketSource, error) { return rtsp.New(v.RTSP), nil },
		Decode: liveDecoder,
		Deinterlace: func(in media.VideoFormat) (encoder.Converter, error) {
			return libav.NewConverter(in, v.Deinterlace == eachField)
		},
		StandIn:     func(codec media.Codec) pipeline.Encoder { return standIn(c.Encoder, codec) },
		Sound:       c.Audio.Source == audioInput,
		PassThrough: passThrough[v.PassThrough],
	}
	if in.PassThrough == pipeline.PassAuto && libav.Missing() != "" { // nothing can be decoded
		in.PassThrough = pipeline.PassAlways
	}
	name, format := v.RTSP.URL, testsrc.Default().Format()
	switch v.Source {
	case sourceFile:
		name, config = v.File.Path, v.File
		in.Open = func(context.Context) (device.PacketSource, error) { return file.New(v.File, log), nil }
	case sourceV4L2:
		name, config, format = v.V4L2.Device, v.V4L2, slateFormat(v.V4L2)
		in.Open = func(context.Context) (device.PacketSource, error) {
			src, err := v4l2.OpenPackets(v.V4L2, log)
			if err != nil {
				return nil, err // a nil *Packets is no nil PacketSource
			}
			return src, nil
		}
	case sourceUDP:
		name, config = v.UDP.URL(), v.UDP
		in.Open = func(context.Context) (device.PacketSource, error) { return udp.New(v.UDP, log), nil }
	}
	if sound.Missing() == "" {
		in.Transcode = func(from media.Track, to media.Codec) (pipeline.Transcoder, error) {
			t, err := sound.New(from, to)
			if err != nil {
				return nil, err // a nil *Transcoder is no nil Transcoder
			}
			return t, nil
		}
	}
	return pipeline.Video{Name: name, Key: key{v.Source, config, in.Sound, v.PassThrough, v.Deinterlace}, Coded: in, Format: format}
}

func liveDecoder(codec media.Codec) (pipeline.Decoder, error) {
	d, err := libav.NewLiveDecoder(codec)
	if err != nil {
		return nil, err
	}
	return d, nil
}

// standIn is the encoder of the slate in the source's codec; what is configured for another codec does not apply.
func standIn(c encoderConfig, codec media.Codec) pipeline.Encoder {
	if videoCodecs[c.Codec] != codec {
		c.Backend, c.Preset, c.Profile = auto, "", ""
	}
	p := c.params()
	p.Codec = codec
	e := pipeline.Encoder{Key: c.Backend, Params: p, Floor: c.MinBitrate}
	for _, b := range backends() {
		if b.Codec == codec && (c.Backend == auto || c.Backend == b.Name) {
			e.Backends = append(e.Backends, b)
		}
	}
	return e
}
