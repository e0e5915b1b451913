package main

import (
	"cmp"
	"fmt"
	"sync"
	"syscall"
	"time"

	"gantry/internal/metrics"
	"gantry/internal/pipeline"
	"gantry/webui"
)

var (
	renditionFrames = &metrics.Figure{Name: "gantry_encode_rendition_frames_total", Counter: true, Labels: []string{"rendition"},
		Help: "Coded pictures."}
	renditionBytes = &metrics.Figure{Name: "gantry_encode_rendition_bytes_total", Counter: true, Labels: []string{"rendition"},
		Help: "Bytes of coded pictures."}
	renditionTarget = &metrics.Figure{Name: "gantry_encode_rendition_target_bits_per_second", Labels: []string{"rendition"},
		Help: "Bitrate that the encoder is asked for."}
	renditionTook = &metrics.Figure{Name: "gantry_encode_rendition_delay_seconds", Labels: []string{"rendition"},
		Help: "How long a picture is in the encoder, on average of the last second."}
	renditionInfo = &metrics.Figure{Name: "gantry_encode_rendition_info", Labels: []string{"rendition", "codec", "size", "encoder"},
		Help: "1, with what codes the pictures and how large."}
	processCPU = &metrics.Figure{Name: "gantry_process_cpu_seconds_total", Counter: true, Help: "Processor time that the process has used."}
)

// encodes returns all that there are by name, the main one first.
func encodes(st pipeline.Status) (names []string, list []pipeline.EncoderStatus) {
	for _, e := range append([]pipeline.EncoderStatus{st.Encoder}, st.Renditions...) {
		names, list = append(names, cmp.Or(e.Rendition, pipeline.MainLayer)), append(list, e)
	}
	return names, list
}

func encodeSamples(st pipeline.Status) (list []metrics.Sample) {
	add := func(f *metrics.Figure, v float64, labels ...string) {
		list = append(list, metrics.Sample{Figure: f, Value: v, Labels: labels})
	}
	names, all := encodes(st)
	for i, e := range all {
		add(renditionFrames, float64(e.Frames), names[i])
		add(renditionBytes, float64(e.Bytes), names[i])
		add(renditionTarget, float64(e.Target), names[i])
		add(renditionTook, e.Took.Seconds(), names[i])
		if e.Name != "" {
			add(renditionInfo, 1, names[i], e.Track.Codec.String(), fmt.Sprintf("%dx%d", e.Track.Width, e.Track.Height), e.Name)
		}
	}
	add(processCPU, cpuTime().Seconds())
	return list
}

// layers names renditions; nil: there is the main encode alone.
func layers(renditions []string) (names []string) {
	for _, name := range renditions {
		names = append(names, cmp.Or(name, pipeline.MainLayer))
	}
	return names
}

func showEncode(e pipeline.EncoderStatus) webui.Encoder {
	out := webui.Encoder{Rendition: e.Rendition, Name: e.Name, Reason: e.Reason, Width: e.Track.Width, Height: e.Track.Height, Ceiling: e.Ceiling,
		Target: e.Target, Bitrate: e.Bitrate, Rate: e.Rate, Took: e.Took.Seconds(), KeyFrames: e.KeyFrames}
	if e.Name != "" {
		out.Codec = e.Track.Codec.String()
	}
	return out
}

// cpuTime is the processor time that the process has used.
func cpuTime() time.Duration {
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// A busy measures how many processors the process keeps busy.
type busy struct {
	mu   sync.Mutex
	at   time.Time
	used time.Duration
	last float64
}

// read returns the share of one processor, 1 for one, since a moment one second ago or more.
func (l *busy) read(now time.Time) float64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	d := now.Sub(l.at)
	if d < time.Second {
		return l.last
	}
	used := cpuTime()
	l.last = (used - l.used).Seconds() / d.Seconds()
	l.at, l.used = now, used
	return l.last
}
