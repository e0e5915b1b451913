package pipeline

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"gantry/device"
	"gantry/encoder"
	"gantry/media"
	"gantry/media/packing"
)

// slateAfterCoded is slateAfter for a source that comes coded: what the network holds up for a moment is worth waiting for, since
// after the slate the pictures come back at the source's next key frame only.
const slateAfterCoded = time.Second

// codedAtBoot is what such a source has more than others before the slate goes out for the first time: until it is known what it sends,
// a destination that gets the slate may have to be connected anew.
const codedAtBoot = 4 * time.Second

// Coded is an input for pictures, and perhaps sound, that comes coded. Its packets go to the destinations that can have them as they
// are; for the others they are decoded and coded anew.
type Coded struct {
	Open func(ctx context.Context) (device.PacketSource, error)
	// Decode opens a decoder.
	Decode func(codec media.Codec) (Decoder, error)
	// Deinterlace opens a converter of pictures that were decoded and are interlaced; nil: they are coded as they are.
	Deinterlace func(in media.VideoFormat) (encoder.Converter, error)
	// StandIn says how the slate is coded for the destinations that get the source's own packets: in the source's codec.
	StandIn func(codec media.Codec) Encoder
	// Transcode opens a converter of the source's sound; nil: the sound goes out as it comes or not at all.
	Transcode func(from media.Track, to media.Codec) (Transcoder, error)
	// Sound tells whether the source's sound is used, beside Spec.Audio's which then is none.
	Sound       bool
	PassThrough PassThrough
}

// PassThrough says whether destinations get the source's own packets.
type PassThrough uint8

// What a destination that can have the source's own packets gets.
const (
	PassAuto   PassThrough = iota // those, except while its path is too narrow for them
	PassAlways                    // those, whatever its path carries
	PassNever                     // pictures that are coded anew
)

// A Decoder turns access units into pictures in display order, each of which the caller owns. One goroutine uses it.
type Decoder interface {
	Decode(p *media.Packet) ([]*media.Frame, error)
	Close() error
}

// A Transcoder makes packets of another codec. One goroutine uses it.
type Transcoder interface {
	packing.Converter
	Track() media.Track
	Close() error
}

// onceCoded opens the source and delivers its packets until it fails.
func (c *capture) onceCoded(ctx context.Context, v Video) (err error) {
	src, err := v.Coded.Open(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, src.Close()) }()
	for {
		var tracks []media.Track
		err := c.start(ctx, v, func(ctx context.Context) (err error) {
			tracks, err = src.Start(ctx)
			return err
		})
		if err != nil {
			return err
		}
		run, err := c.pass.begin(v.Coded, tracks)
		if err != nil {
			return err
		}
		c.log.Info("source started", "device", v.Name, "codec", tracks[run.video].Codec)
		c.heed(src, v.Name)
		n, err := c.streamCoded(ctx, src, run)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if !errors.Is(err, device.ErrNoSignal) && !errors.Is(err, device.ErrFormatChanged) {
			return err
		}
		if n == 0 {
			return fmt.Errorf("%w: %w", errNothing, err)
		}
		c.log.Info("source stopped", "device", v.Name, "reason", err)
		c.trouble(err)
	}
}

// streamCoded delivers packets until an error and returns how many of pictures.
func (c *capture) streamCoded(ctx context.Context, src device.PacketSource, run *codedRun) (n int, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	watchdog := time.AfterFunc(sourceStuck, func() { cancel(errStuck) })
	defer watchdog.Stop()
	defer func() { err = errors.Join(err, c.pass.end(run)) }()
	for {
		p, err := src.Read(ctx)
		if err != nil {
			if cause := context.Cause(ctx); cause != nil {
				err = cause
			}
			return n, err
		}
		switch int(p.Track) {
		case run.video:
			watchdog.Reset(sourceStuck)
			n++
			if p = c.admit(run, p); p != nil {
				c.pass.picture(run, p, c.decoded)
			}
		case run.sound:
			c.pass.hear(run, p)
		}
	}
}

// admit puts a packet of pictures on the pipeline's timeline; nil: it is not shown, since decoding cannot begin at it.
func (c *capture) admit(run *codedRun, p *media.Packet) *media.Packet {
	run.look(p)
	c.mu.Lock()
	defer c.mu.Unlock()
	p = c.pass.admit(run, p, c.shown.pts)
	if p == nil {
		return nil
	}
	c.arrived()
	if run.format.Width != 0 {
		c.format = run.format
	}
	c.shown.pts = max(c.shown.pts, p.PTS)
	return p
}

// decoded hands on a picture that was made of the source's packets.
func (c *capture) decoded(f *media.Frame) {
	c.mu.Lock()
	late := c.reason != nil || f.PTS <= c.shown.drawn
	cut := false
	if late {
		c.count.late++
	} else {
		c.shown.drawn = f.PTS
		cut, c.shown.cut = c.shown.cut, false
	}
	c.mu.Unlock()
	if late {
		f.Release()
		return
	}
	if !c.pass.encodes() { // a snapshot
		c.split.show(f)
		f.Release()
		return
	}
	c.split.put(f, cut)
}

// stand puts the slate where the source's packets went, and where pictures are coded. It is called with c.mu held, and takes f over.
func (c *capture) stand(f *media.Frame, cut bool) func() {
	c.shown.drawn = f.PTS
	direct := c.pass.dark()
	return func() {
		c.pass.silence(f.PTS)
		every, some := c.split.feedback.keys(f.PTS, cut)
		if direct {
			c.pass.slot.put(f.Retain(), every || slices.Contains(some, sourceRID))
		}
		if !direct || c.pass.encodes() {
			c.split.give(f, every, some)
		} else {
			c.split.show(f)
			f.Release()
		}
	}
}

// StandInKey tells apart the encoders of the slate.
type standInKey struct {
	codec media.Codec
	key   any
}

// standIn is the encoder of the slate for a codec.
func (s *Coded) standIn(codec media.Codec) Encoder {
	e := s.StandIn(codec)
	e.Key = standInKey{codec, e.Key}
	return e
}
