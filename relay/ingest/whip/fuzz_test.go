package whip

import (
	"os"
	"strings"
	"testing"
	"time"

	"github.com/pion/interceptor/pkg/twcc"
	"github.com/pion/rtcp"
	"github.com/pion/rtp"
	"github.com/pion/sdp/v3"

	"gantry/internal/rtc"
	"gantry/media"
)

const offerSeed = "testdata/chromium.sdp"

func FuzzParseOffer(f *testing.F) {
	offer, err := os.ReadFile(offerSeed)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(string(offer))
	f.Add(strings.ReplaceAll(string(offer), "a=simulcast:send h;l", "a=simulcast:send ~h,x;l recv y"))
	f.Add(strings.ReplaceAll(string(offer), "a=rid:h send", "a=rid:h send pt=96,97;max-width=1280"))
	f.Fuzz(func(t *testing.T, text string) {
		o, err := parseOffer(text)
		if err != nil {
			return
		}
		for _, s := range o.sections {
			if len(s.choices) == 0 || s.mid == "" || len(s.layers) > maxLayers {
				t.Fatalf("%+v", s)
			}
			for i := range s.choices {
				if info := s.choices[i].track(""); info.ClockRate < 1000 || info.Codec == media.NoCodec {
					t.Fatalf("track %+v", info)
				}
			}
		}
		answer, err := o.answer(rtc.Parameters{Ufrag: "ufrag", Pwd: "0123456789012345678901", Fingerprint: o.remote.Fingerprint}, false)
		if err != nil {
			t.Fatal(err)
		}
		var d sdp.SessionDescription
		if err := d.UnmarshalString(answer); err != nil {
			t.Fatalf("%v: answered\n%s", err, answer)
		}
		if len(d.MediaDescriptions) != len(o.sections) {
			t.Fatalf("%d sections in\n%s", len(d.MediaDescriptions), answer)
		}
	})
}

// Whatever comes, pieces go on in order, each once, and payloads inside their packet.
func FuzzPackets(f *testing.F) {
	f.Add(uint8(media.H264), []byte("\x00\x01\x02\x67\x42\x00\x01\x82\x65\x88"))
	f.Add(uint8(media.VP8), []byte("\x00\x01\x90\x10\x00\x00\x00\x9d\x01\x2a\x40\x01\xb4\x00"))
	for codec := media.H264; codec <= media.Opus; codec++ {
		f.Add(uint8(codec), []byte("\x00\x01\x03abc\x00\x02\x83def\x00\x05\x03ghi\x00\x03\x01x"))
	}
	f.Fuzz(func(t *testing.T, codec uint8, stream []byte) {
		c := choice{codec: media.Codec(codec%uint8(media.Opus)) + 1, nack: true}
		c.params.rate = 90000
		l := newLane(t, c)
		var last time.Duration
		open := false
		tr := l.s.tracks[0]
		written := tr.builder.write
		tr.builder.write = func(p *media.Packet) {
			if len(p.Data) == 0 || p.DTS < last {
				t.Fatalf("%+v after %v", p, last)
			}
			if p.End && !p.Start && !open {
				t.Fatal("an end without a start")
			}
			open = (open || p.Start) && !p.End
			last = p.DTS
			written(p)
		}
		for len(stream) > 3 { // sequence step, time step, marker and length, payload
			l.seq += uint16(int8(stream[0]))
			l.ts += uint32(int32(int8(stream[1])) * 1500)
			n := min(int(stream[2]&0x7f), len(stream)-3)
			l.now += 10 * time.Millisecond
			l.put(stream[3:3+n], stream[2]&0x80 != 0)
			stream = stream[3+n:]
		}
		l.now += time.Second
		l.s.mu.Lock()
		l.s.advance(tr, l.now)
		l.s.mu.Unlock()
		if len(tr.reorder.holes) > 0 {
			t.Fatalf("%d holes kept for ever", len(tr.reorder.holes))
		}
	})
}

// Whatever is decrypted, RTP or RTCP, nothing panics and the number of sources stays bounded.
func FuzzReceived(f *testing.F) {
	f.Add([]byte("\x90\x60\x00\x01\x00\x00\x00\x01\x00\x00\x00\x01\xbe\xde\x00\x01\x41\x00\x07\x00\x65\x88"))
	f.Add([]byte("\x80\x61\x00\x01\x00\x00\x00\x01\x00\x00\x00\x02\x00\x01\x65\x88"))
	f.Add([]byte("\x80\xc8\x00\x06\x00\x00\x00\x01\xe8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01\x00\x00\x00\x01\x00\x00\x00\x01"))
	f.Fuzz(func(t *testing.T, b []byte) {
		c := avc()
		c.rtx = &payload{number: 97}
		l := newLane(t, c)
		s := l.s
		s.born, s.sources = time.Now(), map[uint32]source{}
		s.transport, s.congestion = 4, twcc.NewRecorder(1)
		s.control(b)
		for i := range 4 {
			var h rtp.Header
			if _, err := h.Unmarshal(b); err != nil {
				return
			}
			s.media(b, &h)
			b[11] += byte(i) // its SSRC
		}
		if len(s.sources) > maxSources {
			t.Fatalf("%d sources", len(s.sources))
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		if _, err := rtcp.Marshal(append(s.congestion.BuildFeedbackPacket(), &rtcp.ReceiverReport{})); err != nil {
			t.Fatal(err)
		}
		s.reports(time.Hour)
	})
}

func FuzzReorder(f *testing.F) {
	f.Add([]byte{1, 1, 2, 0xff, 3, 4, 4})
	f.Fuzz(func(t *testing.T, steps []byte) {
		var r reorder
		seq, next, begun := uint16(65530), uint16(0), false
		now := time.Duration(0)
		for _, step := range steps {
			now += time.Millisecond
			seq += uint16(int8(step)) * 16
			if r.put(piece{seq: seq, arrival: now}) == leapt {
				begun = false
			}
			for {
				p, lost, ok := r.take(now - 20*time.Millisecond)
				if !ok {
					break
				}
				if begun && (int16(p.seq-next) < 0 || lost != (p.seq != next)) {
					t.Fatalf("%d where %d is next, lost %v", p.seq, next, lost)
				}
				next, begun = p.seq+1, true
			}
			for i, h := range r.holes {
				if int16(h.seq-r.next) < 0 || int16(h.seq-r.newest) >= 0 || i > 0 && int16(h.seq-r.holes[i-1].seq) <= 0 {
					t.Fatalf("hole %d at %d, between %d and %d", i, h.seq, r.next, r.newest)
				}
			}
		}
	})
}

func FuzzRTPPayload(f *testing.F) {
	f.Add([]byte("\x80\x60\x00\x01\x00\x00\x00\x01\x00\x00\x00\x01payload"))
	f.Add([]byte("\xb1\x60\x00\x01\x00\x00\x00\x01\x00\x00\x00\x01csrc\xbe\xde\x00\x01\x10\x00\x00\x00payload\x00\x02"))
	f.Fuzz(func(t *testing.T, b []byte) {
		payload, ok := rtpPayload(b)
		if ok && len(payload) > len(b)-12 {
			t.Fatalf("%d bytes out of %d", len(payload), len(b))
		}
		for codec := media.H264; codec <= media.Opus; codec++ {
			examine(codec, payload)
			if w, h, ok := pictureSize(codec, payload); ok && (w < 0 || h < 0) {
				t.Fatalf("%dx%d", w, h)
			}
		}
		captureTime(b)
	})
}
