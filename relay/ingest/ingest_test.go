package ingest_test

import (
	"bytes"
	"io"
	"log/slog"
	"testing"
	"time"

	"github.com/bluenviron/mediacommon/v2/pkg/formats/mpegts/codecs"

	"gantry/internal/testkit"
	"gantry/media"
	"gantry/relay"
	"gantry/relay/ingest"
)

func TestMain(m *testing.M) { testkit.Main(m) }

var (
	quiet = slog.New(slog.DiscardHandler)
	sps   = []byte{0x67, 0x42, 0xc0, 0x1f, 0xd9, 0x00, 0xf0, 0x11, 0x7e, 0xf0, 0x11, 0x00, 0x00, 0x03, 0x00, 0x01, 0x00, 0x00, 0x03, 0x00, 0x3c, 0x8f, 0x18, 0x31, 0x92}
	pps   = []byte{0x68, 0xcb, 0x83, 0xcb, 0x20}
	idr   = []byte{0x65, 0x88, 0x84, 0x01, 0x02}
	slice = []byte{0x41, 0x9a, 0x01, 0x02}
)

func newFeed(t *testing.T, tracks ...media.Track) (*relay.Hub, *ingest.Feed) {
	t.Helper()
	hub := relay.NewHub(relay.Default(), quiet)
	t.Cleanup(func() { hub.Close() })
	f, err := ingest.NewFeed(hub, "a", relay.Publisher{Tracks: tracks})
	if err != nil {
		t.Fatal(err)
	}
	return hub, f
}

func faults(hub *relay.Hub) (codes []string) {
	for _, f := range hub.Streams()[0].Publishers[0].Faults {
		codes = append(codes, f.Code)
	}
	return codes
}

func TestClockFaultsAreMended(t *testing.T) {
	video := media.Track{Codec: media.H264, ClockRate: 90000}
	audio := media.Track{Codec: media.AAC, ClockRate: 48000, Channels: 2}
	for _, c := range []struct {
		name    string
		ms      []int // decoding times of the pictures; a sound precedes each
		repairs int
	}{
		{"steady", []int{0, 33, 66, 100}, 0},
		{"one step back", []int{0, 33, 20, 66}, 1},
		{"repeated", []int{0, 33, 33, 66}, 1},
		{"jump ahead", []int{0, 33, 3_600_066, 3_600_100}, 1},
		{"jump back", []int{3_600_000, 3_600_033, 0, 33}, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			hub, f := newFeed(t, video, audio)
			var sub *relay.Subscription
			for i, ms := range c.ms {
				at := time.Duration(ms) * time.Millisecond
				nalus := [][]byte{slice}
				if i == 0 {
					nalus = [][]byte{sps, pps, idr}
				}
				f.Video(0, at, at, nalus)
				f.Audio(1, at+time.Millisecond, []byte{1})
				if i == 0 {
					sub, _ = hub.Subscribe("a", relay.Want{})
				}
			}
			var last [2]time.Duration
			pictures := 0
			for pictures < len(c.ms) {
				packets, err := sub.Pull(t.Context(), nil)
				if err != nil {
					t.Fatal(err)
				}
				for i, p := range packets {
					if d := p.DTS - last[p.Track]; last[p.Track] != 0 && (d <= 0 || d > time.Second) {
						t.Errorf("packet %d of track %d comes %v after the one before", i, p.Track, d)
					}
					last[p.Track] = p.DTS
					if p.Track == 0 {
						pictures++
					}
				}
			}
			if d := last[1] - last[0]; d < 0 || d > 20*time.Millisecond {
				t.Errorf("sound lies %v after the picture", d)
			}
			if got := f.Repairs(); (got == 0) != (c.repairs == 0) || got > 2*c.repairs {
				t.Errorf("%d repairs", got)
			}
			if (len(faults(hub)) == 0) != (c.repairs == 0) {
				t.Errorf("faults %v", faults(hub))
			}
		})
	}
}

func TestParameterSetsAreRepeated(t *testing.T) {
	hub, f := newFeed(t, media.Track{Codec: media.H264, ClockRate: 90000})
	f.Video(0, 0, 0, [][]byte{sps, pps, idr})
	sub, err := hub.Subscribe("a", relay.Want{})
	if err != nil {
		t.Fatal(err)
	}
	if tr := sub.Tracks()[0]; tr.Width != 960 || tr.Profile != "42c01f" {
		t.Errorf("track %+v", tr)
	}
	f.Video(0, time.Second, time.Second, [][]byte{idr})
	var got []*media.Packet
	for len(got) < 2 {
		if got, err = sub.Pull(t.Context(), got); err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(got[0].Data, got[1].Data) || !got[1].Key {
		t.Fatalf("the second key frame is %x", got[1].Data)
	}
}

func TestKeyFramesWithoutParameterSetsAreNamed(t *testing.T) {
	hub, f := newFeed(t, media.Track{Codec: media.H264, ClockRate: 90000})
	f.Video(0, 0, 0, [][]byte{idr})
	if got := faults(hub); len(got) != 1 || got[0] != "parameter-sets" {
		t.Fatal(got)
	}
}

// Another size in mid-stream: the same viewers go on, and are told.
func TestSizeChanges(t *testing.T) {
	hub, f := newFeed(t, media.Track{Codec: media.H264, ClockRate: 90000})
	f.Video(0, 0, 0, [][]byte{sps, pps, idr})
	sub, err := hub.Subscribe("a", relay.Want{})
	if err != nil {
		t.Fatal(err)
	}
	f.Video(0, 40*time.Millisecond, 40*time.Millisecond, [][]byte{otherSize, pps, idr})
	testkit.Eventually(t, time.Second, "the new size is known", func() bool { return sub.Tracks()[0].Width == 640 })
	got, err := sub.Pull(t.Context(), nil)
	for err == nil && len(got) < 2 {
		got, err = sub.Pull(t.Context(), got)
	}
	if err != nil || !got[1].Key || !bytes.Contains(got[1].Data, otherSize) {
		t.Errorf("%v: %+v", err, got)
	}
}

func TestGuard(t *testing.T) {
	var none []byte
	if err := ingest.Guard(quiet, func() error { _ = none[len(none)]; return nil }); err == nil {
		t.Error("a panic is no error")
	}
	if err := ingest.Guard(quiet, func() error { return io.EOF }); err != io.EOF {
		t.Error(err)
	}
}

func FuzzReadTS(f *testing.F) {
	f.Add(sent(f, 0, 12, &codecs.H264{}, true))
	f.Add(sent(f, wrap-time.Second/10, 12, &codecs.H264{}, false)[:1000])
	f.Fuzz(func(t *testing.T, b []byte) {
		hub := relay.NewHub(relay.Default(), quiet)
		defer hub.Close()
		if err := ingest.ReadTS(io.NopCloser(bytes.NewReader(b)), hub, "a", relay.Publisher{}, quiet); err == nil || err == io.ErrNoProgress {
			t.Fatal(err)
		}
	})
}
