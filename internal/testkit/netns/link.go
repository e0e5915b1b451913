package netns

import (
	"math/rand/v2"
	"os"
	"sync"
	"time"
)

// An Impairment is what one direction of a link does to packets. The zero value does nothing.
type Impairment struct {
	Delay  time.Duration // of every packet
	Jitter time.Duration // added at random, up to this; packets keep their order
	Loss   float64       // share of packets lost at random, 0 to 1
	Rate   int           // bit/s of IP packets; 0 is no limit
	Queue  time.Duration // what may wait for the rate before packets are dropped; 0 is 200 ms
}

const defaultQueue = 200 * time.Millisecond

// A Link joins two namespaces. Its methods may be called while it carries packets.
type Link struct {
	toA, toB *direction
	wait     sync.WaitGroup
}

// Set changes what the link does from the next packet on.
func (l *Link) Set(toB, toA Impairment) {
	l.toB.set(toB)
	l.toA.set(toA)
}

// Filter drops from now on what pass refuses, in both directions, as a firewall does; nil lets all through. pass is given IP
// packets, which it must not keep, and is called by two goroutines.
func (l *Link) Filter(pass func(ip []byte) bool) {
	for _, d := range []*direction{l.toA, l.toB} {
		d.mu.Lock()
		d.pass = pass
		d.mu.Unlock()
	}
}

// Counters are what one direction did so far.
type Counters struct {
	Packets, Bytes int // delivered
	Lost           int // at random
	Dropped        int // for want of rate
	Filtered       int // by Filter
}

// Counters returns what happened to the packets towards b and towards a.
func (l *Link) Counters() (toB, toA Counters) { return l.toB.counters(), l.toA.counters() }

func join(a, b *os.File, toB, toA Impairment) *Link {
	l := &Link{toB: newDirection(a, b, toB, 1), toA: newDirection(b, a, toA, 2)}
	for _, d := range []*direction{l.toA, l.toB} {
		l.wait.Go(d.read)
		l.wait.Go(d.write)
	}
	return l
}

func (l *Link) close() {
	close(l.toA.stop)
	close(l.toB.stop)
	_ = l.toA.from.Close() // ends the readers
	_ = l.toB.from.Close()
	l.wait.Wait()
}

// A direction takes packets from one interface and gives them to the other, later or never.
type direction struct {
	from *os.File
	to   carrier
	due  chan packet
	stop chan struct{}

	mu    sync.Mutex
	shape shaper
	pass  func(ip []byte) bool // nil: all
	count Counters
}

type packet struct {
	data []byte
	at   time.Time
}

func newDirection(from *os.File, to carrier, i Impairment, seed uint64) *direction {
	return &direction{
		from: from, to: to, due: make(chan packet, 16384), stop: make(chan struct{}),
		shape: shaper{Impairment: i, random: rand.New(rand.NewPCG(seed, 0))},
	}
}

func (d *direction) set(i Impairment) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.shape.Impairment = i
}

func (d *direction) counters() Counters {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.count
}

// read takes what the sender's side puts on the link, and decides its fate.
func (d *direction) read() {
	buf := make([]byte, 1<<16)
	for {
		n, err := d.from.Read(buf)
		if err != nil {
			return // closed
		}
		d.mu.Lock()
		if d.pass != nil && !d.pass(buf[:n]) {
			d.count.Filtered++
			d.mu.Unlock()
			continue
		}
		at, fate := d.shape.next(time.Now(), n)
		switch fate {
		case lost:
			d.count.Lost++
		case dropped:
			d.count.Dropped++
		}
		d.mu.Unlock()
		if fate != carried {
			continue
		}
		select {
		case d.due <- packet{append([]byte(nil), buf[:n]...), at}:
		default: // beyond any delay that makes sense
			d.mu.Lock()
			d.count.Dropped++
			d.mu.Unlock()
		}
	}
}

// write delivers each packet when its time has come.
func (d *direction) write() {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		var p packet
		select {
		case <-d.stop:
			return
		case p = <-d.due:
		}
		if wait := time.Until(p.at); wait > 0 {
			timer.Reset(wait)
			select {
			case <-d.stop:
				return
			case <-timer.C:
			}
		}
		if _, err := d.to.Write(p.data); err != nil {
			continue // the other side is down; the link is not
		}
		d.mu.Lock()
		d.count.Packets++
		d.count.Bytes += len(p.data)
		d.mu.Unlock()
	}
}

type fate int

const (
	carried fate = iota
	lost
	dropped
)

// A shaper decides when a packet arrives. Time is its argument, so that it can be tested without a clock.
type shaper struct {
	Impairment
	random *rand.Rand
	free   time.Time // when the line has sent all that it took
	last   time.Time // when the last packet arrives: none arrives before
}

func (s *shaper) next(now time.Time, size int) (arrives time.Time, f fate) {
	if s.Loss > 0 && s.random.Float64() < s.Loss {
		return time.Time{}, lost
	}
	sent := now
	if s.Rate > 0 {
		queue := s.Queue
		if queue == 0 {
			queue = defaultQueue
		}
		if s.free.Before(now) {
			s.free = now
		}
		if s.free.Sub(now) > queue {
			return time.Time{}, dropped
		}
		s.free = s.free.Add(time.Duration(float64(size*8) / float64(s.Rate) * float64(time.Second)))
		sent = s.free
	}
	arrives = sent.Add(s.Delay)
	if s.Jitter > 0 {
		arrives = arrives.Add(time.Duration(s.random.Int64N(int64(s.Jitter))))
	}
	if arrives.Before(s.last) {
		arrives = s.last
	}
	s.last = arrives
	return arrives, carried
}
