package ingest

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"time"

	"github.com/bluenviron/mediacommon/v2/pkg/formats/mpegts"
	"github.com/bluenviron/mediacommon/v2/pkg/formats/mpegts/codecs"

	"gantry/media"
	"gantry/relay"
)

// ErrNothingUsable: the programme holds no track that Gantry carries.
var ErrNothingUsable = errors.New("the MPEG-TS programme has no H.264, H.265, AAC or Opus track")

// ReadTS publishes the first programme of an MPEG-TS stream (ISO/IEC 13818-1) under name until r fails, and returns why: io.EOF
// at its end, or the Hub's reason when that ended the publication. It blocks in r.Read; whoever owns r closes it when the
// Publication is Done, which opened is told of. Tracks of other codecs are logged and left out.
func ReadTS(r io.Reader, hub *relay.Hub, name string, p relay.Publisher, log *slog.Logger, opened func(*Feed)) error {
	ts := &mpegts.Reader{R: r}
	if err := ts.Initialize(); err != nil {
		return fmt.Errorf("find the MPEG-TS programme: %w", err)
	}
	var feed *Feed
	clock := &mpegts.TimeDecoder{}
	clock.Initialize()
	at := func(ticks int64) time.Duration { return ticksToTime(clock.Decode(ticks)) }

	p.Tracks = nil
	for _, t := range ts.Tracks() {
		i := len(p.Tracks)
		video := func(pts, dts int64, au [][]byte) error {
			// The unwrapping clock sees decoding times only, which rise; presentation lies a little ahead of them.
			d, ahead := at(dts), (pts-dts)&(1<<33-1)
			if ahead > 90000*10 { // behind, or nonsense
				ahead = 0
			}
			feed.Video(i, d+ticksToTime(ahead), d, au)
			return nil
		}
		switch c := t.Codec.(type) {
		case *codecs.H264:
			p.Tracks = append(p.Tracks, media.Track{Codec: media.H264, ClockRate: 90000})
			ts.OnDataH264(t, video)
		case *codecs.H265:
			p.Tracks = append(p.Tracks, media.Track{Codec: media.H265, ClockRate: 90000})
			ts.OnDataH265(t, video)
		case *codecs.MPEG4Audio:
			conf, err := c.Config.Marshal()
			if err != nil {
				return fmt.Errorf("AAC configuration: %w", err)
			}
			//lint:ignore SA1019 ChannelConfig is no count: 7 means 8
			p.Tracks = append(p.Tracks, media.Track{Codec: media.AAC, ClockRate: c.SampleRate, Channels: c.ChannelCount, Profile: fmt.Sprintf("%x", conf)})
			ts.OnDataMPEG4Audio(t, func(pts int64, frames [][]byte) error {
				for n, frame := range frames {
					feed.Audio(i, at(pts)+time.Duration(n)*1024*time.Second/time.Duration(c.SampleRate), frame)
				}
				return nil
			})
		case *codecs.Opus:
			p.Tracks = append(p.Tracks, media.Track{Codec: media.Opus, ClockRate: 48000, Channels: 2})
			ts.OnDataOpus(t, func(pts int64, packets [][]byte) error {
				for n, packet := range packets {
					feed.Audio(i, at(pts)+time.Duration(n)*20*time.Millisecond, packet)
				}
				return nil
			})
		default:
			log.Warn("track left out", "stream", name, "codec", fmt.Sprintf("%T", c), "reason", "Gantry does not carry it")
		}
	}
	if len(p.Tracks) == 0 {
		return ErrNothingUsable
	}
	var err error
	if feed, err = NewFeed(hub, name, p); err != nil {
		return err
	}
	defer feed.Close()
	opened(feed)
	ts.OnDecodeError(func(err error) {
		feed.Fault("mpeg-ts", fmt.Sprintf("the MPEG-TS stream is damaged (%v): the link loses packets, or the latency is set too low", err))
	})
	for {
		if err := ts.Read(); err != nil {
			if gone := feed.Err(); gone != nil {
				return gone
			}
			return err
		}
	}
}

// ticksToTime converts 90 kHz ticks without losing precision over years.
func ticksToTime(t int64) time.Duration {
	const hz = 90000
	return time.Duration(t/hz)*time.Second + time.Duration(t%hz)*time.Second/hz
}
