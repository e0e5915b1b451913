package whep_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"io"
	"log/slog"
	"os/exec"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pion/rtp/codecs"

	"gantry/internal/testkit"
	"gantry/media"
	"gantry/media/h264"
	"gantry/media/packing"
	"gantry/relay"
)

func TestMain(m *testing.M) { testkit.Main(m) }

var quiet = slog.New(slog.NewTextHandler(io.Discard, nil))

// video is the test's picture: four seconds at 30 frames a second, a key frame every two, four slices a picture.
var video = sync.OnceValues(func() ([][]byte, error) {
	cmd := exec.Command("ffmpeg", "-v", "error", "-f", "lavfi", "-i", "testsrc2=size=320x180:rate=30:duration=4",
		"-c:v", "libx264", "-profile:v", "baseline", "-tune", "zerolatency", "-g", "60", "-keyint_min", "60", "-b:v", "500k",
		"-pix_fmt", "yuv420p", "-x264-params", "aud=1:slices=4:scenecut=0", "-f", "h264", "-")
	out, err := cmd.Output()
	if err != nil {
		return nil, err
	}
	var units [][]byte
	for nalu := range h264.NALUs(out) {
		if h264.TypeOf(nalu) == 9 { // access unit delimiter
			units = append(units, nil)
			continue
		}
		if n := len(units); n > 0 {
			units[n-1] = h264.Append(units[n-1], nalu)
		}
	}
	return units, nil
})

var (
	videoTrack = media.Track{Codec: media.H264, Packing: media.RTP, ClockRate: 90000, Width: 320, Height: 180, Profile: "42c00d"}
	audioTrack = media.Track{Codec: media.Opus, Packing: media.RTP, ClockRate: 48000, Channels: 2}
)

// A publisher writes the picture and a silent sound into a Hub in real time, as long as the test runs.
type publisher struct {
	pub     *relay.Publication
	key     atomic.Bool // a key frame is wanted
	Asked   atomic.Int64
	Obeys   bool // it makes a key frame when asked
	Repeat  int  // each packet but the first and last is sent so many times: a high bit rate that nobody decodes
	frame   int
	pts     time.Duration
	start   time.Time
	cancel  context.CancelFunc
	stopped chan struct{}
	mu      sync.Mutex
	frames  [][]byte // the NAL units that were sent, by access unit
	units   [][]byte
	convert packing.Converter
}

// publish starts a publisher of video and audio. configure may change it before it starts.
func publish(t testing.TB, hub *relay.Hub, name string, configure func(*publisher)) *publisher {
	t.Helper()
	units, err := video()
	if err != nil {
		t.Fatal("ffmpeg: ", err)
	}
	p := &publisher{units: units, Obeys: true, stopped: make(chan struct{}), start: time.Now()}
	if configure != nil {
		configure(p)
	}
	source := videoTrack
	source.Packing = media.AccessUnits
	if p.convert, err = packing.New(source, media.RTP); err != nil {
		t.Fatal(err)
	}
	p.pub, err = hub.Publish(name, relay.Publisher{Tracks: []media.Track{videoTrack, audioTrack}, Protocol: "test",
		Feedback: func(f media.Feedback) {
			if f.KeyFrame {
				p.Asked.Add(1)
				p.key.Store(true)
			}
		}})
	if err != nil {
		t.Fatal(err)
	}
	var ctx context.Context
	ctx, p.cancel = context.WithCancel(context.Background())
	p.write()
	go p.run(ctx)
	t.Cleanup(p.close)
	return p
}

func (p *publisher) run(ctx context.Context) {
	defer close(p.stopped)
	ticker := time.NewTicker(time.Second / 30)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			p.write()
		}
	}
}

// write publishes one picture and the sound that goes with it.
func (p *publisher) write() {
	if p.key.Swap(false) && p.Obeys {
		p.frame = 0
	}
	au := p.units[p.frame%len(p.units)]
	p.frame++
	p.pub.Sync(0, p.pts, p.start.Add(p.pts))
	whole := &media.Packet{PTS: p.pts, DTS: p.pts, Start: true, End: true, Key: h264.HasIDR(au), Data: au}
	var sent []byte
	var decode codecs.H264Packet
	for _, q := range p.convert.Convert(nil, whole) {
		times := 1
		if !q.Start && !q.End {
			times = max(1, p.Repeat)
		}
		for range times {
			sent = depacketized(sent, &decode, q.Data)
			p.pub.Write(q)
		}
	}
	p.mu.Lock()
	p.frames = append(p.frames, sent)
	p.mu.Unlock()
	p.pub.Write(&media.Packet{Track: 1, PTS: p.pts, DTS: p.pts, Start: true, End: true, Data: []byte{0xfc, 0xff, 0xfe}})
	p.mu.Lock()
	// A busy machine misses ticks; the stream's time goes on all the same.
	p.pts = max(p.pts+time.Second/30, time.Since(p.start)/(time.Second/30)*(time.Second/30))
	p.mu.Unlock()
}

// now returns how far the stream has come.
func (p *publisher) now() time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.pts
}

// depacketized appends the NAL units that payload ends to dst: the relay may cut them in other places than the publisher.
func depacketized(dst []byte, d *codecs.H264Packet, payload []byte) []byte {
	b, err := d.Unmarshal(payload)
	if err != nil {
		return append(dst, "not H.264"...)
	}
	return append(dst, b...)
}

// sent tells whether an access unit with these NAL units was published.
func (p *publisher) sent(units []byte) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i := len(p.frames) - 1; i >= 0; i-- {
		if bytes.Equal(p.frames[i], units) {
			return true
		}
	}
	return false
}

func (p *publisher) close() {
	p.cancel()
	<-p.stopped
	_ = p.pub.Close()
}

// startsKey tells whether an RTP payload of H.264 begins a key frame: parameter sets in front of an IDR picture.
func startsKey(payload []byte) bool {
	if len(payload) < 4 {
		return false
	}
	switch t := h264.Type(payload[0] & 31); t {
	case 7, 5:
		return true
	case 24: // STAP-A
		return int(binary.BigEndian.Uint16(payload[1:])) < len(payload) && payload[3]&31 == 7
	case 28:
		return payload[1]&31 == 5
	}
	return false
}
