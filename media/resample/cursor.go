package resample

import "math"

// A Cursor says where the next output frame lies between the input frames, and how many can be made. It holds no samples, so
// that the control of a ratio can be run without them. A frame is one sample of each channel.
type Cursor struct {
	reach int     // input frames that must lie behind an output frame
	step  float64 // input frames from one output frame to the next
	whole int64   // place of the next output frame …
	part  float64 // … and how far it is towards the next one, 0…1
	fed   int64   // input frames so far
}

// Next returns the place of the next output frame, counted in input frames from the first.
func (c *Cursor) Next() (whole int64, part float64) { return c.whole, c.part }

// Fed returns how many input frames there were.
func (c *Cursor) Fed() int64 { return c.fed }

// SetStep sets how many input frames lie between two output frames, from the next Feed on.
func (c *Cursor) SetStep(step float64) { c.step = step }

// Feed takes note of further input frames and returns how many output frames they complete. The Cursor moves past those.
func (c *Cursor) Feed(frames int) (n int) {
	c.fed += int64(frames)
	room := float64(c.fed-int64(c.reach)-c.whole) - c.part
	if room <= 0 {
		return 0
	}
	n = int(math.Ceil(room / c.step))
	for n > 0 && float64(n-1)*c.step >= room { // rounding
		n--
	}
	at := c.part + float64(n)*c.step
	whole := math.Floor(at)
	c.whole, c.part = c.whole+int64(whole), at-whole
	return n
}

// restart begins anew with the next input frame, at the same step.
func (c *Cursor) restart() { c.whole, c.part, c.fed = 0, 0, 0 }
