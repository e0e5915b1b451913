package egress

import (
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
