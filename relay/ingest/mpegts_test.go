package ingest_test

import (
	"bytes"
	"io"
	"slices"
	"testing"
	"time"

	"github.com/bluenviron/mediacommon/v2/pkg/codecs/mpeg4audio"
	"github.com/bluenviron/mediacommon/v2/pkg/formats/mpegts"
	"github.com/bluenviron/mediacommon/v2/pkg/formats/mpegts/codecs"

	"gantry/media"
	"gantry/relay"
	"gantry/relay/ingest"
)

var (
	vps265 = []byte{0x40, 0x01, 0x0c, 0x01}
	sps265 = []byte{0x42, 0x01, 0x01, 0x01, 0x60, 0x00, 0x00, 0x03, 0x00, 0x90, 0x00, 0x00, 0x03, 0x00, 0x00, 0x03, 0x00, 0x78, 0xa0, 0x03,
		0xc0, 0x80, 0x10, 0xe5, 0x96, 0x66, 0x69, 0x24, 0xca, 0xe0, 0x10, 0x00, 0x00, 0x03, 0x00, 0x10, 0x00, 0x00, 0x03, 0x01, 0xe0, 0x80}
	pps265 = []byte{0x44, 0x01, 0xc1, 0x72, 0xb4, 0x62, 0x40}
	idr265 = []byte{0x26, 0x01, 0xaf, 0x08}
)

