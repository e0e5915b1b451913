//go:build cgo && (amd64 || arm64 || arm)

package openh264

import (
	"context"
	"errors"
	"fmt"
	"image"
	"io"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/pion/mediadevices/pkg/codec"
	"github.com/pion/mediadevices/pkg/codec/openh264"
	"github.com/pion/mediadevices/pkg/io/video"
	"github.com/pion/mediadevices/pkg/prop"

	"gantry/encoder"
	"gantry/media"
	"gantry/media/h264"
)

// waiting is how many packets may wait for Read before Encode waits.
const waiting = 8

// Backends returns the one encoder.
func Backends() []encoder.Backend {
	return []encoder.Backend{{
		Name: "openh264", Codec: media.H264, Inputs: inputs,
		Open: func(_ context.Context, in media.VideoFormat, p encoder.Params) (encoder.Encoder, error) {
			e, err := open(in, p)
			if err != nil {
				return nil, fmt.Errorf("open openh264: %w", err)
			}
			return e, nil
		},
	}}
}

// Missing says what this build lacks, empty when it has the encoder.
func Missing() string { return "" }

type coder struct {
	in    media.VideoFormat
	track media.Track
	most  int // bit/s that the level allows
	out   *encoder.Output
	coded atomic.Uint64

	mu      sync.Mutex
	lib     codec.ReadCloser // nil once closed
	params  encoder.Params
	rate    int // bit/s that the library was asked for
	keys    encoder.KeyTimer
	convert *converter
	picture image.YCbCr // for the library to read
	full    bool
	sets    h264.ParameterSets
}

