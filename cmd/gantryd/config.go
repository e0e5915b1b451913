package main

import (
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"slices"
	"strings"
	"time"

	"gantry/device/alsa"
	"gantry/device/file"
	"gantry/device/rtsp"
	"gantry/device/testsrc"
	"gantry/device/udp"
	"gantry/device/v4l2"
	"gantry/encoder"
	"gantry/encoder/libav"
	"gantry/encoder/opus"
	"gantry/internal/config"
	"gantry/media"
	"gantry/media/sei"
	"gantry/media/sound"
	"gantry/uplink/heal"
	"gantry/uplink/record"
	"gantry/uplink/rtmp"
	rtspserver "gantry/uplink/rtsp"
	"gantry/uplink/srt"
	udpsender "gantry/uplink/udp"
	"gantry/uplink/whip"
)

// The names that the configuration uses.
const (
	sourceTest = "testsrc"
	sourceV4L2 = "v4l2"
	audioTone  = "tone"
	audioALSA  = "alsa"
	none       = "none"
	auto       = "auto"

	eachFrame = "frame"
	eachField = "field"

	timecodeUTC   = "utc"
	timecodeSMPTE = "smpte"
)

// maxUplinks bounds what one box sends to.
const maxUplinks = 16

// A boxConfig is the whole file. Its parts are comparable, so that a reload can tell what changed.
type boxConfig struct {
	HTTP    string          `yaml:"http"` // host:port of the box's page; empty: none
	Log     string          `yaml:"log"`  // debug, info, warn or error
	Video   videoConfig     `yaml:"video"`
	Audio   audioConfig     `yaml:"audio"`
	Encoder encoderConfig   `yaml:"encoder"`
	Opus    opus.Config     `yaml:"opus"`
	AAC     libav.AACConfig `yaml:"aac"`
	Uplinks []uplinkConfig  `yaml:"uplinks"`

	Renditions []renditionConfig `yaml:"renditions"`
}

type videoConfig struct {
	Source      string         `yaml:"source"`
	Deinterlace string         `yaml:"deinterlace"` // what becomes a picture: frame or field
	TestSrc     testsrc.Config `yaml:"testsrc"`
	V4L2        v4l2.Config    `yaml:"v4l2"`
	RTSP        rtsp.Config    `yaml:"rtsp"`
	File        file.Config    `yaml:"file"`
	UDP         udp.Config     `yaml:"udp"`
	PassThrough string         `yaml:"pass_through"` // of sources that come coded: auto, always or never
}

type audioConfig struct {
	Source   string        `yaml:"source"`
	ALSA     alsa.Config   `yaml:"alsa"`
	Gain     float64       `yaml:"gain"`     // dB
	Delay    time.Duration `yaml:"delay"`    // of the sound after the pictures
	Channels string        `yaml:"channels"` // of the source, that stereo is made of
}

type encoderConfig struct {
	Backend    string        `yaml:"backend"`
	Codec      string        `yaml:"codec"`
	Bitrate    int           `yaml:"bitrate" unit:"bit/s"`     // the most that is used
	MinBitrate int           `yaml:"min_bitrate" unit:"bit/s"` // the least, however bad the path
	GOP        time.Duration `yaml:"gop"`
	Preset     string        `yaml:"preset"`
	Profile    string        `yaml:"profile"`
	Threads    int           `yaml:"threads"`
	Timecode   string        `yaml:"timecode"`
}

// An uplinkConfig is one destination: one of the pointers is set.
type uplinkConfig struct {
	Name      string             `yaml:"name"`
	Autostart bool               `yaml:"autostart"` // false: stopped until somebody starts it
	BackupOf  string             `yaml:"backup_of"` // runs only while the destination of this name is down
	Adapt     bool               `yaml:"adapt"`     // the video bitrate follows what this path carries
	Rendition string             `yaml:"rendition"` // the pictures that it gets; empty: the main encoder's
	Simulcast []string           `yaml:"simulcast"` // renditions that it gets beside them, as layers
	WHIP      *whip.Config       `yaml:"whip"`
	SRT       *srt.Config        `yaml:"srt"`
	RTMP      *rtmp.Config       `yaml:"rtmp"`
	Record    *record.Config     `yaml:"record"`
	Heal      *heal.Config       `yaml:"heal"`
	RTSP      *rtspserver.Config `yaml:"rtsp"`
	UDP       *udpsender.Config  `yaml:"udp"`
}

