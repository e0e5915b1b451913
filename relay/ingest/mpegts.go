package ingest

import (
	"io"
	"log/slog"
	"slices"
	"sync"

	"gantry/internal/proto/mpegts"
	"gantry/media"
	"gantry/relay"
)

// ReadTS publishes the first programme of an MPEG-TS stream (ISO/IEC 13818-1) under name until r fails, and returns why: io.EOF
// at its end, or the Hub's reason when that ended the publication, whereupon it closes r. It blocks in r.Read. Tracks of other
// codecs are logged and left out.
func ReadTS(r io.ReadCloser, hub *relay.Hub, name string, p relay.Publisher, log *slog.Logger) error {
	s := &transportStream{r: r, hub: hub, name: name, publisher: p, release: func() {}}
	defer func() { s.release() }()
	log = log.With("stream", name)
	err := Guard(log, func() error { return mpegts.Read(r, s, log) })
	if s.Feed != nil {
		if gone := s.Err(); gone != nil {
			return gone
		}
	}
	return err
}

// A transportStream publishes one MPEG-TS stream through all its programmes. It implements mpegts.Sink.
type transportStream struct {
	*Feed     // nil before the first programme
	r         io.ReadCloser
	hub       *relay.Hub
	name      string
	publisher relay.Publisher
	release   func() // closes the Feed
}

// Programme implements mpegts.Sink.
func (s *transportStream) Programme(tracks []media.Track) (err error) {
	changed := s.Feed != nil
	if changed && !slices.Equal(tracks, s.publisher.Tracks) {
		s.release()
		s.Feed, s.release = nil, func() {}
	}
	if s.publisher.Tracks = tracks; s.Feed == nil {
		if s.Feed, err = NewFeed(s.hub, s.name, s.publisher); err != nil {
			return err
		}
		s.release = hold(s.Feed, s.r)
	}
	if changed {
		s.Fault("programme", "the MPEG-TS programme changed while it was sent: viewers wait for the next key frame, and come anew where codecs changed")
	}
	return nil
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
