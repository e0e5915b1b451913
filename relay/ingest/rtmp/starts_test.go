package rtmp_test

import (
	"net/url"
	"testing"
	"time"

	"github.com/bluenviron/gortmplib"
	"github.com/bluenviron/gortmplib/pkg/codecs"
	"github.com/bluenviron/gortmplib/pkg/message"
	"github.com/bluenviron/mediacommon/v2/pkg/codecs/mpeg4audio"

	"gantry/internal/testkit"
	"gantry/media"
)

// Wherever a publisher's times begin, and whichever of its tracks comes first, it is on the air with both.
func TestStarts(t *testing.T) {
	const hour = time.Hour
	units := record(t, "libx264", "320x180", "h264")
	for _, c := range []struct {
		name         string
		at           func(i int) time.Duration // of the ith 40 ms
		sound, video int                       // from which 40 ms on they come
		described    time.Duration             // later than the time before which the tracks are described
	}{
		{"at 0", func(i int) time.Duration { return step(i) }, 0, 0, 0},
		{"late", func(i int) time.Duration { return hour + step(i) }, 0, 0, 0},
		{"0, then an hour", func(i int) time.Duration { return min(step(i), 1)*hour + step(i) }, 0, 0, 0},
		{"0, then past 24 bits", func(i int) time.Duration { return min(step(i), 1)*5*hour + step(i) }, 0, 0, 0},
		{"an hour, then 0", func(i int) time.Duration {
			if i == 0 {
				return hour
			}
			return step(i)
		}, 0, 0, 0},
		{"0, then an hour, sound a little later", func(i int) time.Duration { return min(step(i), 1)*hour + step(i) }, 2, 0, 0},
		{"described late", func(i int) time.Duration { return step(i) }, 0, 0, hour},
		{"described late, sound long after", func(i int) time.Duration { return step(i) }, 100, 0, hour},
		{"0 for a while", func(i int) time.Duration { return max(0, step(i-20)) }, 0, 0, 0},
		{"sound a second before", func(i int) time.Duration { return step(i) }, 0, 25, 0},
		{"sound long before", func(i int) time.Duration { return hour + step(i) }, 0, 100, 0},
		{"pictures a second before", func(i int) time.Duration { return step(i) }, 25, 0, 0},
		{"pictures long before", func(i int) time.Duration { return hour + step(i) }, 100, 0, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			hub, addr := listen(t, nil, authorize)
			u, err := url.Parse("rtmp://" + addr + "/live/demo?token=correct-token")
			if err != nil {
				t.Fatal(err)
			}
			client := &gortmplib.Client{URL: u, Publish: true}
			if err := client.Initialize(t.Context()); err != nil {
				t.Fatal(err)
			}
			defer client.Close()
			video := &gortmplib.Track{Codec: &codecs.H264{SPS: units[0][0], PPS: units[0][1]}}
			sound := &gortmplib.Track{Codec: &codecs.MPEG4Audio{Config: &mpeg4audio.AudioSpecificConfig{Type: mpeg4audio.ObjectTypeAACLC, SampleRate: 48000, ChannelConfig: 2, ChannelCount: 2}}}
			var pictures, sounds *gortmplib.Writer
			begin := func(tracks ...*gortmplib.Track) *gortmplib.Writer {
				w := &gortmplib.Writer{Conn: ahead{client, c.described}, Tracks: tracks}
				if err := w.Initialize(); err != nil {
					t.Fatal(err)
				}
				return w
			}
			i := 0
			testkit.Eventually(t, 10*time.Second, "both tracks are on the air", func() bool {
				for until := i + 10; i < until; i++ { // faster than their time
					switch {
					case i == c.video && i == c.sound:
						pictures = begin(video, sound)
						sounds = pictures
					case i == c.video:
						pictures = begin(video)
					case i == c.sound:
						sounds = begin(sound)
					}
					at := c.at(i)
					if pictures != nil {
						if err := pictures.WriteH264(video, at, at, units[i%len(units)]); err != nil {
							t.Fatalf("picture %d: %v", i, err)
						}
					}
					if sounds != nil {
						if err := sounds.WriteMPEG4Audio(sound, at, []byte{0x21, 0x10, 0x04, 0x60, 0x8c, 0x1c}); err != nil {
							t.Fatalf("sound %d: %v", i, err)
						}
					}
				}
				s := hub.Streams()
				if len(s) != 1 || !s[0].Live || len(s[0].Publishers) != 1 || len(s[0].Publishers[0].Tracks) != 2 {
					return false
				}
				seen := map[string]uint64{}
				for _, track := range s[0].Publishers[0].Tracks {
					seen[track.Codec] = track.Packets
				}
				return seen[media.H264.String()] > 20 && seen[media.AAC.String()] > 20
			})
		})
	}
}

// An ahead is a connection on which the descriptions of tracks have times of their own.
type ahead struct {
	*gortmplib.Client
	by time.Duration
}

func (a ahead) Write(m message.Message) error {
	switch m := m.(type) {
	case *message.Video:
		if m.Type == message.VideoTypeConfig {
			m.DTS += a.by
		}
	case *message.Audio:
		if m.AACType == message.AudioAACTypeConfig {
			m.DTS += a.by
		}
	}
	return a.Client.Write(m)
}

// step returns the time of the ith 40 ms.
func step(i int) time.Duration { return time.Duration(i) * 40 * time.Millisecond }