// SetDefaults is called by the decoder for each element of the list.
func (c *uplinkConfig) SetDefaults() { c.Autostart, c.Adapt = true, true }

func defaults() boxConfig {
	return boxConfig{
		HTTP: "127.0.0.1:8090",
		Log:  "info",
		Video: videoConfig{Source: sourceTest, Deinterlace: eachFrame, TestSrc: testsrc.Default(), V4L2: v4l2.Default(),
			RTSP: rtsp.Default(), PassThrough: auto},
		Audio: audioConfig{Source: none, ALSA: alsa.Default(), Channels: sound.Auto},
		Encoder: encoderConfig{Backend: auto, Codec: "h264", Bitrate: 2_500_000, MinBitrate: 300_000, GOP: 2 * time.Second,
			Timecode: none},
		Opus: opus.Default(),
		AAC:  libav.DefaultAAC(),
	}
}

// load reads and checks a file.
func load(file string) (boxConfig, error) {
	c := defaults()
	err := config.Load(file, &c)
	return c, err
}

func oneOf(key, value string, allowed ...string) error {
	if slices.Contains(allowed, value) {
		return nil
	}
	return fmt.Errorf("%s: %q is not one of %s", key, value, strings.Join(allowed, ", "))
}

// Validate checks what the parts do not check themselves.
func (c *boxConfig) Validate() error {
	var errs []error
	var level slog.Level
	if err := level.UnmarshalText([]byte(c.Log)); err != nil {
		errs = append(errs, fmt.Errorf("log: %q is not one of debug, info, warn, error", c.Log))
	}
	if c.HTTP != "" {
		if err := checkLoopback(c.HTTP); err != nil {
			errs = append(errs, fmt.Errorf("http: %w", err))
		}
	}
	if len(c.Uplinks) > maxUplinks {
		errs = append(errs, fmt.Errorf("uplinks: %d are more than %d", len(c.Uplinks), maxUplinks))
	}
	errs = append(errs, c.checkCoded()...)
	errs = append(errs, checkRenditions(c.Renditions, c.Uplinks)...)
	errs = append(errs, checkHeals(c.Uplinks)...)
	backups := map[string]string{} // by name
	for i, u := range c.Uplinks {
		if _, ok := backups[u.Name]; ok && u.Name != "" {
			errs = append(errs, fmt.Errorf("uplinks[%d].name: %q is used twice", i, u.Name))
		}
		backups[u.Name] = u.BackupOf
	}
	for i, u := range c.Uplinks {
		if err := checkBackup(u, backups); err != nil {
			errs = append(errs, fmt.Errorf("uplinks[%d].backup_of: %w", i, err))
		}
	}
	return errors.Join(errs...)
}

// checkBackup follows who stands in for whom; backups says so by name.
func checkBackup(u uplinkConfig, backups map[string]string) error {
	if u.BackupOf == "" {
		return nil
	}
	if _, ok := backups[u.BackupOf]; !ok {
		return fmt.Errorf("there is no destination %q", u.BackupOf)
	}
	at := u.BackupOf
	for range backups {
		if at == u.Name {
			return errors.New("it would wait for itself")
		}
		at = backups[at]
	}
	return nil
}

// checkLoopback allows host:port on this machine only: what is served there asks nobody who they are.
func checkLoopback(addr string) error {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return fmt.Errorf("%q is not host:port, such as 127.0.0.1:8090", addr)
	}
	if _, err := net.LookupPort("tcp", port); err != nil {
		return fmt.Errorf("%q has no port from 0 to 65535", addr)
	}
	if ip := net.ParseIP(host); host != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return fmt.Errorf("%q can be reached from other machines, and the page asks for no password: use 127.0.0.1 (and ssh -L, or a proxy that asks)", addr)
	}
	return nil
}

