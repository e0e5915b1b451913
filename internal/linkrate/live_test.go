package linkrate

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"
)

// A live is a simulated SRT connection with what makes its statistics slow to tell: round trips are averaged at both ends, what
// is missing is sent again at each of the receiver's periodic requests, and what it gives up as too late counts as acknowledged.
// No clock runs.
type live struct {
	rate    func(at time.Duration) float64 // of the bottleneck, bit/s
	loss    func(at time.Duration) float64
	delay   time.Duration // one way
	buffer  time.Duration // what may wait at the bottleneck
	latency time.Duration

	random   *rand.Rand
	free     time.Duration // when the bottleneck has sent all
	packets  []livePacket
	acked    int // packets that the receiver acknowledges
	told     int // of them known to the sender
	repeats  int
	far, rtt float64 // smoothed round trips, s: the receiver's, the sender's
}

type livePacket struct {
	sent, arrives time.Duration
	here          bool
}

const (
	livePayload = 1316
	liveWire    = livePayload + 44
)

func (l *live) transmit(i int, at time.Duration) {
	l.free = max(l.free, at)
	if l.free-at > l.buffer || l.random.Float64() < l.loss(at) {
		return
	}
	l.free += time.Duration(liveWire * 8 / l.rate(at) * 1e9)
	if p := &l.packets[i]; !p.here {
		p.here, p.arrives = true, l.free+l.delay
	}
}

// drive runs an encoder that obeys e, and returns what it made.
func (l *live) drive(e *Estimator, length time.Duration) (all []moment) {
	type ack struct {
		due     time.Duration
		packets int
		rtt     float64
	}
	l.random = rand.New(rand.NewPCG(3, 4))
	l.far, l.rtt = 2*l.delay.Seconds(), 2*l.delay.Seconds()
	var acks []ack
	type request struct {
		due     time.Duration
		packets []int
	}
	var requests []request
	var picture, nak time.Duration
	var bytes float64
	encoder, estimate := float64(simCeiling), float64(none)
	for at := time.Millisecond; at < length; at += time.Millisecond {
		if at-picture >= time.Second/30 {
			picture = at
			for bytes += encoder / 30 / 8; bytes >= livePayload; bytes -= livePayload {
				l.packets = append(l.packets, livePacket{sent: at})
				l.transmit(len(l.packets)-1, at)
			}
		}
		arrived := func(p livePacket) bool { return p.here && p.arrives <= at }
		newest := len(l.packets)
		for newest > l.acked && !arrived(l.packets[newest-1]) {
			newest--
		}
		if at >= nak {
			nak = at + max(20*time.Millisecond, time.Duration(l.rtt/2*1e9))
			r := request{due: at + l.delay}
			for i := l.acked; i < newest; i++ {
				if !arrived(l.packets[i]) {
					r.packets = append(r.packets, i)
				}
			}
			requests = append(requests, r)
		}
		for len(requests) > 0 && requests[0].due <= at {
			for _, i := range requests[0].packets {
				l.repeats++
				l.transmit(i, at)
			}
			requests = requests[1:]
		}
		if at%(10*time.Millisecond) == 0 {
			for l.acked < newest && (arrived(l.packets[l.acked]) || l.packets[l.acked].sent+l.delay+l.latency < at) {
				l.acked++
			}
			l.far += (2*l.delay.Seconds() + max(0, (l.free-at).Seconds()) + l.random.Float64()/1000 - l.far) / 8 // no clock is better
			acks = append(acks, ack{at + l.delay, l.acked, l.far})
		}
		for len(acks) > 0 && acks[0].due <= at {
			l.told = acks[0].packets
			l.rtt += (acks[0].rtt - l.rtt) / 8
			acks = acks[1:]
		}
		if at%SampleEvery == 0 {
			s := Sample{At: at, RTT: time.Duration(l.rtt * 1e9), Bytes: uint64(len(l.packets) * livePayload), Pending: uint64((len(l.packets) - l.told) * livePayload),
				Packets: uint64(len(l.packets) + l.repeats), Repeats: uint64(l.repeats)}
			if l.told < len(l.packets) {
				s.Buffered = at - l.packets[l.told].sent
			}
			if got := e.Next(s); got > 0 {
				estimate = float64(got)
			}
		}
		if want := min(simCeiling, 0.93*estimate); want < encoder {
			encoder = max(want, 100_000)
		} else {
			encoder = min(want, encoder*(1+1.0*0.001))
		}
		all = append(all, moment{at, estimate, encoder, max(0, l.free-at)})
	}
	return all
}

// Down within a second, by statistics, then near what the link carries; and up again.
func TestEstimatorFollowsSteps(t *testing.T) {
	var shares, runs float64
	for _, delay := range []time.Duration{10, 20, 50, 100} {
		for _, buffer := range []time.Duration{100, 200, 500} {
			for _, loss := range []float64{0, 0.02} {
				for _, low := range []float64{600_000, 800_000, 1_500_000, 2_500_000} {
					l := &live{delay: delay * time.Millisecond, buffer: buffer * time.Millisecond, loss: steady(loss),
						latency: max(200*time.Millisecond, 8*delay*time.Millisecond), rate: func(at time.Duration) float64 {
							if at > 10*time.Second && at < 20*time.Second {
								return low
							}
							return 20e6
						}}
					all := l.drive(&Estimator{Latency: l.latency}, 35*time.Second)
					before, _, _, _ := between(all, 3*time.Second, 10*time.Second)
					down := first(all, 10*time.Second, func(m moment) bool { return m.encoder < low })
					least, _, mean, queue := between(all, 13*time.Second, 20*time.Second)
					shares, runs = shares+mean/low, runs+1
					up := first(all, 20*time.Second, func(m moment) bool { return m.encoder > 0.95*simCeiling })
					text := fmt.Sprintf("delay %v buffer %v loss %.2f to %.1f Mbit/s: before %.2f, down %v up %v; slow: least %.2f mean %.2f queue %v", l.delay, l.buffer, loss, low/1e6,
						before/simCeiling, down, up, least/low, mean/low, queue.Round(time.Millisecond))
					if down > time.Second || up > 12*time.Second || before < 0.9*simCeiling || mean < 0.45*low || mean > low || queue > 450*time.Millisecond {
						t.Error(text)
					} else {
						t.Log(text)
					}
				}
			}
		}
	}
	if shares < 0.7*runs {
		t.Errorf("in the mean %.2f of the slow links are used", shares/runs)
	}
}

// Random loss that is much for a while is not taken for a narrow path for ever.
func TestEstimatorForgetsLoss(t *testing.T) {
	l := &live{delay: 20 * time.Millisecond, buffer: 200 * time.Millisecond, latency: 200 * time.Millisecond, rate: steady(20e6), loss: func(at time.Duration) float64 {
		if at > 10*time.Second && at < 18*time.Second {
			return 0.12
		}
		return 0
	}}
	all := l.drive(&Estimator{Latency: l.latency}, 30*time.Second)
	least, _, mean, _ := between(all, 10*time.Second, 18*time.Second)
	up := first(all, 18*time.Second, func(m moment) bool { return m.encoder > 0.95*simCeiling })
	t.Logf("least %.2f mean %.2f; up %v", least/simCeiling, mean/simCeiling, up)
	if mean < 0.5*simCeiling || up > 5*time.Second {
		t.Errorf("least %.2f mean %.2f of the rate; up after %v", least/simCeiling, mean/simCeiling, up)
	}
}
