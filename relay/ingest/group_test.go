package ingest_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"slices"
	"testing"
	"time"

	"gantry/media"
	"gantry/relay"
	"gantry/relay/ingest"
)

// Several feeds are layers of one stream: on one clock, with one sound; one that leaves and returns disturbs nobody.
func TestFeedsAsLayers(t *testing.T) {
	hub := relay.NewHub(relay.Default(), slog.New(slog.DiscardHandler))
	defer hub.Close()
	feed := func(layer string, more ...media.Track) *ingest.Feed {
		t.Helper()
		f, err := ingest.NewFeed(hub, "a", relay.Publisher{Protocol: "srt", Layer: layer,
			Tracks: append([]media.Track{{Codec: media.H264, ClockRate: 90000}}, more...)})
		if err != nil {
			t.Fatal(err)
		}
		return f
	}
	sound := media.Track{Codec: media.AAC, ClockRate: 48000, Channels: 2, Profile: "1190"}
	sps, pps, idr := []byte{0x67, 0x42, 0xc0, 0x0a, 0xdd, 0x7b, 0x01, 0x10}, []byte{0x68, 0xce, 0x3c, 0x80}, []byte{0x65, 0x88, 0x80, 0x10}
	high, low := feed("h", sound), feed("l", sound)
	if _, err := ingest.NewFeed(hub, "a", relay.Publisher{Layer: "l", Tracks: []media.Track{sound}}); !errors.Is(err, ingest.ErrLayerTaken) {
		t.Error(err)
	}
	var sub *relay.Subscription
	got := map[string][]time.Duration{}
	pull := func() {
		t.Helper()
		if sub == nil {
			var err error
			if sub, err = hub.Subscribe("a", relay.Want{}); err != nil {
				return
			}
		}
		packets, err := sub.Take(nil)
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range packets {
			track := sub.Tracks()[p.Track]
			got[track.RID+track.Codec.String()] = append(got[track.RID+track.Codec.String()], p.PTS)
		}
	}
	at := time.Hour
	// The second feed's clock begins somewhere else.
	step := func(feeds ...*ingest.Feed) {
		for i, f := range feeds {
			own := at
			if f == low {
				own -= 20 * time.Minute
			}
			f.Video(0, own, own, [][]byte{sps, pps, idr})
			if i == 0 {
				f.Audio(1, own, []byte{1})
			}
		}
		at += 20 * time.Millisecond
		pull()
	}
	for range 5 {
		step(high, low)
	}
	low.Audio(1, at-20*time.Minute, []byte{2})
	pull()
	n := len(got["hH264"])
	if n < 4 || len(got["lH264"]) < 4 || len(got["AAC"]) < 4 || len(got["AAC"]) > n || len(got) != 3 {
		t.Fatalf("%v", got)
	}
	if off := got["hH264"][n-1] - got["lH264"][len(got["lH264"])-1]; off.Abs() > 50*time.Millisecond {
		t.Errorf("the layers are %v apart", off)
	}
	if info := hub.Streams(); len(info) != 1 || len(info[0].Publishers) != 1 {
		t.Errorf("%+v", info)
	}

	_ = low.Close()
	for range 3 {
		step(high)
	}
	count := len(got["lH264"])
	low = feed("l", sound)
	for range 3 {
		step(high, low)
	}
	if len(got["lH264"]) < count+2 || len(got["hH264"]) != n+6 || !slices.IsSorted(got["hH264"]) {
		t.Errorf("%d and %d pictures after the layer's return: %v", len(got["hH264"])-n, len(got["lH264"])-count, got["hH264"])
	}

	_ = high.Close() // the sound is now the other's
	before := len(got["AAC"])
	for range 4 {
		step(low)
	}
	if len(got["AAC"]) < before+2 {
		t.Errorf("%d pieces of sound after its feed has left", len(got["AAC"])-before)
	}
	low.Fault("mpeg-ts", "packets are missing")
	if f := hub.Streams()[0].Publishers[0].Faults; len(f) != 1 || f[0].Reason != "layer l: packets are missing" {
		t.Errorf("%v", f)
	}
	_ = sub.Close()
	_ = hub.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	select {
	case <-low.Done():
	case <-ctx.Done():
		t.Error("the feed does not end with the Hub")
	}
	if !errors.Is(low.Err(), relay.ErrEnded) {
		t.Error(low.Err())
	}
	_ = low.Close()
}

func TestDescribe(t *testing.T) {
	for said, want := range map[string]string{"": "0 ", "priority=3&simulcastId=720p": "3 720p", "simulcastId=a-b": "bad", "simulcastId=12345678901234567": "bad", "priority=x": "0 "} {
		values, err := url.ParseQuery(said)
		if err != nil {
			t.Fatal(err)
		}
		var p relay.Publisher
		got := ""
		if err := ingest.Describe(&p, values); err != nil {
			got = "bad"
		} else {
			got = fmt.Sprintf("%d %s", p.Priority, p.Layer)
		}
		if got != want {
			t.Errorf("%s: %s, want %s", said, got, want)
		}
	}
}
