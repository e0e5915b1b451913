package linkrate

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
	"time"
)

// A road is a simulated path for packets: a bottleneck with a queue before it, delay, jitter, loss and outages, all as functions
// of time. No clock runs.
type road struct {
	rate   func(at time.Duration) float64 // bit/s
	buffer time.Duration                  // what may wait
	delay  time.Duration                  // one way
	jitter time.Duration
	loss   func(at time.Duration) float64
	other  func(at time.Duration, delay time.Duration) float64 // bit/s of another's flow through the same bottleneck
	asleep func(at time.Duration) bool                         // the sender's machine does nothing
	static bool                                                // the picture needs a tenth of what it may

	random  *rand.Rand
	free    time.Duration // when the bottleneck has sent all
	last    time.Duration // in order
	otherAt time.Duration
}

func (r *road) pass(at time.Duration, bytes int) (arrives time.Duration, ok bool) {
	rate := r.rate(at)
	if r.loss != nil && r.random.Float64() < r.loss(at) || rate == 0 {
		return 0, false
	}
	r.free = max(r.free, at)
	if r.other != nil {
		r.free += time.Duration(r.other(at, r.free-at) * (at - r.otherAt).Seconds() / rate * 1e9)
		r.free = min(r.free, at+r.buffer)
		r.otherAt = at
	}
	if waits := r.free - at; waits > r.buffer && waits.Seconds()*rate > 4*1200*8 { // no buffer holds less than some packets
		return 0, false
	}
	r.free += time.Duration(float64(bytes*8) / rate * 1e9)
	arrives = r.free + r.delay
	if r.jitter > 0 {
		arrives += time.Duration(r.random.Int64N(int64(r.jitter)))
	}
	r.last = max(r.last, arrives)
	return r.last, true
}

// A moment is what happened in one step of a simulation.
type moment struct {
	at              time.Duration
	target, encoder float64
	delay           time.Duration // that a packet sent now has in the queue
}

const simCeiling = 4_000_000

// drive runs an encoder and a pacer that obey p over the road: pictures 30 times a second, sound 50 times.
func (r *road) drive(p *Packets, length time.Duration) (all []moment) {
	const step = time.Millisecond
	r.random = rand.New(rand.NewPCG(1, 2))
	type report struct {
		due     time.Duration
		packets []Arrival
	}
	var (
		waiting  []Arrival // on the way, in order of sending
		reports  []report
		queue    []int
		due      time.Duration
		encoder  = float64(simCeiling)
		picture  time.Duration
		audio    time.Duration
		feedback time.Duration
		paid     time.Duration
	)
	send := func(at time.Duration, bytes int) {
		arrives, ok := r.pass(at, bytes)
		if fill := p.Recovering(); fill > 0 {
			paid = max(paid, at-50*time.Millisecond) + time.Duration(float64(bytes*8)/float64(fill)*1e9)
		}
		waiting = append(waiting, Arrival{Sent: at, Arrived: arrives + time.Hour, Bytes: bytes, Lost: !ok})
	}
	for at := step; at < length; at += step {
		if at >= feedback { // the receiver tells of all up to the newest that has come
			feedback += 50 * time.Millisecond
			n := 0
			for i, a := range waiting {
				if !a.Lost && a.Arrived-time.Hour <= at {
					n = i + 1
				}
			}
			if n > 0 && r.rate(at) > 0 {
				reports = append(reports, report{at + r.delay, append([]Arrival(nil), waiting[:n]...)})
				waiting = waiting[n:]
			}
		}
		if r.asleep != nil && r.asleep(at) {
			continue
		}
		for len(reports) > 0 && reports[0].due <= at {
			p.Report(at, reports[0].packets)
			reports = reports[1:]
		}
		if at%(100*time.Millisecond) == 0 {
			p.Look(at, true)
		}
		target := float64(p.Rate())
		if want := min(simCeiling, target*0.9-100_000); want < encoder {
			encoder = max(want, 100_000)
		} else {
			encoder = min(want, encoder*(1+1.0*step.Seconds()))
		}
		if at-audio >= 20*time.Millisecond {
			audio = at
			send(at, 200)
		}
		if at-picture >= time.Second/30 {
			picture = at
			size := encoder / 30 / 8
			if r.static {
				size /= 10
			}
			for ; size > 1200; size -= 1200 {
				queue = append(queue, 1200)
			}
			queue = append(queue, int(size)+1)
		}
		pace := 2.5 * target
		if p.Full() {
			pace = target
		} else if p.Tight() {
			pace = 1.25 * target
		}
		for due <= at && len(queue) > 0 {
			send(at, queue[0])
			due = max(due, at-5*time.Millisecond) + time.Duration(float64(queue[0]*8)/pace*1e9)
			queue = queue[1:]
		}
		for p.Recovering() > 0 && len(queue) == 0 && due <= at && paid <= at {
			send(at, 1200)
			due = max(due, at-5*time.Millisecond) + time.Duration(1200*8/pace*1e9)
		}
		all = append(all, moment{at, target, encoder, max(0, r.free-at)})
	}
	return all
}