// Validate checks the choice of the source and what is done to its pictures.
func (c videoConfig) Validate() error {
	return errors.Join(oneOf("source", c.Source, sourceNames...), oneOf("pass_through", c.PassThrough, auto, always, never),
		oneOf("deinterlace", c.Deinterlace, eachFrame, eachField))
}

// Validate checks the choice of the source and what is done to its sound.
func (c audioConfig) Validate() error {
	errs := []error{oneOf("source", c.Source, audioALSA, audioTone, audioInput, none)}
	if !(c.Gain >= -60 && c.Gain <= 40) {
		errs = append(errs, fmt.Errorf("gain: %g is not from -60 to 40 dB", c.Gain))
	}
	if c.Delay.Abs() > 2*time.Second {
		errs = append(errs, fmt.Errorf("delay: %v is not from -2s to 2s", c.Delay))
	}
	if _, err := sound.ParseMix(c.Channels); err != nil {
		errs = append(errs, fmt.Errorf("channels: %w", err))
	}
	return errors.Join(errs...)
}

// videoCodecs are the names that pictures' codecs have in the configuration.
var videoCodecs = map[string]media.Codec{"h264": media.H264, "h265": media.H265}

// Validate checks everything that does not depend on the machine.
func (c encoderConfig) Validate() error {
	codec, known := videoCodecs[c.Codec]
	if !known { // the rest as for the default
		codec = media.H264
	}
	errs := []error{oneOf("codec", c.Codec, slices.Sorted(maps.Keys(videoCodecs))...)}
	names := []string{auto}
	for _, b := range backends() {
		if b.Codec == codec {
			names = append(names, b.Name)
		}
	}
	errs = append(errs, oneOf("backend", c.Backend, names...))
	if c.Bitrate < 50_000 || c.Bitrate > 100_000_000 {
		errs = append(errs, fmt.Errorf("bitrate: %d bit/s is not from 50k to 100M", c.Bitrate))
	}
	if c.MinBitrate < 50_000 || c.MinBitrate > 100_000_000 {
		errs = append(errs, fmt.Errorf("min_bitrate: %d bit/s is not from 50k to 100M", c.MinBitrate))
	}
	if c.GOP != 0 && c.GOP < 100*time.Millisecond || c.GOP > time.Minute {
		errs = append(errs, fmt.Errorf("gop: %v is not from 100ms to 1m, or 0s for key frames on demand only", c.GOP))
	}
	switch {
	case c.Profile == "":
	case codec == media.H264:
		errs = append(errs, oneOf("profile", c.Profile, "baseline", "main", "high"))
	default:
		errs = append(errs, oneOf("profile", c.Profile, "main", "main10"))
	}
	if c.Threads < 0 || c.Threads > 64 {
		errs = append(errs, fmt.Errorf("threads: %d is not from 1 to 64, or 0 for as many as the machine has", c.Threads))
	}
	errs = append(errs, oneOf("timecode", c.Timecode, none, timecodeUTC, timecodeSMPTE))
	return errors.Join(errs...)
}

// timecodes are the names that the configuration has for them.
var timecodes = map[string]sei.Kind{none: sei.None, timecodeUTC: sei.UTC, timecodeSMPTE: sei.SMPTE}

func (c encoderConfig) params() encoder.Params {
	return encoder.Params{Codec: videoCodecs[c.Codec], Bitrate: c.Bitrate, GOP: c.GOP, Preset: c.Preset, Profile: c.Profile, Threads: c.Threads}
}

func checkName(name string) error {
	if name == "" || len(name) > 64 || strings.ContainsFunc(name, func(r rune) bool {
		return !(r == '-' || r == '_' || r == '.' || r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z')
	}) {
		return fmt.Errorf("name: %q is not 1 to 64 letters, digits, '-', '_' and '.'", name)
	}
	return nil
}

// Validate checks the name and that there is one kind; the destination's own Config checks itself.
func (c *uplinkConfig) Validate() error {
	var errs []error
	errs = append(errs, checkName(c.Name))
	if n := len(c.kinds()); n != 1 {
		errs = append(errs, fmt.Errorf("has %d of the keys %s: it takes one", n, strings.Join(kindNames, ", ")))
	}
	return errors.Join(errs...)
}
