package v4l2

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"gantry/device"
	"gantry/media"
	"gantry/media/h264"
)

// keyFrameLimit is how long a device may take to send a key frame with its parameter sets.
const keyFrameLimit = 10 * time.Second

// Packets captures from a node that codes its pictures itself, as H.264. It is a device.PacketSource: pictures leave as the device
// made them, with the driver's time. UVC has no way to ask for a key frame, so the first one is waited for.
type Packets struct {
	src   *Source
	sets  h264.ParameterSets
	head  []byte        // parameter sets and the like that came in a buffer of their own, before their picture
	first *media.Packet // that Start has seen
	last  counts
}

// counts is what Source has counted when a picture came.
type counts struct {
	any bool
	seq uint32
	bad uint64
}

var _ device.PacketSource = (*Packets)(nil)

// OpenPackets opens cfg.Device for pictures that come coded; cfg.Coded is true. Its errors are those of Open.
func OpenPackets(cfg Config, log *slog.Logger) (*Packets, error) {
	src, err := openSource(cfg, log)
	if err != nil {
		return nil, err
	}
	return &Packets{src: src}, nil
}

// Status returns what is known about the input.
func (p *Packets) Status() Status { return p.src.Status() }

// Warning implements device.Warner.
func (p *Packets) Warning() string { return p.src.Warning() }

// Start begins to capture and waits for a key frame, from which it takes the track's size and profile. For errors see Source.Start;
// a device that sends no key frame in ten seconds is device.ErrNoSignal.
func (p *Packets) Start(ctx context.Context) ([]media.Track, error) {
	format, err := p.src.Start(ctx)
	if err != nil {
		return nil, err
	}
	p.sets.Reset()
	p.head, p.first, p.last = nil, nil, counts{}
	var began time.Duration
	for {
		pkt, err := p.next(ctx)
		if err != nil {
			return nil, err
		}
		if began == 0 {
			began = pkt.PTS
		}
		if !pkt.Key || !p.sets.Complete() {
			if pkt.PTS-began > keyFrameLimit {
				return nil, fmt.Errorf("%w: no key frame in %v", device.ErrNoSignal, keyFrameLimit)
			}
			continue
		}
		info, err := h264.ParseSPS(p.sets.SPS())
		if err != nil {
			return nil, fmt.Errorf("%w: %w", device.ErrUnsupported, err)
		}
		pkt.Lost = false // before it nothing was wanted
		p.first = pkt
		p.src.log.Debug("device codes its pictures", "format", format, "codec", media.H264, "width", info.Width, "height", info.Height)
		return []media.Track{{Codec: media.H264, ClockRate: 90000, Width: info.Width, Height: info.Height, Profile: info.ProfileLevelID}}, nil
	}
}

// Read waits for the next picture. Lost is set on one before which the driver lost or spoilt another. A device that changes its
// picture size by itself is device.ErrFormatChanged.
func (p *Packets) Read(ctx context.Context) (*media.Packet, error) {
	if pkt := p.first; pkt != nil {
		p.first = nil
		return pkt, nil
	}
	before := p.sets.SPS()
	pkt, err := p.next(ctx)
	if err == nil && pkt.Key && !slices.Equal(before, p.sets.SPS()) && !sameTrack(before, p.sets.SPS()) {
		return nil, fmt.Errorf("%s: %w", p.src.dev.Path(), device.ErrFormatChanged)
	}
	return pkt, err
}

// sameTrack tells whether two sequence parameter sets describe pictures of one track.
func sameTrack(a, b []byte) bool {
	x, err1 := h264.ParseSPS(a)
	y, err2 := h264.ParseSPS(b)
	return err1 == nil && err2 == nil && x.Width == y.Width && x.Height == y.Height && x.ProfileLevelID == y.ProfileLevelID
}

// next reads the next picture, and makes it whole: a key frame begins with its parameter sets, wherever the device has sent them.
func (p *Packets) next(ctx context.Context) (*media.Packet, error) {
	for {
		f, err := p.src.Read(ctx)
		if err != nil {
			return nil, err
		}
		now := counts{true, f.Seq, p.src.bad.Load()}
		lost := p.last.any && (now.seq-p.last.seq != 1 || now.bad != p.last.bad)
		p.last = now
		data := p.head
		err = f.CPU(func(planes [][]byte) error {
			data = slices.Concat(data, planes[0])
			return nil
		})
		pts := f.PTS
		f.Release()
		if err != nil {
			return nil, err
		}
		if h264.Slices(data) == 0 { // no picture in it yet
			if p.head = data; len(p.head) > maxHead {
				return nil, fmt.Errorf("%w: %d bytes without a picture: no H.264", device.ErrUnsupported, len(p.head))
			}
			continue
		}
		p.head = nil
		p.sets.Learn(data)
		pkt := &media.Packet{PTS: pts, DTS: pts, Start: true, End: true, Key: h264.HasIDR(data), Lost: lost, Data: data}
		if pkt.Key {
			pkt.Data = p.sets.Ensure(data)
		}
		return pkt, nil
	}
}

// maxHead bounds what may come before a picture.
const maxHead = 64 << 10

// Close implements device.PacketSource.
func (p *Packets) Close() error { return p.src.Close() }
