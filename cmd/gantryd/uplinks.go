package main

import (
	"log/slog"
	"strings"

	"gantry/encoder"
	"gantry/encoder/libav"
	"gantry/encoder/opus"
	"gantry/internal/pipeline"
	"gantry/media"
	"gantry/uplink"
	"gantry/uplink/heal"
	"gantry/uplink/record"
	"gantry/uplink/rtmp"
	"gantry/uplink/rtsp"
	"gantry/uplink/srt"
	"gantry/uplink/udp"
	"gantry/uplink/whip"
)

var kindNames = []string{"whip", "srt", "rtmp", "record", "heal", "rtsp", "udp"}

// A kind is what an uplinkConfig says of how to send.
type kind struct {
	name    string
	config  any           // comparable
	carries []media.Codec // of several for sound, the first that there is
	open    func(*slog.Logger) (uplink.Sender, error)
}

// kinds returns those that the file names.
func (c *uplinkConfig) kinds() (list []kind) {
	if c.WHIP != nil {
		config := *c.WHIP
		list = append(list, kind{"whip", config, []media.Codec{media.H264, media.H265, media.Opus},
			func(log *slog.Logger) (uplink.Sender, error) { return whip.Open(config, log) }})
	}
	if c.SRT != nil {
		config := *c.SRT
		list = append(list, kind{"srt", config, []media.Codec{media.H264, media.H265, media.AAC, media.Opus},
			func(log *slog.Logger) (uplink.Sender, error) { return srt.New(config, log), nil }})
	}
	if c.RTMP != nil { // Opus in enhanced RTMP is what hardly any server takes
		config := *c.RTMP
		list = append(list, kind{"rtmp", config, []media.Codec{media.H264, media.H265, media.AV1, media.AAC},
			func(log *slog.Logger) (uplink.Sender, error) { return rtmp.New(config, log), nil }})
	}
	if c.Record != nil {
		config := *c.Record
		list = append(list, kind{"record", config, config.Carries(),
			func(log *slog.Logger) (uplink.Sender, error) { return record.New(config, log), nil }})
	}
	if c.Heal != nil {
		config := *c.Heal
		list = append(list, kind{"heal", config, config.Carries(),
			func(log *slog.Logger) (uplink.Sender, error) { return heal.New(config, log), nil }})
	}
	if c.RTSP != nil {
		config := *c.RTSP
		list = append(list, kind{"rtsp", config, rtsp.Carries,
			func(log *slog.Logger) (uplink.Sender, error) { return rtsp.New(config, log), nil }})
	}
	if c.UDP != nil {
		config := *c.UDP
		list = append(list, kind{"udp", config, udp.Carries,
			func(log *slog.Logger) (uplink.Sender, error) { return udp.New(config, log), nil }})
	}
	return list
}

func (c *uplinkConfig) pipeline() pipeline.Uplink {
	type key struct {
		name, backup string
		rendition    string
		layers       string
		adapt        bool
		config       any
	}
	k := c.kinds()[0] // Validate has seen to it
	return pipeline.Uplink{Name: c.Name, Key: key{c.Name, c.BackupOf, c.Rendition, strings.Join(c.Simulcast, " "), c.Adapt, k.config}, Open: k.open, Carries: k.carries,
		InOrder: k.name == "whip", Rendition: c.Rendition, Layers: c.Simulcast, BackupOf: c.BackupOf, Manual: !c.Autostart, Aside: !c.Adapt}
}

// codings are the ways in which this build codes sound.
func codings(o opus.Config, a libav.AACConfig) []pipeline.AudioCoding {
	list := []pipeline.AudioCoding{{
		Track:  media.Track{Codec: media.Opus, ClockRate: 48000, Channels: 2, Bitrate: o.Bitrate},
		Encode: func(media.AudioFormat) (encoder.AudioEncoder, error) { return opus.New(o) },
	}}
	if libav.Missing() == "" {
		list = append(list, pipeline.AudioCoding{
			Track:  a.Track(),
			Encode: func(in media.AudioFormat) (encoder.AudioEncoder, error) { return libav.NewAAC(a, in) },
		})
	}
	return list
}
