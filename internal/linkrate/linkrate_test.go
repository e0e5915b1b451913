package linkrate_test

import (
	"testing"
	"time"

	"gantry/internal/linkrate"
)

// TestEstimatorFollowsALink simulates a bottleneck with a queue of half a second in front: the encoder obeys the estimate up
// to its ceiling, the link's rate falls and comes back.
func TestEstimatorFollowsALink(t *testing.T) {
	const ceiling, step = 4e6, 100 * time.Millisecond
	e := linkrate.Estimator{Latency: 200 * time.Millisecond}
	rate := func(at time.Duration) float64 { // of the link
		if at >= 10*time.Second && at < 30*time.Second {
			return 1.5e6
		}
		return 20e6
	}
	var sent, queued, dropped float64 // bits
	encoder := ceiling
	var downAt, upAt time.Duration
	var worst float64 // share of the link while it is slow, once settled
	for at := time.Duration(0); at < 60*time.Second; at += step {
		r := rate(at)
		sent += encoder * step.Seconds()
		queued += encoder * step.Seconds()
		queued -= min(queued, r*step.Seconds())
		if limit := r / 2; queued > limit {
			dropped += queued - limit
			queued = limit
		}
		delay := time.Duration(queued / r * float64(time.Second))
		got := e.Next(linkrate.Sample{At: at, RTT: 20*time.Millisecond + delay, Buffered: 30*time.Millisecond + delay, Bytes: uint64(sent / 8),
			Pending: uint64(queued / 8), Packets: uint64(sent / 8 / 1316), Repeats: uint64(dropped / 8 / 1316), Lost: uint64(dropped / 8), Dropped: uint64(dropped / 8 / 1316)})
		if got > 0 {
			encoder = min(ceiling, float64(got))
		}
		switch {
		case at >= 10*time.Second && downAt == 0 && encoder < 1.5e6:
			downAt = at - 10*time.Second
		case at >= 15*time.Second && at < 30*time.Second:
			worst = max(worst, encoder/1.5e6)
		case at >= 30*time.Second && upAt == 0 && encoder == ceiling:
			upAt = at - 30*time.Second
		}
	}
	if downAt == 0 || downAt > time.Second {
		t.Errorf("down after %v", downAt)
	}
	if upAt == 0 || upAt > 10*time.Second {
		t.Errorf("up again after %v", upAt)
	}
	if worst > 1.4 {
		t.Errorf("sent %.2f of what the link carries", worst)
	}
	t.Logf("down after %v, up after %v, at most %.2f of the slow link", downAt, upAt, worst)
}

func TestEstimatorHasNoOpinionOnAGoodLink(t *testing.T) {
	e := linkrate.Estimator{Latency: 200 * time.Millisecond}
	for i := range 600 {
		at := time.Duration(i) * linkrate.SampleEvery
		jitter := time.Duration(i%7) * time.Millisecond
		if got := e.Next(linkrate.Sample{At: at, RTT: 30*time.Millisecond + jitter, Buffered: 45*time.Millisecond + jitter, Bytes: uint64(i) * 50_000,
			Packets: uint64(i) * 38, Repeats: uint64(i) / 2}); got != 0 {
			t.Fatalf("at %v: %d", at, got)
		}
	}
}

// Three seconds without an answer, while what waits is given up: at the floor within one second, and back within ten.
func TestEstimatorOutage(t *testing.T) {
	const ceiling = 4e6
	e := linkrate.Estimator{Latency: 200 * time.Millisecond}
	var sent, pending, lost float64 // bytes
	encoder := float64(ceiling)
	rtt := 40 * time.Millisecond
	var down, up time.Duration
	for at := linkrate.SampleEvery; at < 30*time.Second; at += linkrate.SampleEvery {
		n := encoder / 8 * linkrate.SampleEvery.Seconds()
		sent += n
		out := at > 10*time.Second && at <= 13*time.Second
		if out {
			pending += n
			if limit := ceiling / 8 * 0.2; pending > limit {
				lost, pending = lost+pending-limit, limit
			}
		} else {
			pending = n / 4
			rtt = 40*time.Millisecond + time.Duration(at%7)
		}
		got := e.Next(linkrate.Sample{At: at, RTT: rtt, Buffered: 33 * time.Millisecond, Bytes: uint64(sent), Pending: uint64(pending),
			Packets: uint64(sent / 1316), Lost: uint64(lost), Dropped: uint64(lost / 1316)})
		if got > 0 {
			encoder = min(ceiling, float64(got))
		}
		if at > 10*time.Second && down == 0 && encoder <= 200_000 {
			down = at - 10*time.Second
		}
		if at > 13*time.Second && up == 0 && encoder == ceiling {
			up = at - 13*time.Second
		}
	}
	if down == 0 || down > time.Second || up == 0 || up > 10*time.Second {
		t.Errorf("down after %v, up after %v", down, up)
	}
	t.Logf("down after %v, up after %v", down, up)
}
