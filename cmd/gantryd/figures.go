package main

import (
	"sync"
	"time"

	"gantry/internal/metrics"
	"gantry/internal/pipeline"
)

// reloads counts what SIGHUP brought.
type reloads struct {
	mu        sync.Mutex
	good, bad uint64
	failed    bool // the last one
}

func (r *reloads) note(good bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.failed = !good; good {
		r.good++
	} else {
		r.bad++
	}
}

var (
	captureFrames = &metrics.Figure{Name: "gantry_capture_frames_total", Counter: true, Labels: []string{"device"},
		Help: "Pictures that the source delivered."}
	captureSlates = &metrics.Figure{Name: "gantry_capture_slate_frames_total", Counter: true, Labels: []string{"device"},
		Help: "Pictures of the slate that stood in for the source."}
	captureDropped = &metrics.Figure{Name: "gantry_capture_dropped_frames_total", Counter: true, Labels: []string{"device", "reason"},
		Help: "Pictures that were not encoded: lost by the device, replaced by a newer one, or late."}
	captureSignal = &metrics.Figure{Name: "gantry_capture_signal_connected", Labels: []string{"device"},
		Help: "1 while pictures of the source go out, 0 while the slate does."}
	encodeFrames = &metrics.Figure{Name: "gantry_encode_frames_total", Counter: true, Help: "Coded pictures."}
	encodeKeys   = &metrics.Figure{Name: "gantry_encode_keyframes_total", Counter: true, Help: "Coded pictures at which decoding can begin."}
	encodeBytes  = &metrics.Figure{Name: "gantry_encode_bytes_total", Counter: true, Help: "Bytes of coded pictures."}
	encodeTarget = &metrics.Figure{Name: "gantry_encode_target_bits_per_second", Help: "Bitrate that the encoder is asked for."}
	encodeRead   = &metrics.Figure{Name: "gantry_encode_read_frames_total", Counter: true, Labels: []string{"path"},
		Help: "Pictures by how they reached the encoder: in-place, where the source had put them, or copied or converted first."}
	encodeOpened = &metrics.Figure{Name: "gantry_encode_restarts_total", Counter: true, Help: "Encoders opened after the first."}
	audioSilence = &metrics.Figure{Name: "gantry_audio_silence_seconds_total", Counter: true, Labels: []string{"device"},
		Help: "Silence that stood in for sound that was missing."}
	audioOverruns = &metrics.Figure{Name: "gantry_audio_overrun_errors_total", Counter: true, Labels: []string{"device"},
		Help: "Gaps because samples of the card were not fetched in time, since it was opened."}
	audioDrift = &metrics.Figure{Name: "gantry_audio_drift_ratio", Labels: []string{"device"},
		Help: "By how much the card's clock runs faster than the pictures', as a share; it is resampled away."}
	audioOffset = &metrics.Figure{Name: "gantry_audio_offset_seconds", Labels: []string{"device"},
		Help: "By how much the sound is later than the pictures, as far as is known."}
	audioPackets = &metrics.Figure{Name: "gantry_audio_packets_total", Counter: true, Labels: []string{"device"}, Help: "Coded packets of sound."}
	uplinkUp     = &metrics.Figure{Name: "gantry_uplink_connected", Labels: []string{"uplink"}, Help: "1 while media flows to the destination."}
	uplinkLosses = &metrics.Figure{Name: "gantry_uplink_errors_total", Counter: true, Labels: []string{"uplink"},
		Help: "Connections that were lost or could not be made."}
	uplinkCarries = &metrics.Figure{Name: "gantry_uplink_path_bits_per_second", Labels: []string{"uplink"},
		Help: "What the path to the destination is said to carry; 0: not known."}
	queueDropped = &metrics.Figure{Name: "gantry_queue_dropped_packets_total", Counter: true, Labels: []string{"uplink"},
		Help: "Packets that waited too long for the destination."}
	uplinkRate = &metrics.Figure{Name: "gantry_uplink_sent_bits_per_second", Labels: []string{"uplink"}, Help: "What leaves for the destination."}
	uplinkRTT  = &metrics.Figure{Name: "gantry_uplink_round_trip_seconds", Labels: []string{"uplink"}, Help: "Round trip to the destination; 0: not known."}
	uplinkLoss = &metrics.Figure{Name: "gantry_uplink_loss_ratio", Labels: []string{"uplink"},
		Help: "Share of packets lost on the way lately, before they were sent again; 0: not known."}
	uplinkBytes   = &metrics.Figure{Name: "gantry_uplink_sent_bytes_total", Counter: true, Labels: []string{"uplink"}, Help: "Bytes sent to the destination."}
	uplinkPackets = &metrics.Figure{Name: "gantry_uplink_packets_total", Counter: true, Labels: []string{"uplink", "kind"},
		Help: "Packets to the destination: sent, repeats included; retransmitted; dropped as too late or not taken by the path."}
	pathUp = &metrics.Figure{Name: "gantry_uplink_path_connected", Labels: []string{"uplink", "path"},
		Help: "1 while media flows by this interface, of a destination that is sent to by several."}
	pathBytes  = &metrics.Figure{Name: "gantry_uplink_path_sent_bytes_total", Counter: true, Labels: []string{"uplink", "path"}, Help: "Bytes sent by this interface."}
	pathRTT    = &metrics.Figure{Name: "gantry_uplink_path_round_trip_seconds", Labels: []string{"uplink", "path"}, Help: "Round trip by this interface; 0: not known."}
	pathLoss   = &metrics.Figure{Name: "gantry_uplink_path_loss_ratio", Labels: []string{"uplink", "path"}, Help: "Share of packets lost lately by this interface."}
	conditions = &metrics.Figure{Name: "gantry_health_conditions", Labels: []string{"severity"}, Help: "What is wrong now, by severity."}
	uptime     = &metrics.Figure{Name: "gantry_process_uptime_seconds", Help: "Since the start."}
	reloaded   = &metrics.Figure{Name: "gantry_config_reloads_total", Counter: true, Labels: []string{"result"}, Help: "Configuration files read again."}
	lastReload = &metrics.Figure{Name: "gantry_config_last_reload_successful", Help: "0 while the file in place is not the one in use."}
)

