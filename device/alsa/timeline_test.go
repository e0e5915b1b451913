package alsa

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"gantry/media/resample"
)

// A day of a card whose clock is off, with the jitter that readings have: the PTS of what leaves stay with the time at which it
// was heard. The samples themselves are left out; all that decides is the code that runs.
func TestDay(t *testing.T) {
	const day = 24 * time.Hour
	for _, c := range []struct {
		name        string
		rate        int
		ppm, wander float64       // of the card's clock; wander is its share that follows the temperature over the day
		jitter      time.Duration // readings are late by up to this …
		spike       time.Duration // … and every thousandth by up to this
		limit       time.Duration
	}{
		{"100 ppm fast", 48000, 100, 0, 2 * time.Millisecond, 30 * time.Millisecond, 5 * time.Millisecond},
		{"100 ppm slow", 48000, -100, 0, 2 * time.Millisecond, 30 * time.Millisecond, 5 * time.Millisecond},
		{"wandering", 44100, 80, 20, 10 * time.Millisecond, 30 * time.Millisecond, 15 * time.Millisecond},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			random := rand.New(rand.NewPCG(1, 2))
			r, err := resample.New(1, c.rate, outRate)
			if err != nil {
				t.Fatal(err)
			}
			line := newTimeline(c.rate, &r.Cursor)
			const begin = 1000 * time.Second
			// heard is when the card's clock had made that many frames: the integral of 1/rate.
			w := 2 * math.Pi / day.Seconds()
			heard := func(frames float64) time.Duration {
				s := frames / float64(c.rate)
				s -= s*c.ppm*1e-6 + c.wander*1e-6*(1-math.Cos(w*s))/w
				return begin + time.Duration(s*1e9)
			}
			var worst, settled, ppmOff float64
			var last time.Duration
			run := c.rate / 50
			for frames := int64(run); float64(frames)/float64(c.rate) < day.Seconds(); frames += int64(run) {
				late := time.Duration(random.Int64N(int64(c.jitter)))
				if random.IntN(1000) == 0 {
					late = time.Duration(random.Int64N(int64(c.spike)))
				}
				now := heard(float64(frames))
				line.observe(frames, now+late)
				if !line.steer() {
					t.Fatalf("after %v: out of place by %v", now-begin, line.offset)
				}
				whole, part := r.Next()
				pts := line.left(r.Feed(run))
				if pts <= last && whole > 0 {
					t.Fatalf("PTS %v after %v", pts, last)
				}
				last = pts
				off := math.Abs((pts - heard(float64(whole)+part)).Seconds())
				worst = max(worst, off)
				if now > begin+5*time.Minute {
					settled = max(settled, off)
					true := c.ppm + c.wander*math.Sin(w*float64(frames)/float64(c.rate))
					ppmOff = max(ppmOff, math.Abs(line.ppm()-true))
				}
			}
			t.Logf("A/V offset at most %.2f ms, %.2f ms after the first five minutes; drift known to %.1f ppm", worst*1e3, settled*1e3, ppmOff)
			if worst > 0.040 || settled > c.limit.Seconds() || ppmOff > 20 {
				t.Errorf("want 40 ms, %v and 20 ppm", c.limit)
			}
		})
	}
}

// After a gap of unknown length the PTS go on where the clock is.
func TestGap(t *testing.T) {
	r, err := resample.New(1, 48000, outRate)
	if err != nil {
		t.Fatal(err)
	}
	line := newTimeline(48000, &r.Cursor)
	now := time.Hour
	feed := func(runs int) (pts time.Duration) {
		for range runs {
			now += 10 * time.Millisecond
			line.observe(r.Fed()+480, now)
			if !line.steer() {
				t.Fatal("out of place")
			}
			pts = line.left(len(r.Process(nil, make([]float32, 480))))
		}
		return pts
	}
	before := feed(1000)
	now += 300 * time.Millisecond
	r.Restart()
	line.restart()
	if after := feed(1); (after - before - 310*time.Millisecond).Abs() > time.Millisecond {
		t.Errorf("the sound after a gap of 300 ms begins %v after the run before it", after-before)
	}
	now += time.Second // nobody said so: frames went missing
	line.observe(r.Fed()+480, now)
	for range 1000 {
		now += 10 * time.Millisecond
		line.observe(r.Fed()+480, now)
		if !line.steer() {
			return
		}
		line.left(len(r.Process(nil, make([]float32, 480))))
	}
	t.Error("a second that went missing was not noticed")
}

func ExampleConfig_Validate() {
	fmt.Println(Config{Card: "hw:0", Rate: 1, Format: "MP3"}.Validate())
	// Output:
	// card: "hw:0" is not auto, hw:CARD,DEVICE with the card's number or id, usb:PLACE such as usb:1-1.4, or usb:VENDOR:PRODUCT:SERIAL
	// rate: 1 is not from 8000 to 384000 Hz, or 0 for the best that the card has
	// format: "MP3" is not one of FLOAT, S16, S24, S24_3, S32
}
