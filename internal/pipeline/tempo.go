package pipeline

import (
	"fmt"
	"time"

	"gantry/device"
	"gantry/internal/health"
	"gantry/media"
)

var (
	sourceSlow  = health.Warnable{Code: "source-rate", Severity: health.Degraded, Visible: 5 * time.Second}
	sourceWarns = health.Warnable{Code: "source-warning", Severity: health.Degraded}
)

// tempoWindow is how long a source's pictures are counted.
const tempoWindow = 2 * time.Second

// A tempo compares how many pictures a source gives, by their own times, with how many it says that it gives.
type tempo struct {
	since time.Duration
	count int
}

// observe takes a picture, with the lost ones before it. At the end of each window, due, it says what is wrong with the rate, if
// anything is.
func (t *tempo) observe(pts time.Duration, lost uint32, said media.Rational) (wrong string, due bool) {
	if t.since == 0 || pts < t.since {
		*t = tempo{since: pts}
		return "", false
	}
	t.count += 1 + int(lost)
	took := pts - t.since
	if took < tempoWindow {
		return "", false
	}
	rate := float64(t.count) / took.Seconds()
	*t = tempo{since: pts}
	switch want := said.Float(); {
	case want <= 0:
	case rate < 0.9*want:
		return fmt.Sprintf("it gives %.1f pictures a second and is set to %.4g: cameras expose longer in the dark, and a slow USB port carries fewer", rate, want), true
	case rate > 1.1*want:
		return fmt.Sprintf("it gives %.1f pictures a second and is set to %.4g", rate, want), true
	}
	return "", true
}

// pace raises or clears the condition that a source's rate is not what it says.
func (c *capture) pace(t *tempo, pts time.Duration, lost uint32, said media.Rational, name string) {
	switch wrong, due := t.observe(pts, lost, said); {
	case wrong != "":
		c.health.Raise(sourceSlow, name, wrong)
	case due:
		c.health.Clear(sourceSlow, name)
	}
}

// heed shows what the source knows to be wrong although it works.
func (c *capture) heed(src any, name string) {
	if w, ok := src.(device.Warner); ok && w.Warning() != "" {
		c.health.Raise(sourceWarns, name, w.Warning())
		return
	}
	c.health.Clear(sourceWarns, name)
}
