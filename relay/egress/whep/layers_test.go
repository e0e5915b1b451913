package whep_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pion/rtp"
	"github.com/pion/webrtc/v4"

	"gantry/internal/testkit"
	"gantry/media"
	"gantry/media/h264"
	"gantry/media/packing"
	"gantry/relay"
)

// A layered publisher sends one picture in three layers, as a simulcast encoder does: the larger, the more SEI, which also
// tells which one it is.
type layered struct {
	pub    *relay.Publication
	pts    time.Duration
	silent atomic.Int64 // bit set of layers that are paused
	frame  [3]int
	pack   [3]packing.Converter
	mu     sync.Mutex
	stop   context.CancelFunc
	done   chan struct{}
}

var layerNames = [3]string{"l", "m", "h"}

func publishLayers(t *testing.T, hub *relay.Hub) *layered {
	units, err := video()
	if err != nil {
		t.Fatal("ffmpeg: ", err)
	}
	p := &layered{done: make(chan struct{})}
	var tracks []media.Track
	for i, n := range []int{2, 0, 1} { // the offer's order says nothing
		track := videoTrack
		track.RID, track.Width, track.Height = layerNames[n], 320<<n, 180<<n
		tracks = append(tracks, track)
		track.Packing = media.AccessUnits
		if p.pack[i], err = packing.New(track, media.RTP); err != nil {
			t.Fatal(err)
		}
	}
	tracks = append(tracks, audioTrack)
	p.pub, err = hub.Publish("demo", relay.Publisher{Tracks: tracks, Protocol: "test", Feedback: func(f media.Feedback) {
		for i, n := range []int{2, 0, 1} {
			if f.KeyFrame && f.Tracks&(1<<i) != 0 {
				p.mu.Lock()
				p.frame[n] = 0
				p.mu.Unlock()
			}
		}
	}})
	if err != nil {
		t.Fatal(err)
	}
	var ctx context.Context
	ctx, p.stop = context.WithCancel(context.Background())
	write := func() {
		for i, n := range []int{2, 0, 1} {
			p.mu.Lock()
			unit := units[p.frame[n]%len(units)]
			p.frame[n]++
			p.mu.Unlock()
			if p.silent.Load()&(1<<n) != 0 {
				continue
			}
			au := append([]byte(nil), unit...)
			for range 1 << (2 * n) {
				au = h264.Append(au, append([]byte{6, 200 + byte(n)}, bytes.Repeat([]byte{0xff}, 1000)...))
			}
			pts := p.pts + time.Duration(n)*7*time.Millisecond // each layer's clock began when its first packet came
			for _, q := range p.pack[i].Convert(nil, &media.Packet{PTS: pts, DTS: pts, Start: true, End: true, Key: h264.HasIDR(au), Data: au}) {
				moved := *q
				moved.Track = uint8(i)
				p.pub.Write(&moved)
			}
		}
		p.pub.Write(&media.Packet{Track: 3, PTS: p.pts, DTS: p.pts, Start: true, End: true, Data: []byte{0xfc, 0xff, 0xfe}})
		p.pts += time.Second / 30
	}
	write()
	go func() {
		defer close(p.done)
		tick := time.NewTicker(time.Second / 30)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
				write()
			}
		}
	}()
	t.Cleanup(func() {
		p.stop()
		<-p.done
		_ = p.pub.Close()
	})
	return p
}

// layerOf returns the layer that a packet shows, -1 when it shows none.
func layerOf(p *rtp.Packet) int {
	if len(p.Payload) > 1000 && p.Payload[0]&31 == 6 && p.Payload[1] >= 200 {
		return int(p.Payload[1]) - 200
	}
	return -1
}

// layer returns the layer of the newest packets.
func (c *client) layer() int {
	packets := c.packets()
	for i := len(packets) - 1; i >= 0; i-- {
		if n := layerOf(packets[i]); n >= 0 {
			return n
		}
	}
	return -1
}

// unbroken checks that the video has one sequence and one timeline, and that each layer goes on at a key frame.
func (c *client) unbroken() (switches int) {
	c.t.Helper()
	layer, fresh := -1, -1 // fresh: the newest packet that begins a key frame
	unit := 0
	var last uint32
	packets := c.packets()
	for i, q := range packets {
		if i > 0 {
			before := packets[i-1]
			if q.SequenceNumber != before.SequenceNumber+1 {
				c.t.Fatalf("sequence number %d after %d", q.SequenceNumber, before.SequenceNumber)
			}
			step := int32(q.Timestamp - before.Timestamp)
			if before.Marker != (step > 0) || step > 90000*3/2 { // a pause is noticed within a second
				c.t.Fatalf("RTP time goes by %d after a packet with marker %v", step, before.Marker)
			}
		}
		if q.Timestamp != last {
			unit, last = i, q.Timestamp
			if startsKey(q.Payload) {
				fresh = i
			}
		}
		if n := layerOf(q); n >= 0 && n != layer {
			if layer >= 0 {
				switches++
				if fresh != unit {
					c.t.Errorf("layer %d goes on without a key frame", n)
				}
			}
			layer = n
		}
	}
	return switches
}