func newSim() *Packets { return NewPackets(6_000_000, 150_000, 20_000_000) }

func steady(rate float64) func(time.Duration) float64 {
	return func(time.Duration) float64 { return rate }
}

// between returns the least and the most that the encoder got, and the longest queue.
func between(all []moment, from, to time.Duration) (least, most, mean float64, queue time.Duration) {
	least = math.Inf(1)
	n := 0
	for _, m := range all {
		if m.at >= from && m.at < to {
			least, most, queue = min(least, m.encoder), max(most, m.encoder), max(queue, m.delay)
			mean += m.encoder
			n++
		}
	}
	return least, most, mean / float64(n), queue
}

func first(all []moment, from time.Duration, ok func(moment) bool) time.Duration {
	for _, m := range all {
		if m.at >= from && ok(m) {
			return m.at - from
		}
	}
	return time.Hour
}

// Down within a second and up again within ten, on paths of all kinds.
func TestPacketsFollowAStep(t *testing.T) {
	for _, delay := range []time.Duration{5, 50, 100} {
		for _, buffer := range []time.Duration{30, 200, 1000} {
			for _, loss := range []float64{0, 0.02} {
				for _, low := range []float64{400_000, 1_500_000, 3_000_000} {
					name := fmt.Sprintf("delay %d ms buffer %d ms loss %.2f to %.1f Mbit/s", delay, buffer, loss, low/1e6)
					r := &road{delay: delay * time.Millisecond, buffer: buffer * time.Millisecond, loss: steady(loss),
						rate: func(at time.Duration) float64 {
							if at > 10*time.Second && at < 30*time.Second {
								return low
							}
							return 20e6
						}}
					all := r.drive(newSim(), 50*time.Second)
					down := first(all, 10*time.Second, func(m moment) bool { return m.encoder < low })
					up := first(all, 30*time.Second, func(m moment) bool { return m.encoder > 0.95*simCeiling })
					least, most, _, queue := between(all, 13*time.Second, 30*time.Second)
					share := 0.0
					for _, m := range all { // of what is there, not of what the encoder gets beside sound and headers
						if m.at >= 13*time.Second && m.at < 30*time.Second {
							share += m.target / low / 17_000
						}
					}
					text := fmt.Sprintf("%s: down %v up %v; slow: %.2f to %.2f, target %.2f, queue %v", name, down, up, least/low, most/low, share, queue.Round(time.Millisecond))
					if down > time.Second || up > 10*time.Second || share < 0.75 || most > 1.3*low {
						t.Error(text)
					} else {
						t.Log(text)
					}
				}
			}
		}
	}
}

// What is no congestion costs no bitrate.
func TestPacketsHoldOn(t *testing.T) {
	stall := func(every, d time.Duration) func(time.Duration) bool {
		return func(at time.Duration) bool { return at%every < d }
	}
	for name, r := range map[string]*road{
		"1 % loss":        {loss: steady(0.01)},
		"5 % loss":        {loss: steady(0.05)},
		"10 % loss":       {loss: steady(0.10)},
		"20 ms of jitter": {jitter: 20 * time.Millisecond},
		"60 ms of jitter": {jitter: 60 * time.Millisecond},
		"jitter and loss": {jitter: 40 * time.Millisecond, loss: steady(0.05)},
		"starved":         {asleep: stall(500*time.Millisecond, 200*time.Millisecond)},
		"very starved":    {asleep: stall(2*time.Second, 900*time.Millisecond)},
	} {
		r.delay, r.buffer, r.rate = 30*time.Millisecond, 200*time.Millisecond, steady(20e6)
		all := r.drive(newSim(), 40*time.Second)
		least, _, mean, _ := between(all, 3*time.Second, 40*time.Second)
		t.Logf("%s: least %.2f mean %.2f", name, least/simCeiling, mean/simCeiling)
		if mean < 0.95*simCeiling || least < 0.6*simCeiling {
			t.Errorf("%s: the encoder got %.2f at the least, %.2f in the mean", name, least/simCeiling, mean/simCeiling)
		}
	}
}

