package pull

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"sync"
	"time"

	"github.com/bluenviron/gortsplib/v5"
	"github.com/bluenviron/gortsplib/v5/pkg/base"
	"github.com/bluenviron/gortsplib/v5/pkg/description"
	"github.com/bluenviron/gortsplib/v5/pkg/format"
	"github.com/bluenviron/mediacommon/v2/pkg/codecs/h264"
	"github.com/bluenviron/mediacommon/v2/pkg/codecs/h265"
	"github.com/pion/rtp"

	"gantry/internal/proto/pin"
	"gantry/media"
	"gantry/relay"
	"gantry/relay/ingest"
)

// ErrNothingUsable: the source has no track that Gantry carries.
var ErrNothingUsable = errors.New("the source has no H.264, H.265, AAC or Opus track")

// An rtspSource is one connection to an RTSP server. gortsplib calls back from several goroutines.
type rtspSource struct {
	client *gortsplib.Client
	tracks []media.Track
	setup  []func() error // before PLAY
	heads  map[int][][]byte

	mu   sync.Mutex
	feed *ingest.Feed
}

func runRTSP(ctx context.Context, c Config, u *url.URL, hub *relay.Hub, log *slog.Logger) error {
	address, err := base.ParseURL(u.String())
	if err != nil {
		return errors.New("the URL cannot be read")
	}
	trust, err := pin.Client(c.Fingerprint)
	if err != nil {
		return fmt.Errorf("fingerprint: %w", err)
	}
	s := &rtspSource{heads: map[int][][]byte{}}
	s.client = &gortsplib.Client{Scheme: address.Scheme, Host: host(u), ReadTimeout: 10 * time.Second, UserAgent: "gantry-relay", TLSConfig: trust,
		OnTransportSwitch: func(err error) { log.Info("RTSP goes over TCP", "stream", c.Name, "reason", err) },
		OnDecodeError: func(err error) {
			s.do(func() { s.feed.Fault("rtsp", fmt.Sprintf("the RTSP source sends what cannot be read: %v", err)) })
		},
		OnPacketsLost: func(n uint64) {
			s.do(func() {
				for i := range s.tracks {
					s.feed.Lost(i)
				}
				s.feed.Fault("rtsp", fmt.Sprintf("%d RTP packets were lost on the way from the RTSP source", n))
			})
		},
	}
	if err := s.client.Start(); err != nil {
		return err
	}
	defer s.client.Close()
	defer context.AfterFunc(ctx, s.client.Close)()
	desc, _, err := s.client.Describe(address)
	if err != nil {
		return fmt.Errorf("describe: %w", pin.Explain(err))
	}
	for _, m := range desc.Medias {
		s.choose(desc.BaseURL, m, log.With("stream", c.Name))
	}
	if len(s.tracks) == 0 {
		return ErrNothingUsable
	}
	for _, setup := range s.setup {
		if err := setup(); err != nil {
			return fmt.Errorf("set up: %w", err)
		}
	}
	feed, err := ingest.NewFeed(hub, c.Name, relay.Publisher{Tracks: s.tracks, Protocol: "rtsp", Remote: host(u), Layer: c.Layer})
	if err != nil {
		return err
	}
	defer func() { s.do(func() { s.feed = nil }); feed.Close() }()
	for i, sets := range s.heads {
		feed.Video(i, 0, 0, sets)
	}
	s.mu.Lock()
	s.feed = feed
	s.mu.Unlock()
	if _, err := s.client.Play(nil); err != nil {
		return fmt.Errorf("play: %w", err)
	}
	ended := make(chan error, 1)
	go func() { ended <- s.client.Wait() }()
	select {
	case err = <-ended:
	case <-feed.Done():
		s.client.Close()
		<-ended
		err = feed.Err()
	}
	return err
}

// do calls f while there is a feed.
func (s *rtspSource) do(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.feed != nil {
		f()
	}
}

// choose takes the first format of m that Gantry carries.
func (s *rtspSource) choose(baseURL *base.URL, m *description.Media, log *slog.Logger) {
	for _, f := range m.Formats {
		i := len(s.tracks)
		track, handle, err := s.handler(i, f)
		if err != nil {
			log.Warn("track left out", "codec", fmt.Sprintf("%T", f), "reason", err)
			continue
		}
		s.tracks = append(s.tracks, track)
		s.setup = append(s.setup, func() error {
			if _, err := s.client.Setup(baseURL, m, 0, 0); err != nil {
				return err
			}
			s.client.OnPacketRTP(m, f, func(p *rtp.Packet) {
				if ticks, ok := s.client.PacketPTS(m, p); ok {
					hz := int64(f.ClockRate())
					s.do(func() {
						handle(p, time.Duration(ticks/hz)*time.Second+time.Duration(ticks%hz)*time.Second/time.Duration(hz))
					})
				}
			})
			return nil
		})
		return
	}
}

// handler returns the track that f makes and what writes its packets to the feed.
func (s *rtspSource) handler(i int, f format.Format) (media.Track, func(p *rtp.Packet, pts time.Duration), error) {
	switch f := f.(type) {
	case *format.H264:
		d, err := f.CreateDecoder()
		order := &h264.DTSExtractor{}
		order.Initialize()
		s.heads[i] = sets(f.SPS, f.PPS)
		return media.Track{Codec: media.H264, ClockRate: 90000}, s.video(i, d.Decode, order.Extract), err
	case *format.H265:
		d, err := f.CreateDecoder()
		order := &h265.DTSExtractor{}
		order.Initialize()
		s.heads[i] = sets(f.VPS, f.SPS, f.PPS)
		return media.Track{Codec: media.H265, ClockRate: 90000}, s.video(i, d.Decode, order.Extract), err
	case *format.MPEG4Audio:
		d, err := f.CreateDecoder()
		if err != nil {
			return media.Track{}, nil, err
		}
		conf, err := f.Config.Marshal()
		hz := f.Config.SampleRate
		return media.Track{Codec: media.AAC, ClockRate: hz, Channels: f.Config.ChannelCount, Profile: fmt.Sprintf("%x", conf)}, func(p *rtp.Packet, pts time.Duration) {
			frames, err := d.Decode(p)
			for n, frame := range frames {
				if err == nil {
					s.feed.Audio(i, pts+time.Duration(n)*1024*time.Second/time.Duration(hz), frame)
				}
			}
		}, err
	case *format.Opus:
		return media.Track{Codec: media.Opus, ClockRate: 48000, Channels: 2}, func(p *rtp.Packet, pts time.Duration) { s.feed.Audio(i, pts, p.Payload) }, nil
	}
	return media.Track{}, nil, errors.New("Gantry does not carry it")
}

func sets(all ...[]byte) [][]byte {
	for _, s := range all {
		if s == nil {
			return nil
		}
	}
	return all
}

// video puts access units together; RTSP tells presentation times alone, so decoding times are worked out from the pictures.
func (s *rtspSource) video(i int, decode func(*rtp.Packet) ([][]byte, error), order func(au [][]byte, pts int64) (int64, error)) func(*rtp.Packet, time.Duration) {
	return func(p *rtp.Packet, pts time.Duration) {
		au, err := decode(p)
		if err != nil { // most often: more packets are needed
			return
		}
		dts, err := order(au, int64(pts))
		if err != nil || dts > int64(pts) {
			dts = int64(pts)
		}
		s.feed.Video(i, pts, time.Duration(dts), au)
	}
}