func open(in media.VideoFormat, asked encoder.Params) (*coder, error) {
	p, err := asked.Resolve(in)
	errs := []error{err}
	if asked.Codec != media.NoCodec && asked.Codec != media.H264 {
		errs = append(errs, fmt.Errorf("codes H264, not %v", asked.Codec))
	}
	if !slices.Contains(inputs, in.FourCC) {
		errs = append(errs, fmt.Errorf("no conversion from %v", in.FourCC))
	}
	if p.Width != in.Width&^1 || p.Height != in.Height&^1 {
		errs = append(errs, fmt.Errorf("does not scale %dx%d to %dx%d", in.Width, in.Height, p.Width, p.Height))
	}
	if p.Preset != "" {
		errs = append(errs, fmt.Errorf("preset %q: it has none", p.Preset))
	}
	if p.Profile != "" && p.Profile != "baseline" {
		errs = append(errs, fmt.Errorf("profile %q: it codes baseline only", p.Profile))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	c := &coder{
		in: in, params: asked, rate: p.Bitrate, out: encoder.NewOutput(waiting), convert: newConverter(in, p.Width, p.Height),
		keys:  encoder.KeyTimer{GOP: p.GOP, Interval: in.Rate.Interval()},
		track: media.Track{Codec: media.H264, ClockRate: 90000, Width: p.Width, Height: p.Height, Bitrate: p.Bitrate},
	}
	if err := c.start(p); err != nil {
		return nil, err
	}
	if err := c.prime(); err != nil {
		return nil, errors.Join(err, c.lib.Close())
	}
	return c, nil
}

// start opens the library for live use: no picture skipped, one slice each, key frames only when asked for.
func (c *coder) start(p encoder.Params) error {
	params, err := openh264.NewParams()
	if err != nil {
		return err
	}
	params.BitRate = p.Bitrate
	params.EnableFrameSkip = false
	// Measured: without skipping, the mode for changing rates keeps within its rate; the default is 15 to 30 % over.
	params.RCMode = openh264.RCTimestampMode
	params.IntraPeriod = 0
	params.SliceNum = 1
	params.SliceMode = openh264.SMSingleSlice
	params.MultipleThreadIdc = 1 // it cuts a picture into slices to use more
	rate := c.in.Rate.Float()
	if rate <= 0 {
		rate = 30
	}
	c.lib, err = params.BuildVideoEncoder(video.ReaderFunc(c.lend), prop.Media{
		Video: prop.Video{Width: p.Width, Height: p.Height, FrameRate: float32(rate)},
	})
	return err
}

// prime codes a grey picture, for the parameter sets: they only come with a picture. The next one is a key frame again.
func (c *coder) prime() error {
	w, h := c.track.Width, c.track.Height
	grey := make([]byte, w*h)
	for i := range grey {
		grey[i] = 128
	}
	c.picture = image.YCbCr{
		Y: grey, Cb: grey[:w*h/4], Cr: grey[:w*h/4], YStride: w, CStride: w / 2,
		SubsampleRatio: image.YCbCrSubsampleRatio420, Rect: image.Rect(0, 0, w, h),
	}
	au, err := c.encode(true)
	if err != nil {
		return err
	}
	if !c.sets.Complete() {
		return errors.New("no parameter sets in its first picture")
	}
	info, err := h264.ParseSPS(c.sets.SPS())
	if err != nil {
		return err
	}
	if info.Width != w || info.Height != h || !h264.HasIDR(au) {
		return fmt.Errorf("its first picture is %dx%d instead of %dx%d", info.Width, info.Height, w, h)
	}
	c.track.Profile = info.ProfileLevelID
	c.most = h264.MaxBitrate(c.sets.SPS()[1], c.sets.SPS()[3])
	return nil
}

// lend is the library's source: one picture for each call of encode.
func (c *coder) lend() (image.Image, func(), error) {
	if !c.full {
		return nil, func() {}, io.EOF
	}
	c.full = false
	return &c.picture, func() {}, nil
}

// encode codes c.picture.
func (c *coder) encode(key bool) ([]byte, error) {
	if key {
		control, ok := c.lib.Controller().(codec.KeyFrameController)
		if !ok {
			return nil, errors.New("no key frames on demand")
		}
		if err := control.ForceKeyFrame(); err != nil {
			return nil, err
		}
	}
	c.full = true
	data, release, err := c.lib.Read()
	if err != nil {
		return nil, err
	}
	defer release() // a formality: data is fresh Go memory
	if len(data) == 0 {
		return nil, errors.New("it skipped a picture")
	}
	return c.colour(data)
}

// colour writes the source's matrix and range into the parameter sets of a key frame.
func (c *coder) colour(au []byte) ([]byte, error) {
	if !h264.HasIDR(au) {
		return au, nil
	}
	out := make([]byte, 0, len(au)+64)
	for nalu := range h264.NALUs(au) {
		if h264.TypeOf(nalu) == h264.SPS {
			rng := c.in.Range
			if rng == media.RangeUnspecified {
				rng = media.RangeLimited
			}
			sps, err := h264.SetColour(nalu, c.in.Matrix, rng, c.in.Transfer)
			if err != nil {
				return nil, err
			}
			nalu = sps
		}
		out = h264.Append(out, nalu)
	}
	c.sets.Learn(out)
	return out, nil
}

// Copies implements encoder.CopyCounter.
func (c *coder) Copies() (inPlace, copied uint64) {
	if c.in.FourCC == media.YU12 {
		return c.coded.Load(), 0
	}
	return 0, c.coded.Load()
}

func (c *coder) Track() media.Track { return c.track }

// Encode codes f before it returns, on the caller's thread.
func (c *coder) Encode(ctx context.Context, f *media.Frame, key bool) error {
	format := f.Format
	format.Rate = c.in.Rate // a source may find out its true rate later
	if format != c.in {
		return fmt.Errorf("encode %v: opened for %v", f.Format, c.in)
	}
	if err := c.out.Wait(ctx); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.lib == nil {
		return encoder.ErrClosed
	}
	key = c.keys.Key(f.PTS, key)
	var data []byte
	err := f.CPU(func(planes [][]byte) (err error) {
		if err = c.convert.i420(&c.picture, f, planes); err == nil {
			data, err = c.encode(key)
		}
		c.picture = image.YCbCr{} // it shows memory that is not ours after this call
		return err
	})
	if err != nil {
		return fmt.Errorf("encode with openh264: %w", err)
	}
	c.coded.Add(1)
	c.out.Put(&media.Packet{PTS: f.PTS, DTS: f.PTS, Start: true, End: true, Key: h264.HasIDR(data), Data: data})
	return nil
}

func (c *coder) Read(ctx context.Context) (*media.Packet, error) { return c.out.Read(ctx) }

func (c *coder) Apply(p encoder.Params) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.lib == nil {
		return encoder.ErrClosed
	}
	if !c.params.Live(p) {
		return encoder.ErrRestart
	}
	if _, err := p.Resolve(c.in); err != nil {
		return fmt.Errorf("apply to openh264: %w", err)
	}
	// Small steps wait until they add up: the library prints a line for each.
	if step := p.Bitrate - c.rate; max(step, -step) > c.rate/50 {
		control, ok := c.lib.Controller().(codec.BitRateController)
		if !ok || c.most > 0 && p.Bitrate > c.most {
			return encoder.ErrRestart
		}
		if err := control.SetBitRate(p.Bitrate); err != nil {
			return fmt.Errorf("apply to openh264: %w", err)
		}
		c.rate = p.Bitrate
	}
	c.keys.GOP = p.GOP
	c.params = p
	return nil
}

func (c *coder) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.lib == nil {
		return nil
	}
	err := c.lib.Close()
	c.lib = nil
	c.out.End(nil)
	if err != nil {
		return fmt.Errorf("close openh264: %w", err)
	}
	return nil
}
