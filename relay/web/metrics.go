package web

import (
	"net/http"
	"slices"
	"strconv"
	"strings"

	"gantry/internal/metrics"
	"gantry/relay"
)

// Totals over all streams: names and addresses come from clients, so they are no labels. Each stream's own figures are in the
// JSON API.
var (
	liveStreams    = metrics.Figure{Name: "gantry_relay_live_streams", Help: "Streams that somebody publishes."}
	waitingStreams = metrics.Figure{Name: "gantry_relay_waiting_streams", Help: "Streams whose publisher may still return or has sent no key frame yet."}
	publishers     = metrics.Figure{Name: "gantry_ingest_publisher_sessions", Help: "Publishers, those that stand by included."}
	viewers        = metrics.Figure{Name: "gantry_egress_viewer_sessions", Help: "Viewers of all streams."}
	received       = metrics.Figure{Name: "gantry_ingest_received_bits_per_second", Help: "Media payload of all publishers in the last second."}
	faultyStreams  = metrics.Figure{Name: "gantry_ingest_faulty_streams", Help: "Streams with a fault in what is published."}
)

func collectHub(r *metrics.Registry, hub Hub) {
	r.Collect(func() []metrics.Sample {
		var live, waiting, pubs, watching, bits, faults int
		for _, s := range hub.Streams() {
			if s.Live {
				live++
			} else {
				waiting++
			}
			watching += s.Viewers
			pubs += len(s.Publishers)
			if slices.ContainsFunc(s.Publishers, func(p relay.Published) bool { return len(p.Faults) > 0 }) {
				faults++
			}
			for _, p := range s.Publishers {
				for _, t := range p.Tracks {
					bits += t.Bitrate
				}
			}
		}
		return []metrics.Sample{
			{Figure: &liveStreams, Value: float64(live)}, {Figure: &waitingStreams, Value: float64(waiting)},
			{Figure: &publishers, Value: float64(pubs)}, {Figure: &viewers, Value: float64(watching)},
			{Figure: &received, Value: float64(bits)}, {Figure: &faultyStreams, Value: float64(faults)},
		}
	}, &liveStreams, &waitingStreams, &publishers, &viewers, &received, &faultyStreams)
}

// Count returns next with its requests counted by the first element of their path, method and status.
func Count(r *metrics.Registry, next http.Handler) http.Handler {
	requests := r.Counter("gantry_http_answered_requests_total", "HTTP requests by route, method and status.", "route", "method", "code")
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		c := &statusWriter{ResponseWriter: w, status: http.StatusOK}
		next.ServeHTTP(c, req)
		requests.WithLabelValues(route(req.URL.Path), method(req.Method), strconv.Itoa(c.status)).Inc()
	})
}

// route and method map what clients send to a few words, or they could fill the memory with labels.
func route(path string) string {
	first, _, _ := strings.Cut(strings.TrimPrefix(path, "/"), "/")
	switch first {
	case "whip", "whep", "hls", "play", "api", "metrics", "healthz":
		return first
	case "":
		return "index"
	}
	if _, ok := assets[strings.TrimPrefix(path, "/")]; ok {
		return "asset"
	}
	return "other"
}

func method(m string) string {
	switch m {
	case http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPatch, http.MethodDelete, http.MethodOptions:
		return m
	}
	return "other"
}

// statusWriter remembers the status. Unwrap lets http.ResponseController flush and set deadlines (event streams do).
type statusWriter struct {
	http.ResponseWriter
	status int
}

func (w *statusWriter) WriteHeader(status int) {
	w.status = status
	w.ResponseWriter.WriteHeader(status)
}

// Flush is for handlers that look for an http.Flusher.
func (w *statusWriter) Flush() { _ = http.NewResponseController(w.ResponseWriter).Flush() }

func (w *statusWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }
