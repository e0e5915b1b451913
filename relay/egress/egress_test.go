package egress

import (
	"fmt"
	"log/slog"
	"testing"

	"gantry/internal/testkit"
	"gantry/media"
	"gantry/media/packing"
	"gantry/relay"
)

func TestMain(m *testing.M) { testkit.Main(m) }

func TestSoundAsItCanBeHad(t *testing.T) {
	for _, c := range []struct {
		published media.Codec
		can       bool
		want      media.Codec
	}{{media.AAC, false, media.AAC}, {media.Opus, true, media.AAC}, {media.Opus, false, media.Opus}} {
		hub := relay.NewHub(relay.Default(), slog.New(slog.DiscardHandler))
		defer hub.Close()
		if c.can {
			hub.SetTranscoder(func(t media.Track, to media.Codec) (media.Track, packing.Converter, error) {
				t.Codec = to
				return t, packing.Chain(), nil
			})
		}
		pub, err := hub.Publish("a", relay.Publisher{Tracks: []media.Track{{Codec: c.published, ClockRate: 48000, Channels: 2}}})
		if err != nil {
			t.Fatal(err)
		}
		pub.Write(&media.Packet{Start: true, End: true, Data: []byte{1}})
		sub, err := Subscribe(hub, "a")
		if err != nil {
			t.Fatal(err)
		}
		if got := sub.Tracks()[0].Codec; got != c.want {
			t.Errorf("%v with a transcoder %v comes as %v", c.published, c.can, got)
		}
		_ = sub.Close()
	}
}

func TestChoose(t *testing.T) {
	video := func(c media.Codec, height int) media.Track {
		return media.Track{Codec: c, Width: height * 16 / 9, Height: height, RID: "x"}
	}
	sound := media.Track{Codec: media.AAC}
	for want, tracks := range map[string][]media.Track{
		"[0 1]":       {video(media.H264, 720), sound},
		"[-1 0 -1 1]": {video(media.H265, 720), video(media.H264, 720), video(media.H264, 360), sound},
		"[-1 0 1]":    {video(media.H264, 360), video(media.H264, 720), sound},
		"[0 -1]":      {video(media.AV1, 720), video(media.H265, 360)},
		"[0]":         {sound},
		"[-1 0]":      {{Codec: media.H264, Packing: media.RTP, Height: 720}, sound},
	} {
		chosen, places := Choose(tracks)
		if fmt.Sprint(places) != want {
			t.Errorf("%v: %v, want %s", tracks, places, want)
		}
		for _, c := range chosen {
			if c.RID != "" {
				t.Errorf("%+v is a layer", c)
			}
		}
	}
}
