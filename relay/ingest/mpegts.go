package ingest

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/bluenviron/mediacommon/v2/pkg/formats/mpegts"
	"github.com/bluenviron/mediacommon/v2/pkg/formats/mpegts/codecs"

	"gantry/media"
	"gantry/relay"
)

// ErrNothingUsable: the programme holds no track that Gantry carries.
var ErrNothingUsable = errors.New("the MPEG-TS programme has no H.264, H.265, AAC or Opus track")

// ReadTS publishes the first programme of an MPEG-TS stream (ISO/IEC 13818-1) under name until r fails, and returns why: io.EOF
// at its end, or the Hub's reason when that ended the publication, whereupon it closes r. It blocks in r.Read. Tracks of other
// codecs are logged and left out.
func ReadTS(r io.ReadCloser, hub *relay.Hub, name string, p relay.Publisher, log *slog.Logger) error {
	s := &transportStream{packets: newTSPackets(r), clock: &mpegts.TimeDecoder{}, log: log.With("stream", name)}
	s.clock.Initialize()
	release := func() {}
	defer func() { release() }()
	for {
		var tracks []media.Track
		err := Guard(s.log, func() (err error) { tracks, err = s.open(); return err })
		if err != nil {
			return err
		}
		changed := s.feed != nil
		if changed && !slices.Equal(tracks, p.Tracks) {
			release()
			s.feed = nil
		}
		if p.Tracks = tracks; s.feed == nil {
			if s.feed, err = NewFeed(hub, name, p); err != nil {
				release = func() {}
				return err
			}
			release = hold(s.feed, r)
		}
		if changed {
			s.feed.Fault("programme", "the MPEG-TS programme changed while it was sent: viewers wait for the next key frame, and come anew where codecs changed")
		}
		if err := Guard(s.log, s.read); !errors.Is(err, errProgramme) {
			if gone := s.feed.Err(); gone != nil {
				return gone
			}
			return err
		}
		s.packets.resume()
	}
}

// hold closes r when the Hub ends the feed. The function that it returns closes the feed instead.
func hold(f *Feed, r io.Closer) (release func()) {
	quit := make(chan struct{})
	var work sync.WaitGroup
	work.Go(func() {
		select {
		case <-f.Done():
			_ = r.Close()
		case <-quit:
		}
	})
	return func() {
		close(quit)
		work.Wait()
		f.Close()
	}
}

// transportStream reads one MPEG-TS stream through all its programmes.
type transportStream struct {
	packets *tsPackets
	clock   *mpegts.TimeDecoder
	reader  *mpegts.Reader
	feed    *Feed
	log     *slog.Logger
}

func (s *transportStream) at(ticks int64) time.Duration { return ticksToTime(s.clock.Decode(ticks)) }

// open finds the programme and has its tracks written to s.feed, in the order returned.
func (s *transportStream) open() (tracks []media.Track, err error) {
	ts := &mpegts.Reader{R: s.packets}
	for err = ts.Initialize(); errors.Is(err, errProgramme); err = ts.Initialize() { // once more before its tracks were known
		s.packets.resume()
		ts = &mpegts.Reader{R: s.packets}
	}
	if err != nil {
		return nil, fmt.Errorf("find the MPEG-TS programme: %w", err)
	}
	s.reader = ts
	byPID := map[uint16]int{}
	for _, t := range ts.Tracks() {
		if track := s.track(t, len(tracks)); track.Codec != media.NoCodec {
			byPID[t.PID] = len(tracks)
			tracks = append(tracks, track)
		} else {
			s.log.Warn("track left out", "codec", fmt.Sprintf("%T", t.Codec), "reason", "Gantry does not carry it")
		}
	}
	if len(tracks) == 0 {
		return nil, ErrNothingUsable
	}
	s.packets.gap = func(pid uint16) {
		if i, ok := byPID[pid]; ok && s.feed != nil {
			s.feed.Lost(i)
			s.feed.Fault("mpeg-ts", "MPEG-TS packets are missing: the link loses them, or the latency is set too low")
		}
	}
	s.packets.noise = func(n int) {
		if s.feed != nil {
			s.feed.Fault("mpeg-ts", fmt.Sprintf("%d bytes are no MPEG-TS packet", n))
		}
	}
	return tracks, nil
}

// track registers the handler of t, which is to be the i-th.
func (s *transportStream) track(t *mpegts.Track, i int) media.Track {
	video := func(pts, dts int64, au [][]byte) error {
		// The unwrapping clock sees decoding times only, which rise; presentation lies a little ahead of them.
		d, ahead := s.at(dts), (pts-dts)&(1<<33-1)
		if ahead > 90000*10 { // behind, or nonsense
			ahead = 0
		}
		s.feed.Video(i, d+ticksToTime(ahead), d, au)
		return nil
	}
	switch c := t.Codec.(type) {
	case *codecs.H264:
		s.reader.OnDataH264(t, video)
		return media.Track{Codec: media.H264, ClockRate: 90000}
	case *codecs.H265:
		s.reader.OnDataH265(t, video)
		return media.Track{Codec: media.H265, ClockRate: 90000}
	case *codecs.MPEG4Audio:
		conf, err := c.Config.Marshal()
		if err != nil {
			return media.Track{}
		}
		s.reader.OnDataMPEG4Audio(t, func(pts int64, frames [][]byte) error {
			for n, frame := range frames {
				s.feed.Audio(i, s.at(pts)+time.Duration(n)*1024*time.Second/time.Duration(c.SampleRate), frame)
			}
			return nil
		})
		return media.Track{Codec: media.AAC, ClockRate: c.SampleRate, Channels: Channels(c.ChannelConfig), Profile: fmt.Sprintf("%x", conf)}
	case *codecs.Opus:
		s.reader.OnDataOpus(t, func(pts int64, packets [][]byte) error {
			for n, packet := range packets {
				s.feed.Audio(i, s.at(pts)+time.Duration(n)*20*time.Millisecond, packet)
			}
			return nil
		})
		return media.Track{Codec: media.Opus, ClockRate: 48000, Channels: 2}
	}
	return media.Track{}
}

// read delivers what comes until it fails or the programme changes.
func (s *transportStream) read() error {
	s.reader.OnDecodeError(func(err error) {
		s.feed.Fault("mpeg-ts", fmt.Sprintf("the MPEG-TS stream is damaged (%v): the link loses packets, or the latency is set too low", err))
	})
	for {
		if err := s.reader.Read(); err != nil {
			return err
		}
	}
}

// Channels returns how many channels an AAC configuration means (ISO/IEC 14496-3 table 1.19).
func Channels(config uint8) int {
	if config == 7 {
		return 8
	}
	return int(config)
}

// ticksToTime converts 90 kHz ticks without losing precision over years.
func ticksToTime(t int64) time.Duration {
	const hz = 90000
	return time.Duration(t/hz)*time.Second + time.Duration(t%hz)*time.Second/hz
}
