package main

import (
	"os"
	"runtime"
	rtm "runtime/metrics"

	"gantry/internal/metrics"
)

// What the process holds: lines that are flat however long it runs.
var (
	processGoroutines = metrics.Figure{Name: "gantry_process_goroutines", Help: "Goroutines of the process."}
	processHeap       = metrics.Figure{Name: "gantry_process_heap_live_bytes", Help: "Heap that was in use at the last garbage collection."}
	processFiles      = metrics.Figure{Name: "gantry_process_open_descriptors", Help: "Open file descriptors of the process."}
)

// collectProcess adds them to r.
func collectProcess(r *metrics.Registry) {
	r.Collect(func() []metrics.Sample {
		live := []rtm.Sample{{Name: "/gc/heap/live:bytes"}}
		rtm.Read(live)
		samples := []metrics.Sample{{Figure: &processGoroutines, Value: float64(runtime.NumGoroutine())}}
		if live[0].Value.Kind() == rtm.KindUint64 {
			samples = append(samples, metrics.Sample{Figure: &processHeap, Value: float64(live[0].Value.Uint64())})
		}
		if files, err := os.ReadDir("/proc/self/fd"); err == nil {
			samples = append(samples, metrics.Sample{Figure: &processFiles, Value: float64(len(files) - 1)}) // reading opens one
		}
		return samples
	}, &processGoroutines, &processHeap, &processFiles)
}
