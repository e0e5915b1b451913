package mpegts

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"time"

	"github.com/bluenviron/mediacommon/v2/pkg/formats/mpegts"
	"github.com/bluenviron/mediacommon/v2/pkg/formats/mpegts/codecs"

	"gantry/media"
)

// ErrUnusable: the programme holds no track that Gantry carries.
var ErrUnusable = errors.New("the MPEG-TS programme has no H.264, H.265, AAC or Opus track")

// A Sink takes what Read finds. Its methods are called by the goroutine that runs Read; memory of what they are given may be reused
// afterwards.
type Sink interface {
	// Programme tells the tracks of what follows, again when they change; its error ends Read.
	Programme(tracks []media.Track) error
	// Video takes one access unit of track i as NAL units, in coding order. Times are the sender's, unwrapped.
	Video(i int, pts, dts time.Duration, nalus [][]byte)
	// Audio takes one coded frame of track i.
	Audio(i int, pts time.Duration, frame []byte)
	// Lost tells that something of track i is missing before what comes next.
	Lost(i int)
	// Fault says in words what is wrong with the stream, under a short code.
	Fault(code, reason string)
}

// Read reads the first programme of an MPEG-TS stream (ISO/IEC 13818-1), over all its changes, until r fails, and returns why: io.EOF at
// its end. It blocks in r.Read, of which each may return any number of packets up to eight. Tracks of other codecs are logged and
// left out.
func Read(r io.Reader, sink Sink, log *slog.Logger) error {
	s := &stream{packets: newTSPackets(r), clock: &mpegts.TimeDecoder{}, sink: sink, log: log}
	s.clock.Initialize()
	for {
		tracks, err := s.open()
		if err != nil {
			return err
		}
		if err := sink.Programme(tracks); err != nil {
			return err
		}
		if err := s.read(); !errors.Is(err, errProgramme) {
			return err
		}
		s.packets.resume()
	}
}

// stream reads one MPEG-TS stream through all its programmes.
type stream struct {
	packets *tsPackets
	clock   *mpegts.TimeDecoder
	reader  *mpegts.Reader
	sink    Sink
	log     *slog.Logger
}

func (s *stream) at(ticks int64) time.Duration { return ticksToTime(s.clock.Decode(ticks)) }

// open finds the programme and has its tracks written to the sink, in the order returned.
func (s *stream) open() (tracks []media.Track, err error) {
	s.packets.gap, s.packets.noise = func(uint16) {}, func(int) {} // of the programme before
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
		return nil, ErrUnusable
	}
	s.packets.gap = func(pid uint16) {
		if i, ok := byPID[pid]; ok {
			s.sink.Lost(i)
			s.sink.Fault("mpeg-ts", "MPEG-TS packets are missing: the link loses them, or the latency is set too low")
		}
	}
	s.packets.noise = func(n int) { s.sink.Fault("mpeg-ts", fmt.Sprintf("%d bytes are no MPEG-TS packet", n)) }
	return tracks, nil
}

// track registers the handler of t, which is to be the i-th.
func (s *stream) track(t *mpegts.Track, i int) media.Track {
	video := func(pts, dts int64, au [][]byte) error {
		// The unwrapping clock sees decoding times only, which rise; presentation lies a little ahead of them.
		d, ahead := s.at(dts), (pts-dts)&(1<<33-1)
		if ahead > 90000*10 { // behind, or nonsense
			ahead = 0
		}
		s.sink.Video(i, d+ticksToTime(ahead), d, au)
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
				s.sink.Audio(i, s.at(pts)+time.Duration(n)*1024*time.Second/time.Duration(c.SampleRate), frame)
			}
			return nil
		})
		return media.Track{Codec: media.AAC, ClockRate: c.SampleRate, Channels: c.ChannelCount, Profile: fmt.Sprintf("%x", conf)}
	case *codecs.Opus:
		s.reader.OnDataOpus(t, func(pts int64, packets [][]byte) error {
			for n, packet := range packets {
				s.sink.Audio(i, s.at(pts)+time.Duration(n)*20*time.Millisecond, packet)
			}
			return nil
		})
		return media.Track{Codec: media.Opus, ClockRate: 48000, Channels: 2}
	}
	return media.Track{}
}

// read delivers what comes until it fails or the programme changes.
func (s *stream) read() error {
	s.reader.OnDecodeError(func(err error) {
		s.sink.Fault("mpeg-ts", fmt.Sprintf("the MPEG-TS stream is damaged (%v): the link loses packets, or the latency is set too low", err))
	})
	for {
		if err := s.reader.Read(); err != nil {
			return err
		}
	}
}

// ticksToTime converts 90 kHz ticks without losing precision over years.
func ticksToTime(t int64) time.Duration {
	const hz = 90000
	return time.Duration(t/hz)*time.Second + time.Duration(t%hz)*time.Second/hz
}
