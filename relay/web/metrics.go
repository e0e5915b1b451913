package web

import (
	"net/http"
	"strconv"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
)

// hubMetrics are totals over all streams: names and addresses come from clients, so they are no labels. Each stream's own
// figures are in the JSON API.
type hubMetrics struct{ hub Hub }

func newHubMetrics(h Hub) hubMetrics { return hubMetrics{h} }

var (
	liveStreams = prometheus.NewDesc("gantry_relay_live_streams", "Streams that somebody publishes.", nil, nil)
	idleStreams = prometheus.NewDesc("gantry_relay_waiting_streams", "Streams whose publisher may still return or has sent no key frame yet.", nil, nil)
	publishers  = prometheus.NewDesc("gantry_ingest_publisher_sessions", "Publishers, those that stand by included.", nil, nil)
	viewers     = prometheus.NewDesc("gantry_egress_viewer_sessions", "Viewers of all streams.", nil, nil)
	bitrate     = prometheus.NewDesc("gantry_ingest_received_bits_per_second", "Media payload of all publishers in the last second.", nil, nil)
	faulty      = prometheus.NewDesc("gantry_ingest_faulty_streams", "Streams with a fault in what is published.", nil, nil)
)

// Describe sends the descriptions of all metrics.
func (m hubMetrics) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{liveStreams, idleStreams, publishers, viewers, bitrate, faulty} {
		ch <- d
	}
}

// Collect sends the present values.
func (m hubMetrics) Collect(ch chan<- prometheus.Metric) {
	var live, waiting, pubs, watching, bits, faults int
	for _, s := range m.hub.Streams() {
		if s.Live {
			live++
		} else {
			waiting++
		}
		watching += s.Viewers
		pubs += len(s.Publishers)
		faultyStream := 0
		for _, p := range s.Publishers {
			if len(p.Faults) > 0 {
				faultyStream = 1
			}
			for _, t := range p.Tracks {
				bits += t.Bitrate
			}
		}
		faults += faultyStream
	}
	gauge := func(d *prometheus.Desc, v int) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, float64(v))
	}
	gauge(liveStreams, live)
	gauge(idleStreams, waiting)
	gauge(publishers, pubs)
	gauge(viewers, watching)
	gauge(bitrate, bits)
	gauge(faulty, faults)
}

// Count returns next with its requests counted by the first element of their path, method and status.
func Count(r *prometheus.Registry, next http.Handler) http.Handler {
	requests := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "gantry_http_answered_requests_total", Help: "HTTP requests by route, method and status.",
	}, []string{"route", "method", "code"})
	r.MustRegister(requests)
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
	case "whip", "whep", "play", "api", "metrics", "healthz":
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
