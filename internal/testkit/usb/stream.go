package usb

import (
	"encoding/binary"
	"math"
	"slices"
	"time"
)

// A pipe is an endpoint with data: requests wait until there is something to send. Its fields are guarded by dev.mu.
type pipe struct {
	waiting []*request
	running bool
	quit    chan struct{} // ends the stream's goroutine
	more    chan struct{} // a request came
}

func (p *pipe) remove(r *request) {
	p.waiting = slices.DeleteFunc(p.waiting, func(w *request) bool { return w == r })
}

// stop ends the stream; what waits is left to the host to take back.
func (p *pipe) stop() {
	if p.running {
		close(p.quit)
		p.running = false
	}
}

func (d *dev) pipe(ep uint32) *pipe {
	if ep == videoEndpoint {
		return &d.video
	}
	return &d.audio
}

// submit keeps a request until its stream has data.
func (d *dev) submit(r *request) {
	d.mu.Lock()
	defer d.mu.Unlock()
	p := d.pipe(r.ep)
	d.pending[r.seq] = r
	p.waiting = append(p.waiting, r)
	select {
	case <-d.quit:
		return
	default:
	}
	if !p.running {
		p.running, p.quit, p.more = true, make(chan struct{}), make(chan struct{}, 1)
		stream := d.streamSound
		if r.ep == videoEndpoint {
			d.streams++
			stream = d.streamPictures
			if d.camera.Isochronous {
				stream = d.streamPackets
			}
		}
		quit, more := p.quit, p.more
		d.work.Go(func() { stream(quit, more) })
	}
	select {
	case p.more <- struct{}{}:
	default:
	}
}

// take waits for a request; nil when the stream ends.
func (d *dev) take(p *pipe, quit, more <-chan struct{}) *request {
	for {
		d.mu.Lock()
		ended := p.quit != quit
		if len(p.waiting) > 0 && !ended {
			r := p.waiting[0]
			p.waiting = p.waiting[1:]
			d.mu.Unlock()
			return r
		}
		d.mu.Unlock()
		if ended {
			return nil
		}
		select {
		case <-more:
		case <-quit:
			return nil
		}
	}
}

const (
	payloadHeader = 2 // UVC 1.1 §2.4.3.3: its length and its bits

	frameID    = 1 << 0 // toggles with each picture
	endOfFrame = 1 << 1
	headerEnd  = 1 << 7
)

// streamPictures sends pictures at the rate that was committed. A picture that the host does not fetch in time delays the next.
func (d *dev) streamPictures(quit, more <-chan struct{}) {
	f, interval := d.chosen()
	clock := time.NewTimer(0)
	defer clock.Stop()
	for n, due := 0, time.Now(); ; n++ {
		due = due.Add(interval)
		clock.Reset(time.Until(due))
		select {
		case <-clock.C:
		case <-quit:
			return
		}
		bits := byte(headerEnd | n%2*frameID)
		left := d.camera.Picture(f, n)
		if left == nil {
			<-quit
			return
		}
		for {
			r := d.take(&d.video, quit, more)
			if r == nil {
				return
			}
			part := min(len(left), r.length-payloadHeader-1) // one byte less than fits: a short transfer ends the payload
			last := part == len(left)
			if last {
				bits |= endOfFrame
			}
			d.answer(r, append([]byte{payloadHeader, bits}, left[:part]...))
			if left = left[part:]; last {
				break
			}
		}
	}
}

// microframe is the time of one packet.
const microframe = 125 * time.Microsecond

// streamPackets sends pictures in isochronous packets: what the host does not ask for in time is late, not lost.
func (d *dev) streamPackets(quit, more <-chan struct{}) {
	f, interval := d.chosen()
	clock := time.NewTimer(0)
	defer clock.Stop()
	began := time.Now()
	var left []byte
	sending := false
	for n, packets := 0, 0; ; {
		r := d.take(&d.video, quit, more)
		if r == nil {
			return
		}
		clock.Reset(time.Until(began.Add(time.Duration(packets+len(r.packets)) * microframe)))
		select {
		case <-clock.C:
		case <-quit:
			return
		}
		parts := make([][]byte, len(r.packets))
		for i, p := range r.packets {
			if at := time.Duration(packets+i) * microframe; !sending && at >= time.Duration(n)*interval {
				if left, sending = d.camera.Picture(f, n), true; left == nil {
					<-quit
					return
				}
			}
			if !sending {
				continue // nothing in this one
			}
			part := min(len(left), int(p.length)-payloadHeader)
			bits := byte(headerEnd | n%2*frameID)
			if part == len(left) {
				bits |= endOfFrame
				sending = false
				n++
			}
			parts[i] = append([]byte{payloadHeader, bits}, left[:part]...)
			left = left[part:]
		}
		packets += len(r.packets)
		d.answer(r, parts...)
	}
}

// Tone is the frequency of the microphone's sound, in Hz.
const Tone = 1000

// streamSound sends sound as it would be sampled.
func (d *dev) streamSound(quit, more <-chan struct{}) {
	clock := time.NewTimer(0)
	defer clock.Stop()
	sample, due := 0, time.Now()
	for {
		r := d.take(&d.audio, quit, more)
		if r == nil {
			return
		}
		due = due.Add(time.Duration(len(r.packets)) * time.Millisecond)
		clock.Reset(time.Until(due))
		select {
		case <-clock.C:
		case <-quit:
			return
		}
		parts := make([][]byte, len(r.packets))
		for i := range parts {
			for range sampleRate / 1000 {
				v := uint16(int16(16384 * math.Sin(2*math.Pi*Tone*float64(sample)/sampleRate)))
				parts[i] = binary.LittleEndian.AppendUint16(binary.LittleEndian.AppendUint16(parts[i], v), v)
				sample++
			}
		}
		d.answer(r, parts...)
	}
}