// Three seconds without anything: at the floor within one, and back within ten.
func TestPacketsOutage(t *testing.T) {
	r := &road{delay: 30 * time.Millisecond, buffer: 200 * time.Millisecond, rate: func(at time.Duration) float64 {
		if at > 10*time.Second && at < 13*time.Second {
			return 0
		}
		return 20e6
	}}
	all := r.drive(newSim(), 30*time.Second)
	down := first(all, 10*time.Second, func(m moment) bool { return m.target <= 150_000 })
	up := first(all, 13*time.Second, func(m moment) bool { return m.encoder > 0.95*simCeiling })
	t.Logf("down %v up %v", down, up)
	if down > time.Second || up > 10*time.Second {
		t.Errorf("down %v up %v", down, up)
	}
}

// A link that carries less than the encoder makes is used well, for a long time, with a short queue.
func TestPacketsStaySteady(t *testing.T) {
	r := &road{delay: 30 * time.Millisecond, buffer: 500 * time.Millisecond, rate: steady(2e6)}
	all := r.drive(newSim(), 120*time.Second)
	least, most, mean, queue := between(all, 5*time.Second, 120*time.Second)
	t.Logf("%.2f to %.2f, mean %.2f, queue %v", least/2e6, most/2e6, mean/2e6, queue)
	if mean < 0.7*2e6 || queue > 250*time.Millisecond {
		t.Errorf("mean %.2f, queue %v", mean/2e6, queue)
	}
}

// Another's flow that fills the buffer, as TCP does, does not starve ours; and when it goes, the rate comes back.
func TestPacketsBesideAnother(t *testing.T) {
	r := &road{delay: 30 * time.Millisecond, buffer: 200 * time.Millisecond, rate: steady(6e6)}
	window := 1e6
	last := time.Duration(0)
	r.other = func(at, delay time.Duration) float64 { // additive increase, multiplicative decrease at a full buffer
		if at < 10*time.Second || at > 50*time.Second {
			return 0
		}
		window += 0.5e6 * (at - last).Seconds()
		last = at
		if delay > 190*time.Millisecond {
			window *= 0.7
		}
		return window
	}
	last = 10 * time.Second
	all := r.drive(newSim(), 70*time.Second)
	_, _, mean, _ := between(all, 15*time.Second, 50*time.Second)
	up := first(all, 50*time.Second, func(m moment) bool { return m.encoder > 0.95*simCeiling })
	t.Logf("mean %.2f of ours; up %v", mean/simCeiling, up)
	if mean < 0.2*simCeiling || up > 10*time.Second {
		t.Errorf("mean %.2f Mbit/s of ours; up %v", mean/1e6, up)
	}
}

// A still picture does not keep the rate down: what the encoder does not send is filled up.
func TestPacketsRecoverWithAStillPicture(t *testing.T) {
	r := &road{delay: 30 * time.Millisecond, buffer: 200 * time.Millisecond, static: true, rate: func(at time.Duration) float64 {
		if at > 10*time.Second && at < 15*time.Second {
			return 200_000
		}
		return 20e6
	}}
	all := r.drive(newSim(), 40*time.Second)
	least, _, _, _ := between(all, 10*time.Second, 15*time.Second)
	up := first(all, 15*time.Second, func(m moment) bool { return m.encoder > 0.95*simCeiling })
	t.Logf("least %.2f up %v", least/simCeiling, up)
	if least > 250_000 || up > 10*time.Second {
		t.Errorf("least %.0f, up %v", least, up)
	}
}

// What a policer drops goes with the rate, and the rate with it.
func TestPacketsMeetAPolicer(t *testing.T) {
	r := &road{delay: 30 * time.Millisecond, buffer: 5 * time.Millisecond, rate: steady(2e6)}
	all := r.drive(newSim(), 30*time.Second)
	_, most, mean, _ := between(all, 3*time.Second, 30*time.Second)
	t.Logf("mean %.2f most %.2f", mean/2e6, most/2e6)
	if mean < 0.5*2e6 || most > 1.4*2e6 {
		t.Errorf("mean %.2f most %.2f", mean/2e6, most/2e6)
	}
}
