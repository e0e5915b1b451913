package main

import (
	"context"
	"log/slog"
	"net/http"
	"strings"
	"sync"

	"gantry/internal/metrics"
	"gantry/relay"
	"gantry/relay/record"
)

// A keeper records, where the configuration says so.
type keeper struct {
	server *record.Server // nil: it does not
	stop   context.CancelFunc
	work   sync.WaitGroup
}

// startRecording returns a keeper that is at work.
func startRecording(c Config, hub *relay.Hub, authorize func(token, stream string) error, log *slog.Logger) *keeper {
	k := &keeper{stop: func() {}}
	if !c.Recording.On() {
		return k
	}
	k.server = record.New(c.Recording, hub, authorize, log)
	ctx, cancel := context.WithCancel(context.Background())
	k.stop = cancel
	k.work.Go(func() { _ = k.server.Run(ctx) }) // nil: it ends with ctx
	return k
}

// Close returns when the last file is complete.
func (k *keeper) Close() error {
	k.stop()
	k.work.Wait()
	return nil
}

// handler serves recordings, and leaves all other addresses to next.
func (k *keeper) handler(next http.Handler) http.Handler {
	if k.server == nil {
		return next
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if p := r.URL.Path; p == record.Page || p == record.Prefix || strings.HasPrefix(p, record.Prefix+"/") {
			k.server.ServeHTTP(w, r)
			return
		}
		next.ServeHTTP(w, r)
	})
}

var (
	recordStreams  = metrics.Figure{Name: "gantry_relay_recorded_streams", Help: "Streams that are recorded now."}
	recordUsed     = metrics.Figure{Name: "gantry_relay_recordings_bytes", Help: "What all recordings take."}
	recordBytes    = metrics.Figure{Name: "gantry_relay_recorded_bytes_total", Help: "Bytes of recordings written.", Counter: true}
	recordFailures = metrics.Figure{Name: "gantry_relay_recording_errors_total", Help: "Recordings that the disk has ended.", Counter: true}
	recordHealed   = metrics.Figure{Name: "gantry_relay_healed_frames_total", Help: "Pictures that boxes have sent later, after an outage.", Counter: true}
)

func (k *keeper) collect(r *metrics.Registry) {
	if k.server == nil {
		return
	}
	r.Collect(func() []metrics.Sample {
		s := k.server.Stats()
		return []metrics.Sample{
			{Figure: &recordStreams, Value: float64(s.Recording)},
			{Figure: &recordUsed, Value: float64(s.Used)},
			{Figure: &recordBytes, Value: float64(s.Bytes)},
			{Figure: &recordFailures, Value: float64(s.Failures)},
			{Figure: &recordHealed, Value: float64(s.Healed)},
		}
	}, &recordStreams, &recordUsed, &recordBytes, &recordFailures, &recordHealed)
}
