package edid

import "fmt"

// A Mode is one video timing: pixels and lines shown, and the blanking around them. All are progressive here.
type Mode struct {
	VIC           int // CTA-861's number, 0 for none
	Width, Height int
	Clock         int // kHz
	HFront, HSync int // pixels
	HBlank        int
	VFront, VSync int // lines
	VBlank        int
	Positive      bool // both sync polarities
	Wide          bool // the picture is 16:9
}

// Rate returns the pictures per second.
func (m Mode) Rate() float64 {
	total := (m.Width + m.HBlank) * (m.Height + m.VBlank)
	if total == 0 {
		return 0
	}
	return float64(m.Clock) * 1000 / float64(total)
}

// String returns, for instance, "1920x1080p60".
func (m Mode) String() string {
	return fmt.Sprintf("%dx%dp%.4g", m.Width, m.Height, m.Rate())
}

// The modes of CTA-861 that presets offer, by their VIC.
var cta = map[int]Mode{
	1:  {1, 640, 480, 25175, 16, 96, 160, 10, 2, 45, false, false},
	3:  {3, 720, 480, 27000, 16, 62, 138, 9, 6, 45, false, true},
	4:  {4, 1280, 720, 74250, 110, 40, 370, 5, 5, 30, true, true},
	16: {16, 1920, 1080, 148500, 88, 44, 280, 4, 5, 45, true, true},
	18: {18, 720, 576, 27000, 12, 64, 144, 5, 5, 49, false, true},
	19: {19, 1280, 720, 74250, 440, 40, 700, 5, 5, 30, true, true},
	31: {31, 1920, 1080, 148500, 528, 44, 720, 4, 5, 45, true, true},
	32: {32, 1920, 1080, 74250, 638, 44, 830, 4, 5, 45, true, true},
	33: {33, 1920, 1080, 74250, 528, 44, 720, 4, 5, 45, true, true},
	34: {34, 1920, 1080, 74250, 88, 44, 280, 4, 5, 45, true, true},
	93: {93, 3840, 2160, 297000, 1276, 88, 1660, 8, 10, 90, true, true},
	94: {94, 3840, 2160, 297000, 1056, 88, 1440, 8, 10, 90, true, true},
	95: {95, 3840, 2160, 297000, 176, 88, 560, 8, 10, 90, true, true},
}

// hdmiVICs are the 4K modes by the numbers of HDMI 1.4 (section 8.2.3), which came before CTA's.
var hdmiVICs = map[int]int{95: 1, 94: 2, 93: 3}

// Presets by name. The first mode is the one that senders choose when nobody tells them otherwise; the others need no more
// pixels a second.
var presets = map[string][]int{
	"4K30":    {95, 94, 93, 16, 31, 34, 33, 32, 4, 19, 3, 18, 1},
	"1080p60": {16, 31, 34, 33, 32, 4, 19, 3, 18, 1},
	"1080p30": {34, 33, 32, 4, 19, 3, 18, 1},
	"720p60":  {4, 19, 3, 18, 1},
}
