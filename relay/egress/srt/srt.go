// Package srt writes a stream as MPEG-TS to an SRT caller that wants to receive it. The port is relay/ingest/srt's, which hands
// such callers over.
//
// It knows no socket option and no stream id.
package srt

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"gantry/internal/proto/mpegts"
	"gantry/media"
	"gantry/relay"
	"gantry/relay/egress"
)

// patience is how long a caller's send queue may stay full before its connection is given up.
const patience = 5 * time.Second

// ErrSlow: the caller takes less than the stream has.
var ErrSlow = errors.New("the caller does not take what is sent")

// Play writes the stream to w from its last key frame on, until ctx ends, which is nil, or it cannot go on. When the stream goes
// on with other codecs, so does what is written, as another programme. The sound is AAC where this relay can make it so.
func Play(ctx context.Context, hub *relay.Hub, stream string, w io.Writer) error {
	for {
		err := play(ctx, hub, stream, w)
		switch {
		case ctx.Err() != nil:
			return nil
		case !errors.Is(err, relay.ErrTracksChanged):
			return fmt.Errorf("play %s: %w", stream, err)
		}
	}
}

func play(ctx context.Context, hub *relay.Hub, stream string, w io.Writer) error {
	sub, err := egress.Subscribe(hub, stream)
	if err != nil {
		return err
	}
	defer sub.Close()
	sub.SetViewers(1)
	tracks, places := egress.Choose(sub.Tracks())
	out, err := mpegts.NewWriter(&paced{ctx: ctx, w: w}, tracks)
	if err != nil {
		return err
	}
	var packets []*media.Packet
	for {
		if packets, err = sub.Pull(ctx, packets[:0]); err != nil {
			return err
		}
		for _, p := range packets {
			if places[p.Track] < 0 {
				continue
			}
			moved := *p
			moved.Track = uint8(places[p.Track])
			if err := out.Write(&moved); err != nil {
				return err
			}
		}
	}
}

// paced writes to a gosrt connection, whose Write says io.EOF when its queue is full.
type paced struct {
	ctx context.Context
	w   io.Writer
}

func (p *paced) Write(b []byte) (int, error) {
	var full time.Time
	for {
		n, err := p.w.Write(b)
		if !errors.Is(err, io.EOF) {
			return n, err
		}
		if now := time.Now(); full.IsZero() {
			full = now
		} else if now.Sub(full) > patience {
			return 0, ErrSlow
		}
		select {
		case <-time.After(10 * time.Millisecond): // the queue is emptied every 10 ms
		case <-p.ctx.Done():
			return 0, p.ctx.Err()
		}
	}
}