// events reads an event stream and returns the newest data of each event, and how often it came.
type events struct {
	mu   sync.Mutex
	data map[string]string
	n    map[string]int
}

func (e *events) last(name string) (string, int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.data[name], e.n[name]
}

func (b *bench) listen(t *testing.T, url string) *events {
	ctx, cancel := context.WithCancel(context.Background())
	r, _ := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	resp, err := http.DefaultClient.Do(r)
	if err != nil || resp.Header.Get("Content-Type") != "text/event-stream" {
		t.Fatal(err, resp)
	}
	e := &events{data: map[string]string{}, n: map[string]int{}}
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer resp.Body.Close()
		name := ""
		for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
			if v, ok := strings.CutPrefix(lines.Text(), "event: "); ok {
				name = v
			} else if v, ok := strings.CutPrefix(lines.Text(), "data: "); ok {
				e.mu.Lock()
				e.data[name] = v
				e.n[name]++
				e.mu.Unlock()
			}
		}
	}()
	t.Cleanup(func() {
		cancel()
		<-done
	})
	return e
}

func TestLayers(t *testing.T) {
	t.Parallel()
	b := newBench(t, nil)
	p := publishLayers(t, b.hub)
	c := b.play(t, "demo", clientOptions{interceptor: true})
	other := b.play(t, "demo", clientOptions{interceptor: true})

	post := func(url, body string, want int) http.Header {
		t.Helper()
		status, header, text := b.do(t, http.MethodPost, url, "application/json", body, nil)
		if status != want {
			t.Fatalf("POST %s: %d %s, want %d", body, status, text, want)
		}
		return header
	}
	post(c.location+"/events", `["layers", "nonsense"]`, http.StatusBadRequest)
	post(c.location+"/events", `[]`, http.StatusBadRequest)
	feed := b.url + post(c.location+"/events", `["active","inactive","layers","viewercount","reconnect"]`, http.StatusCreated).Get("Location")
	e := b.listen(t, feed)

	on := func(what string, layer int) {
		t.Helper()
		begun := time.Now()
		testkit.Eventually(t, 20*time.Second, what, func() bool { return c.layer() == layer })
		t.Logf("%s: after %v", what, time.Since(begun).Round(time.Millisecond))
	}
	on("the best layer at first", 2)
	testkit.Eventually(t, 20*time.Second, "the layers with their bit rates", func() bool {
		data, _ := e.last("layers")
		var sections map[string][]struct {
			RID                    string
			Bitrate, Width, Height int
			Current                bool
		}
		_ = json.Unmarshal([]byte(data), &sections)
		all := sections["0"]
		return len(all) == 3 && all[0].RID == "h" && all[0].Current && all[0].Width == 1280 && all[1].Height == 180 &&
			all[0].Bitrate > all[2].Bitrate && all[2].Bitrate > all[1].Bitrate && all[1].Bitrate > 100_000
	})

	post(c.location+"/layer", `{"mediaId":"0","rid":"l"}`, http.StatusOK)
	on("the smallest, by its RID", 0)
	post(c.location+"/layer", `{"maxHeight":400}`, http.StatusOK)
	on("the middle one, by its size", 1)
	post(c.location+"/layer", `{"rid":"x"}`, http.StatusUnprocessableEntity)
	post(c.location+"/layer", `nonsense`, http.StatusBadRequest)
	post(c.location+"/layer", `{}`, http.StatusOK)
	on("the best layer, automatically", 2)
	p.silent.Store(1 << 2)
	on("the next, as the best is paused", 1)
	p.silent.Store(0)
	on("the best layer again", 2)

	// On a busy machine a viewer may be moved for its round trip time besides.
	if n := c.unbroken(); n < 5 {
		t.Errorf("%d switches", n)
	}
	if n := other.unbroken(); n < 2 {
		t.Errorf("the other viewer had %d switches", n)
	}

	data, _ := e.last("viewercount")
	if data != `{"viewercount":2}` {
		t.Errorf("viewer count %s", data)
	}
	if _, n := e.last("inactive"); n != 0 {
		t.Error("inactive while it is not")
	}
	p.silent.Store(7)
	p.stop()
	testkit.Eventually(t, 5*time.Second, "the stream is inactive", func() bool { _, n := e.last("inactive"); return n == 1 })
	status, _, _ := b.do(t, http.MethodDelete, feed, "", "", nil)
	if again, _, _ := b.do(t, http.MethodGet, feed, "", "", nil); status != http.StatusOK || again != http.StatusNotFound {
		t.Errorf("DELETE %d, then GET %d", status, again)
	}
	if n := c.pc.ConnectionState(); n != webrtc.PeerConnectionStateConnected {
		t.Errorf("the viewer is %v", n)
	}
}
