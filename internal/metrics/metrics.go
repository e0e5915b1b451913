// Package metrics is a thin layer over the Prometheus client that holds Gantry's naming rules: gantry_<stage>_<what>_<unit>,
// with _total at the end of counters. A name that breaks them panics when it is declared, at the start of the program.
//
// It knows no stage's figures. Labels come from the configuration (an uplink's name), never from clients.
package metrics

import (
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// The second part of a name is the stage of the signal path that the figure is about, or the process as a whole.
var stages = []string{
	"capture", "audio", "encode", "queue", "uplink", "ingest", "stream", "egress", "relay", "http", "config", "process", "health",
}

// The last part before _total is what is counted or the base unit: never milliseconds, never kilobits.
var units = []string{
	"seconds", "bytes", "bits_per_second", "ratio", "info", "timestamp_seconds",
	"frames", "packets", "samples", "requests", "restarts", "changes", "errors", "reloads", "streams", "sessions", "viewers",
	"keyframes", "goroutines", "descriptors", "conditions", "connected", "successful",
}

// A Registry holds the metrics of one process.
type Registry struct{ r *prometheus.Registry }

// New returns a Registry with the Go runtime's and the process's own metrics.
func New() *Registry {
	r := prometheus.NewRegistry()
	r.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return &Registry{r}
}

// Handler serves the metrics.
func (r *Registry) Handler() http.Handler {
	return promhttp.HandlerFor(r.r, promhttp.HandlerOpts{Registry: r.r})
}

// Check returns why name is not a Gantry metric's.
func Check(name string, counter bool) error {
	bare, total := strings.CutSuffix(name, "_total")
	if total != counter {
		return fmt.Errorf("metric %s: counters end in _total, and only they", name)
	}
	rest, ok := strings.CutPrefix(bare, "gantry_")
	stage, what, _ := strings.Cut(rest, "_")
	if !ok || !slices.Contains(stages, stage) {
		return fmt.Errorf("metric %s: does not begin with gantry_ and one of %s", name, strings.Join(stages, ", "))
	}
	if !slices.ContainsFunc(units, func(u string) bool { return what == u || strings.HasSuffix(what, "_"+u) }) {
		return fmt.Errorf("metric %s: does not end in one of %s", name, strings.Join(units, ", "))
	}
	return nil
}

func must(name string, counter bool) {
	if err := Check(name, counter); err != nil {
		panic(err)
	}
}

// Counter declares a counter.
func (r *Registry) Counter(name, help string, labels ...string) *prometheus.CounterVec {
	must(name, true)
	c := prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
	r.r.MustRegister(c)
	return c
}

// Gauge declares a gauge.
func (r *Registry) Gauge(name, help string, labels ...string) *prometheus.GaugeVec {
	must(name, false)
	g := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: name, Help: help}, labels)
	r.r.MustRegister(g)
	return g
}

// Histogram declares a histogram.
func (r *Registry) Histogram(name, help string, buckets []float64, labels ...string) *prometheus.HistogramVec {
	must(name, false)
	h := prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: name, Help: help, Buckets: buckets}, labels)
	r.r.MustRegister(h)
	return h
}

// A Figure is one metric that is read when somebody asks, from state that is kept anyway.
type Figure struct {
	Name    string
	Help    string
	Labels  []string
	Counter bool
}

// A Sample is the value of a Figure for one set of label values, in the order of its Labels.
type Sample struct {
	Figure *Figure
	Labels []string
	Value  float64
}

// Collect declares figures whose samples read returns at each scrape. read may be called by several goroutines.
func (r *Registry) Collect(read func() []Sample, figures ...*Figure) {
	c := &collector{read: read, descs: map[*Figure]*prometheus.Desc{}}
	for _, f := range figures {
		must(f.Name, f.Counter)
		c.descs[f] = prometheus.NewDesc(f.Name, f.Help, f.Labels, nil)
	}
	r.r.MustRegister(c)
}

type collector struct {
	read  func() []Sample
	descs map[*Figure]*prometheus.Desc
}

func (c *collector) Describe(out chan<- *prometheus.Desc) {
	for _, d := range c.descs {
		out <- d
	}
}

func (c *collector) Collect(out chan<- prometheus.Metric) {
	for _, s := range c.read() {
		kind := prometheus.GaugeValue
		if s.Figure.Counter {
			kind = prometheus.CounterValue
		}
		out <- prometheus.MustNewConstMetric(c.descs[s.Figure], kind, s.Value, s.Labels...)
	}
}
