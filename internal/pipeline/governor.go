package pipeline

import "time"

// How the video bitrate follows what the destinations can carry.
const (
	headroom = 0.95                    // share of a path's capacity that media may fill
	climb    = 0.9                     // growth a second, once a path carries more again: the Senders' estimates are the careful ones
	patience = 500 * time.Millisecond  // how long after a fall before it climbs
	grain    = 0.02                    // smaller steps up are not worth telling the encoder
	stride   = 100 * time.Millisecond  // steps up are this far apart
	longStep = 1500 * time.Millisecond // a longer gap between calls counts as this: nobody climbs while asleep
)

// A governor is the state of the bitrate control.
type governor struct {
	target   float64       // what the video would be given, in bit/s
	told     int           // what the encoder was told
	lastFall time.Duration // when target fell
	lastTime time.Duration // of the last call
}

// limits are what the configuration allows.
type limits struct {
	floor, ceiling int // of the video, bit/s
}

// next is the whole control: from the state, the least that a destination that counts leaves to these pictures (bit/s;
// 0: no opinion) and the time it makes the next state. The bitrate falls at once and climbs slowly.
func (g governor) next(l limits, carries int, now time.Duration) governor {
	ceiling := float64(max(l.ceiling, 1))
	floor := min(float64(l.floor), ceiling)
	if g.told == 0 { // the first call: begin at the top, the destinations will say
		return governor{target: ceiling, told: int(ceiling), lastFall: now - patience, lastTime: now}
	}
	goal := ceiling
	if carries > 0 {
		goal = min(max(float64(carries), floor), ceiling)
	}
	step := min(now-g.lastTime, longStep)
	switch {
	case goal <= g.target:
		if goal < g.target {
			g.lastFall = now
		}
		g.target, g.told, g.lastTime = goal, int(goal), now
	case now-g.lastFall < patience:
		g.lastTime = now
	case step >= stride:
		g.target = min(g.target*(1+climb*step.Seconds()), goal)
		g.lastTime = now
		if g.target >= float64(g.told)*(1+grain) || g.target == goal {
			g.told = int(g.target)
		}
	}
	return g
}
