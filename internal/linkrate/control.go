package linkrate

import "time"

const (
	usualMemory  = 5 * time.Second        // of the delay and the loss that a path has without being full
	rest         = 400 * time.Millisecond // after congestion, before the rate grows
	tightMemory  = 10 * time.Second
	lossMemory   = time.Second
	longStall    = 150 * time.Millisecond // a longer gap between looks is this machine's own, and counts as this
	quiet        = 600 * time.Millisecond // without a report: nothing arrives there, or nothing comes back
	returnFactor = 0.5                    // of the rate before a silence: where to begin after it

	emptying   = 0.95 // of what arrives, so that a queue drains; less for a longer one
	deepest    = 0.3  // s of queue, beyond which a step is no deeper
	resuming   = 0.85 // of what the path has passed, when the queue is gone
	sinking    = 0.7  // of that, less the s of queue, while there is one: enough for it to drain
	further    = 0.85 // of the rate at least, where a step did not help
	fastGrowth = 1.0  // a second
	kneeGrowth = 0.1  // a second, at the rate at which the path was full
	kneeWidth  = 0.5  // off it, as a share, growth is as fast as elsewhere
	kneeMemory = time.Minute
	forget     = 30 * time.Second // the rate to return to, where the path is full before it is reached
	tryBeyond  = 1.3              // of what arrives: the rate does not grow beyond what was put to the test
	tryMore    = 150_000

	moreLoss   = 0.05 // share lost more than usual that says, with some delay, that the path is full
	randomLoss = 0.15 // share lost, without delay, that says nothing of the rate; it may be taught to be more
	mostRandom = 0.5
	notOurs    = 1 // steps down that left the queue as it was: it is another's
)

// A control holds the rate. It is told what a sensor sees of the path:
//
//   - A queue, in time: the rate goes to less than what arrives, so that it drains. What arrives while a queue stands is what the
//     path carries, its knee; when the queue is gone, the rate goes on a little below that, where a sensor could not tell it at once.
//   - Loss without a queue is the path's own and says nothing, unless there is much of it and it goes with the rate.
//   - Otherwise the rate grows: slowly near the knee, else fast, and never far beyond what arrives.
type control struct {
	floor, ceiling float64
	standing       float64       // s of queue that its sensor does not take for noise
	settle         time.Duration // after a step and a round trip, until its sensor sees what came of it
	target         float64       // bit/s
	now            time.Duration
	rtt            time.Duration

	normal
	bottleneck
	fall
	policed policed
	silence
}

// A bottleneck is what is known of the narrowest part of the path.
type bottleneck struct {
	knee   float64 // bit/s that arrived when the path began to be full
	resume float64 // bit/s to go on with when the queue is gone; 0: from where the rate is then
}

// A fall is how the rate came down.
type fall struct {
	bad       time.Duration // when the path was last full
	stepped   time.Duration
	before    float64 // target to return to
	queued    float64 // s of queue at the last step
	fruitless int
}

// A normal is what the path does while all is well.
type normal struct {
	usual     float64 // s of queue
	usualLost float64 // share
	reports   int
}

// A policed is what is known of loss without a queue.
type policed struct {
	tolerated float64
	stepped   time.Duration // when the rate was lowered for it, 0: not
	loss      float64       // the most since
	before    float64       // target before it
}

// A silence is the time without a report.
type silence struct {
	looked, waited time.Duration
	silent         bool
}

func newControl(start, floor, ceiling float64, standing, settle time.Duration) control {
	c := control{floor: floor, ceiling: ceiling, standing: standing.Seconds(), settle: settle}
	c.bad, c.stepped = -time.Hour, -time.Hour
	c.target = c.within(start)
	if start != none {
		c.before = c.target
	}
	c.policed.tolerated = randomLoss
	return c
}

func (c *control) within(rate float64) float64 { return min(max(rate, c.floor), c.ceiling) }

// former returns the rate to return to after a fall from the present one.
func (c *control) former(carried float64) float64 {
	if c.target == none {
		return tryBeyond*carried + tryMore
	}
	return c.target
}

// full tells that a queue stands on the way.
func (c *control) full() bool { return c.now-c.bad < rest || c.silent }

// unfelt tells that the last step cannot have reached the far end and come back.
func (c *control) unfelt(rtt time.Duration) bool { return c.now-c.stepped < rtt }

// tight tells that the path was full lately and has not shown since that it carries what it did before.
func (c *control) tight() bool { return c.target < c.before && c.now-c.bad < tightMemory }

// recovering tells that the rate comes back to what it was.
func (c *control) recovering() bool {
	return !c.silent && c.target < c.before && c.now-max(c.bad, c.stepped) >= rest
}

// look notices that reports stay away though there is something to report. carried is
// what has arrived, in bit/s.
func (c *control) look(now time.Duration, sending bool, carried float64) {
	if sending {
		c.waited += min(now-c.looked, longStall)
	}
	c.looked = now
	if c.reports > 0 && c.waited > quiet && !c.silent {
		c.silent = true
		c.before = max(c.before, c.former(carried))
		c.target, c.resume = c.floor, 0
	}
}