// declare registers what the box measures.
func (b *box) declare(r *metrics.Registry) {
	r.Collect(b.samples, captureFrames, captureSlates, captureDropped, captureSignal, encodeFrames, encodeKeys, encodeBytes,
		encodeTarget, encodeRead, encodeOpened, audioPackets, audioSilence, audioOverruns, audioDrift, audioOffset, uplinkUp, uplinkLosses, uplinkCarries, queueDropped, uplinkRate, uplinkRTT, uplinkLoss,
		uplinkBytes, uplinkPackets, pathUp, pathBytes, pathRTT, pathLoss, conditions, uptime, reloaded, lastReload,
		renditionFrames, renditionBytes, renditionTarget, renditionTook, renditionInfo, processCPU)
}

func (b *box) samples() []metrics.Sample {
	st := b.session.Status()
	list := encodeSamples(st)
	add := func(f *metrics.Figure, v float64, labels ...string) {
		list = append(list, metrics.Sample{Figure: f, Value: v, Labels: labels})
	}
	v, e := st.Video, st.Encoder
	add(captureFrames, float64(v.Frames), v.Name)
	add(captureSlates, float64(v.Slates), v.Name)
	add(captureDropped, float64(v.Lost), v.Name, "lost")
	add(captureDropped, float64(v.Replaced), v.Name, "replaced")
	add(captureDropped, float64(v.Late), v.Name, "late")
	add(captureSignal, truth(v.Signal), v.Name)
	add(encodeFrames, float64(e.Frames))
	add(encodeRead, float64(e.InPlace), "in-place")
	add(encodeRead, float64(e.Copied), "copied")
	add(encodeKeys, float64(e.KeyFrames))
	add(encodeBytes, float64(e.Bytes))
	add(encodeTarget, float64(e.Target))
	add(encodeOpened, float64(max(e.Opened, 1)-1))
	if st.Audio.Name != "" {
		add(audioPackets, float64(st.Audio.Packets), st.Audio.Name)
		add(audioSilence, st.Audio.Levels.Silence.Seconds(), st.Audio.Name)
		add(audioOverruns, float64(st.Audio.Clock.Overruns), st.Audio.Name)
		add(audioDrift, st.Audio.Clock.Drift/1e6, st.Audio.Name)
		add(audioOffset, st.Audio.Clock.Offset.Seconds(), st.Audio.Name)
	}
	for _, u := range st.Uplinks {
		add(uplinkUp, truth(u.State == pipeline.Connected), u.Name)
		add(uplinkLosses, float64(u.Losses), u.Name)
		add(uplinkCarries, float64(u.Carries), u.Name)
		add(queueDropped, float64(u.Dropped), u.Name)
		add(uplinkRate, u.Bitrate, u.Name)
		add(uplinkRTT, u.Sent.RTT.Seconds(), u.Name)
		add(uplinkLoss, u.Sent.Loss, u.Name)
		add(uplinkBytes, float64(u.Sent.Bytes), u.Name)
		add(uplinkPackets, float64(u.Sent.Packets), u.Name, "sent")
		add(uplinkPackets, float64(u.Sent.Retransmitted), u.Name, "retransmitted")
		add(uplinkPackets, float64(u.Sent.Dropped), u.Name, "dropped")
		for _, p := range u.Sent.Paths {
			add(pathUp, truth(p.Connected), u.Name, p.Name)
			add(pathBytes, float64(p.Bytes), u.Name, p.Name)
			add(pathRTT, p.RTT.Seconds(), u.Name, p.Name)
			add(pathLoss, p.Loss, u.Name, p.Name)
		}
	}
	bad := map[string]float64{"degraded": 0, "failing": 0, "broken": 0}
	for _, c := range b.health.Conditions() {
		bad[c.Severity.String()]++
	}
	for severity, n := range bad {
		add(conditions, n, severity)
	}
	add(uptime, time.Since(b.began).Seconds())
	b.reloads.mu.Lock()
	defer b.reloads.mu.Unlock()
	add(reloaded, float64(b.reloads.good), "good")
	add(reloaded, float64(b.reloads.bad), "bad")
	add(lastReload, truth(!b.reloads.failed))
	return list
}

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
