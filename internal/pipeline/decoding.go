package pipeline

import (
	"context"
	"errors"
	"io"
	"time"

	"gantry/internal/clock"
	"gantry/media"
)

const (
	decodeQueue = 2 * time.Second // of packets that wait for the decoder
	decodeAgain = 5 * time.Second // how long a decoder that failed is left alone
	badLimit    = 2 * time.Second // without a whole picture
)

// A decoding decodes the source's packets in a goroutine of its own, so that a slow one harms only those who need pictures.
type decoding struct {
	queue *media.Queue
	stop  context.CancelFunc
	done  chan struct{}
}

// feed gives a packet to the decoder while somebody needs pictures, and opens and closes it.
func (p *passing) feed(r *codedRun, pkt *media.Packet, show func(*media.Frame)) {
	if !r.told || !p.needPictures() { // before, nobody knows who needs them
		p.stopDecoding(r)
		return
	}
	if r.decode != nil {
		select {
		case <-r.decode.done: // it failed, and has said so
			p.stopDecoding(r)
			r.failed = clock.Now()
		default:
			r.decode.queue.Push(pkt) // its Track is 0: see admit
			return
		}
	}
	if clock.Now()-r.failed < decodeAgain {
		return
	}
	p.mu.Lock()
	gop := p.gop // it ends with pkt
	p.mu.Unlock()
	if len(gop) == 0 {
		return
	}
	ctx, stop := context.WithCancel(context.Background()) // ended by stopDecoding
	track := r.tracks[r.video]
	d := &decoding{queue: media.NewQueue(decodeQueue, []media.Track{track}), stop: stop, done: make(chan struct{})}
	r.decode = d
	format, coded := r.format, r.coded
	go func() {
		defer close(d.done)
		if err := p.decode(ctx, d.queue, coded, track.Codec, gop, format, show); err != nil && ctx.Err() == nil {
			p.health.Raise(decoderDown, "", err.Error())
		}
	}()
}

// stopDecoding ends a run's decoder.
func (p *passing) stopDecoding(r *codedRun) {
	if r.decode == nil {
		return
	}
	r.decode.stop()
	r.decode.queue.Close(io.EOF)
	<-r.decode.done
	r.decode = nil
}

// decode decodes gop, of which only the newest picture is shown, and then what the queue brings.
func (p *passing) decode(ctx context.Context, queue *media.Queue, coded *Coded, codec media.Codec, gop []*media.Packet, format media.VideoFormat,
	show func(*media.Frame)) (err error) {
	decoder, err := coded.Decode(codec)
	if err != nil {
		return err
	}
	p.note(true)
	defer p.note(false)
	defer func() { err = errors.Join(err, decoder.Close()) }()
	whole := fields{open: coded.Deinterlace}
	defer func() { err = errors.Join(err, whole.close()) }()
	from := gop[len(gop)-1].DTS
	good, seq := clock.Now(), uint32(0)
	one := func(pkt *media.Packet) error {
		frames, err := decoder.Decode(pkt)
		for i, f := range frames {
			good = clock.Now()
			seq++
			if f.PTS < from {
				f.Release()
				continue
			}
			f.Seq = seq
			f.Format.Rate = format.Rate
			if err := whole.convert(ctx, f, show); err != nil {
				for _, f := range frames[i+1:] {
					f.Release()
				}
				return err
			}
		}
		if err != nil && clock.Now()-good > badLimit {
			return err
		}
		if len(frames) > 0 {
			p.health.Clear(decoderDown, "")
		}
		return nil // damage ends with the next key frame
	}
	for _, pkt := range gop {
		if err := one(pkt); err != nil || ctx.Err() != nil {
			return err
		}
	}
	for {
		pkt, err := queue.Pull(ctx)
		if err != nil {
			if ctx.Err() != nil || errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
		if err := one(pkt); err != nil {
			return err
		}
	}
}