// heard tells that a report has come, and whether a silence ends with it.
func (c *control) heard(now time.Duration) (after bool) {
	c.waited = 0
	if after = c.silent; after {
		c.silent, c.now = false, now
		c.target = c.within(c.before * returnFactor)
	}
	return after
}

// A sight is what a sensor sees.
type sight struct {
	queue   float64 // s
	lost    float64 // share of packets, lately
	arrives float64 // bit/s, now
	carried float64 // bit/s, over some longer time
	rtt     time.Duration
	passes  float64 // bit/s, on the average since the path is full; 0: not known
	vague   bool    // what arrives shows late: what is known of the path counts as well
}

// step takes what is seen now.
func (c *control) step(now time.Duration, s sight) {
	passed := min(now-c.now, 2*longStall)
	c.now, c.rtt = now, s.rtt
	c.reports++
	excess := (s.queue - c.usual) / c.standing // 1: full
	switch {
	case excess > 1 || excess > 0.5 && s.lost > c.usualLost+moreLoss:
		c.drain(s)
	case s.lost > c.policed.tolerated && (c.policed.stepped != 0 || c.now-c.bad > lossMemory+s.rtt): // else it is of the queue that was
		c.police(s)
	default:
		c.grow(passed, max(excess, (s.lost-c.usualLost)/moreLoss), s)
	}
	if now-c.bad >= rest { // what the path does when it is not full
		weight := min(1, max(passed.Seconds()/usualMemory.Seconds(), 1/float64(min(c.reports, 1000))))
		c.usual += weight * (s.queue - c.usual)
		c.usualLost += weight * (s.lost - c.usualLost)
	}
}

// drain lowers the rate so that the queue becomes empty.
func (c *control) drain(s sight) {
	since, again := c.now-c.bad, 1.0
	c.bad, c.policed.stepped = c.now, 0
	if s.passes > 0 {
		c.knee, c.resume = s.passes, resuming*s.passes
	}
	switch {
	case since > rest:
		knee := min(c.target, s.carried)
		c.resume = 0
		if s.vague && since < kneeMemory && knee < tryBeyond*c.knee {
			knee = max(knee, resuming*c.knee) // it was full at about this rate before
			c.resume = resuming * knee
		}
		c.knee, c.fruitless = knee, 0
		c.before = max(c.former(s.carried), c.before*(1-min(since, forget/3).Seconds()/forget.Seconds()))
	case c.unfelt(c.rtt): // what arrives is still what was sent before the last step, and fills the path
		c.target = c.within(min(c.target, max(s.arrives*(emptying-min(s.queue, deepest)), c.enough(s.queue))))
		return
	case c.now-c.stepped < c.rtt+c.settle || s.queue < 0.9*c.queued: // the last step has not shown yet, or is enough
		return
	case s.lost < c.usualLost+moreLoss:
		if c.fruitless++; c.fruitless > notOurs {
			c.usual = s.queue
			return
		}
		again = further
	default:
		again = further
	}
	c.stepped, c.queued = c.now, s.queue
	next := min(c.target*again, max(s.arrives*(emptying-min(s.queue, deepest)), c.enough(s.queue)))
	if again < 1 { // what arrives is less than the path carries by now
		next = max(next, c.target*again*again*again)
	}
	c.target = c.within(next)
}

// enough returns a rate at which a queue of so many s drains; 0: it is not known what the path passes.
func (c *control) enough(queue float64) float64 { return c.resume * max(sinking-queue, 0) }

// police lowers the rate for loss without a queue, and takes that back where the loss stays.
func (c *control) police(s sight) {
	l := &c.policed
	switch {
	case l.stepped == 0:
		l.before = c.former(s.carried) // no opinion takes none back
	case c.now-l.stepped < c.rtt+lossMemory+c.settle:
		l.loss = max(l.loss, s.lost)
		return
	case s.lost > 0.75*l.loss:
		l.tolerated, l.stepped = min(mostRandom, 1.3*s.lost), 0
		c.target, c.knee = l.before, 0
		return
	}
	l.stepped, l.loss = c.now, s.lost
	c.bad, c.stepped = c.now, c.now
	c.knee = s.arrives
	c.before = max(c.before, c.former(s.carried))
	c.target = c.within(min(c.target, 0.95*c.knee))
}

// grow lets the rate grow. filled is how near the path is to what counts as full, which is 1.
func (c *control) grow(passed time.Duration, filled float64, s sight) {
	if l := &c.policed; s.lost < l.tolerated/2 {
		l.stepped = 0
		l.tolerated = max(randomLoss, l.tolerated*(1-passed.Seconds()/10))
	}
	if c.now-c.bad < rest || c.now-c.stepped < rest+c.rtt {
		return
	}
	if c.resume > 0 {
		c.target, c.resume = c.within(max(c.target, min(c.resume, c.before))), 0
		return
	}
	growth := fastGrowth
	if off := (c.target/max(c.knee, 1) - 1) / kneeWidth; c.now-c.bad < kneeMemory {
		growth = min(kneeGrowth+fastGrowth*off*off, fastGrowth)
	}
	next := c.target * (1 + growth*passed.Seconds()*min(max(1-filled, 0.1), 1))
	if next = min(next, tryBeyond*s.carried+tryMore); next > c.target {
		c.target = c.within(next)
	}
}