// sent is one programme as it was sent, from the given time on: n pictures 33 ms apart, a key frame every 10.
func sent(t testing.TB, from time.Duration, n int, video codecs.Codec, sound bool) []byte {
	t.Helper()
	var b bytes.Buffer
	v := &mpegts.Track{Codec: video}
	tracks := []*mpegts.Track{v}
	a := &mpegts.Track{Codec: &codecs.MPEG4Audio{Config: mpeg4audio.AudioSpecificConfig{Type: mpeg4audio.ObjectTypeAACLC, SampleRate: 48000, ChannelConfig: 2, ChannelCount: 2}}}
	if sound {
		tracks = append(tracks, a)
	}
	w := &mpegts.Writer{W: &b, Tracks: tracks}
	if err := w.Initialize(); err != nil {
		t.Fatal(err)
	}
	for i := range n {
		at := (int64(from*9/100_000) + int64(i)*2970) & (1<<33 - 1)
		var err error
		switch long := append(bytes.Clone(slice), make([]byte, 400)...); {
		case video.IsVideo() && i%10 == 0:
			if _, ok := video.(*codecs.H265); ok {
				err = w.WriteH265(v, at, at, [][]byte{vps265, sps265, pps265, idr265})
			} else {
				err = w.WriteH264(v, at, at, [][]byte{sps, pps, append(bytes.Clone(idr), make([]byte, 400)...)})
			}
		default:
			if _, ok := video.(*codecs.H265); ok {
				err = w.WriteH265(v, at, at, [][]byte{{0x02, 0x01, 0xd0, 0x09}})
			} else {
				err = w.WriteH264(v, at, at, [][]byte{bytes.ReplaceAll(long, []byte{0, 0}, []byte{7, 7})})
			}
		}
		if err == nil && sound {
			err = w.WriteMPEG4Audio(a, at, [][]byte{{1, 2, 3, 4}})
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return b.Bytes()
}

// played is what came of a stream.
type played struct {
	packets      []media.Packet  // that a subscriber got who comes anew when it must
	tracks       [][]media.Track // at each of its comings
	codes        []string        // of the faults that were named
	publications []string        // their ids
}

// play publishes ts.
func play(t *testing.T, ts []byte) (out played) {
	t.Helper()
	hub := relay.NewHub(relay.Default(), quiet)
	defer hub.Close()
	r, w := io.Pipe()
	ended := make(chan error, 1)
	go func() {
		ended <- ingest.ReadTS(r, hub, "a", relay.Publisher{}, quiet)
		_ = r.Close()
	}()
	var sub *relay.Subscription
	pull := func() {
		for {
			if sub == nil {
				var err error
				if sub, err = hub.Subscribe("a", relay.Want{}); err != nil {
					return
				}
				out.tracks = append(out.tracks, sub.Tracks())
			}
			packets, err := sub.Take(nil)
			for _, p := range packets {
				out.packets = append(out.packets, *p)
			}
			if err != nil {
				_ = sub.Close()
				sub = nil
				continue
			}
			if len(packets) == 0 {
				return
			}
		}
	}
	for len(ts) > 0 {
		n := min(188, len(ts))
		if _, err := w.Write(ts[:n]); err != nil {
			t.Fatal(err)
		}
		ts = ts[n:]
		pull()
		for _, s := range hub.Streams() {
			for _, p := range s.Publishers {
				if !slices.Contains(out.publications, p.ID) {
					out.publications = append(out.publications, p.ID)
				}
				for _, f := range p.Faults {
					if !slices.Contains(out.codes, f.Code) {
						out.codes = append(out.codes, f.Code)
					}
				}
			}
		}
	}
	_ = w.Close()
	if err := <-ended; err != io.EOF {
		t.Fatal(err)
	}
	pull()
	if sub != nil {
		_ = sub.Close()
	}
	return out
}

func pictures(got []media.Packet) (n, keys, lost int) {
	for _, p := range got {
		if p.Track == 0 {
			n++
			if p.Key {
				keys++
			}
			if p.Lost {
				lost++
			}
		}
	}
	return n, keys, lost
}

// rising checks that the decoding times of each track rise, and never by more than half a second.
func rising(t *testing.T, got []media.Packet) {
	t.Helper()
	last := map[uint8]time.Duration{}
	for i, p := range got {
		if before, ok := last[p.Track]; ok && (p.DTS <= before || p.DTS > before+time.Second/2) {
			t.Errorf("packet %d of track %d comes %v after the one before", i, p.Track, p.DTS-before)
		}
		last[p.Track] = p.DTS
	}
}

// without drops the n-th packet from the middle of a picture.
func without(ts []byte, n int) []byte {
	return slices.Concat(ts[:n*188], ts[(n+1)*188:])
}

func TestMissingPacketsAreNamed(t *testing.T) {
	whole := sent(t, 0, 40, &codecs.H264{}, false)
	out := play(t, whole)
	if n, keys, lost := pictures(out.packets); n < 39 || keys != 4 || lost != 0 || len(out.codes) != 0 {
		t.Fatalf("%d pictures, %d key frames, %d lost, faults %v", n, keys, lost, out.codes)
	}
	out = play(t, without(whole, 61))
	if n, keys, lost := pictures(out.packets); n < 37 || keys < 3 || lost != 1 || !slices.Equal(out.codes, []string{"mpeg-ts"}) {
		t.Errorf("a packet less: %d pictures, %d key frames, %d lost, faults %v", n, keys, lost, out.codes)
	}
	noisy := slices.Concat(whole[:60*188], bytes.Repeat([]byte("noise"), 100), whole[60*188:])
	out = play(t, noisy)
	if n, keys, lost := pictures(out.packets); n < 38 || keys != 4 || lost > 1 || !slices.Contains(out.codes, "mpeg-ts") {
		t.Errorf("noise: %d pictures, %d key frames, %d lost, faults %v", n, keys, lost, out.codes)
	}
}

func TestProgrammeChanges(t *testing.T) {
	first := sent(t, 0, 30, &codecs.H264{}, false)
	for _, c := range []struct {
		name   string
		second []byte
		tracks [][]media.Codec
		codes  []string
	}{
		{"sound joins", sent(t, time.Second, 30, &codecs.H264{}, true), [][]media.Codec{{media.H264}, {media.H264, media.AAC}}, []string{"programme"}},
		{"another codec", sent(t, time.Second, 30, &codecs.H265{}, false), [][]media.Codec{{media.H264}, {media.H265}}, []string{"programme"}},
		{"the same from another start", sent(t, time.Hour, 30, &codecs.H264{}, false), [][]media.Codec{{media.H264}}, []string{"timestamps"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			out := play(t, slices.Concat(first, c.second))
			var seen [][]media.Codec
			for _, ts := range out.tracks {
				var names []media.Codec
				for _, t := range ts {
					names = append(names, t.Codec)
				}
				seen = append(seen, names)
			}
			for _, want := range c.codes {
				if !slices.Contains(out.codes, want) {
					t.Errorf("faults %v, want %v", out.codes, c.codes)
				}
			}
			if len(seen) != len(c.tracks) {
				t.Fatalf("a viewer saw %v, want %v", seen, c.tracks)
			}
			for i := range seen {
				if !slices.Equal(seen[i], c.tracks[i]) {
					t.Errorf("a viewer saw %v, want %v", seen, c.tracks)
				}
			}
			if n, keys, _ := pictures(out.packets); n < 55 || keys != 6 {
				t.Errorf("%d pictures, %d key frames of 60 and 6", n, keys)
			}
			rising(t, out.packets)
		})
	}
}
