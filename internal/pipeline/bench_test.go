package pipeline

import (
	"context"
	"io"
	"log/slog"
	"testing"
	"time"

	"gantry/encoder"
	"gantry/internal/health"
	"gantry/media"
)

// What the pipeline itself costs a picture, with an encoder that does nothing and three destinations.
func BenchmarkPicture(b *testing.B) {
	c := &chip{name: "chip"}
	log := slog.New(slog.DiscardHandler)
	s := New(Spec{Encoder: Encoder{Key: 1, Backends: []encoder.Backend{c.backend()}, Params: encoder.Params{Codec: media.H264, Bitrate: 1e6}}},
		nil, &health.Set{}, log)
	done := make(chan struct{})
	ctx, cancel := context.WithCancel(context.Background())
	arrived := make(chan struct{})
	for i, name := range []string{"a", "b", "c"} {
		q := s.fanout.add(name, []media.Track{{Codec: media.H264}})
		go func() {
			for {
				if _, err := q.Pull(ctx); err != nil {
					return
				}
				if i == 0 {
					arrived <- struct{}{}
				}
			}
		}()
		defer s.fanout.remove(name, io.EOF)
	}
	go func() { defer close(done); _ = s.encode.run(ctx) }()
	still := still{yu12(1280, 720, 30)}
	b.ReportAllocs()
	pts := time.Duration(0)
	for b.Loop() {
		pts += time.Second / 30
		f := still.Frame(pts, 0)
		s.capture.deliver(f, 0)
		<-arrived
	}
	cancel()
	<-done
}
