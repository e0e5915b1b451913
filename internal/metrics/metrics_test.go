package metrics

import (
	"net/http/httptest"
	"strings"
	"testing"
)

func TestNames(t *testing.T) {
	for name, counter := range map[string]bool{
		"gantry_capture_frames_total": true, "gantry_encode_target_bits_per_second": false, "gantry_uplink_connected": false,
		"gantry_queue_dropped_packets_total": true, "gantry_encode_latency_seconds": false,
	} {
		if err := Check(name, counter); err != nil {
			t.Error(err)
		}
	}
	for name, counter := range map[string]bool{
		"capture_frames_total": true, "gantry_capture_frames": true, "gantry_capture_frames_total": false, "gantry_frames_total": true,
		"gantry_encode_latency_ms": false, "gantry_egress_kilobits_total": true, "gantry_capture_": false, "": false,
	} {
		if Check(name, counter) == nil {
			t.Errorf("%q (counter: %v) was allowed", name, counter)
		}
	}
}

func TestPage(t *testing.T) {
	r := New()
	r.Counter("gantry_capture_frames_total", "Pictures.", "device").WithLabelValues("hdmi").Add(3)
	connected := &Figure{Name: "gantry_uplink_connected", Help: "Whether.", Labels: []string{"uplink"}}
	r.Collect(func() []Sample { return []Sample{{connected, []string{"relay"}, 1}} }, connected)
	w := httptest.NewRecorder()
	r.Handler().ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	for _, want := range []string{`gantry_capture_frames_total{device="hdmi"} 3`, `gantry_uplink_connected{uplink="relay"} 1`, "go_goroutines"} {
		if !strings.Contains(w.Body.String(), want) {
			t.Errorf("no %s", want)
		}
	}
	defer func() {
		if recover() == nil {
			t.Error("a bad name was declared")
		}
	}()
	r.Gauge("gantry_encode_latency_ms", "Bad.")
}
