package testsrc

import (
	"fmt"
	"math"
	"strconv"
	"time"

	"gantry/media"
)

// Levels of limited-range luma, and chroma without colour.
const (
	black      = 16
	whiteLevel = 235
	neutral    = 128
)

// bars are the 75 % colour bars of SMPTE RP 219 in BT.709: Y, Cb, Cr.
var bars = [...][3]byte{
	{180, 128, 128}, {168, 44, 136}, {145, 147, 44}, {134, 63, 52}, {63, 193, 204}, {51, 109, 212}, {28, 212, 120},
}

const flashTime = 100 * time.Millisecond

// A painter draws the pictures of one format. The background is drawn once; a picture is a copy of it with the moving parts
// on top.
type painter struct {
	format     media.VideoFormat
	w, h       int
	background []byte // packed
	planes     []media.Plane
	text       *alphabet
	clock      point  // where the time stands
	counter    point  // where the frame counter stands
	ball       []span // lines of the disc that moves, relative to its centre
	line       []byte // scratch for text
}

type point struct{ x, y int }

type span struct{ y, half int }

const (
	clockLayout = "2006-01-02 15:04:05.000"
	counterText = "frame 0123456789"
)

func newPainter(format media.VideoFormat) *painter {
	format.FourCC = media.YU12
	planes, size := format.Packed()
	p := &painter{format: format, w: format.Width, h: format.Height, background: make([]byte, size), planes: planes}
	p.drawBackground()
	radius := p.h / 14
	for y := -radius; y <= radius; y++ {
		p.ball = append(p.ball, span{y, int(math.Sqrt(float64(radius*radius - y*y)))})
	}
	return p
}

func (p *painter) plane(data []byte, i int) []byte {
	return data[p.planes[i].Offset : p.planes[i].Offset+p.planes[i].Len]
}

// box fills a rectangle of the background; chroma covers every pixel that the rectangle touches.
func (p *painter) box(x0, y0, x1, y1 int, yuv [3]byte) {
	luma, u, v := p.plane(p.background, 0), p.plane(p.background, 1), p.plane(p.background, 2)
	for y := y0; y < y1; y++ {
		fill(luma[y*p.w+x0:y*p.w+x1], yuv[0])
	}
	cw := p.planes[1].Stride
	for y := y0 / 2; y < (y1+1)/2; y++ {
		fill(u[y*cw+x0/2:y*cw+(x1+1)/2], yuv[1])
		fill(v[y*cw+x0/2:y*cw+(x1+1)/2], yuv[2])
	}
}

func (p *painter) drawBackground() {
	w, h := p.w, p.h
	even := func(v int) int { return v &^ 1 }
	rampTop, markY := even(h*18/markParts), markTop*h/markParts
	for i, colour := range bars {
		p.box(even(i*w/len(bars)), 0, even((i+1)*w/len(bars)), rampTop, colour)
	}
	p.box(0, rampTop, w, h, [3]byte{black, neutral, neutral})
	luma := p.plane(p.background, 0)
	for y := rampTop; y < markY; y++ { // a ramp from black to white shows banding and a wrong range
		for x := range w {
			luma[y*w+x] = byte(black + (whiteLevel-black)*x/(w-1))
		}
	}
	fx, fy := p.flash()
	p.box(fx, 0, w, fy, [3]byte{black, neutral, neutral})

	scale := max(1, min(w*9/10/(glyphWidth*len(clockLayout)), h/(glyphHeight*5)))
	p.text = newAlphabet(scale, black, whiteLevel)
	for _, c := range clockLayout + counterText { // all that draw needs, so that it allocates nothing
		p.text.glyph(c)
	}
	for c := '0'; c <= '9'; c++ {
		p.text.glyph(c)
	}
	cw, ch := p.text.w, p.text.h
	boxW := len(clockLayout) * cw
	x0, y0 := even((w-boxW)/2), even(h*9/markParts-ch)
	p.box(max(0, x0-cw/2), y0-ch/8, min(w, x0+boxW+cw/2), y0+2*ch+ch/8, [3]byte{black, neutral, neutral})
	p.clock = point{x0, y0}
	p.counter = point{even((w - len(counterText)*cw) / 2), y0 + ch}
	small := newAlphabet(max(1, scale/2), black, whiteLevel)
	info := fmt.Appendf(nil, " %dx%d %v fps ", w, h, p.format.Rate)
	ix, iy := even((w-len(info)*small.w)/2), y0+2*ch+ch/8
	p.box(max(0, ix), iy, min(w, ix+len(info)*small.w), iy+small.h, [3]byte{black, neutral, neutral})
	small.draw(luma, w, w, h, max(0, ix), iy, info)
}

// flash returns where the square of the flash begins at the left and ends at the bottom.
func (p *painter) flash() (left, bottom int) { return (p.w * 7 / 8) &^ 1, (p.h / 6) &^ 1 }

// draw paints the picture with mark m into the three packed planes. It allocates nothing.
func (p *painter) draw(planes [][]byte, m Mark) {
	for i, plane := range planes {
		copy(plane, p.plane(p.background, i))
	}
	luma, u, v := planes[0], planes[1], planes[2]
	w, cw := p.w, p.planes[1].Stride

	radius := p.h / 14
	cx := radius + swing(m.Counter, 251, w-2*radius)
	cy := radius + swing(m.Counter, 157, p.h*18/markParts-2*radius)
	for _, s := range p.ball {
		y := cy + s.y
		x0, x1 := max(0, cx-s.half), min(w, cx+s.half+1)
		fill(luma[y*w+x0:y*w+x1], whiteLevel)
		if y&1 == 0 {
			fill(u[y/2*cw+x0/2:y/2*cw+(x1+1)/2], neutral)
			fill(v[y/2*cw+x0/2:y/2*cw+(x1+1)/2], neutral)
		}
	}
	if m.Flash {
		left, bottom := p.flash()
		for y := range bottom {
			fill(luma[y*w+left:(y+1)*w], whiteLevel)
		}
	}
	p.line = m.Time.AppendFormat(p.line[:0], clockLayout)
	p.text.draw(luma, w, w, p.h, p.clock.x, p.clock.y, p.line)
	p.line = append(p.line[:0], counterText[:6]...)
	p.line = appendPadded(p.line, m.Counter)
	p.text.draw(luma, w, w, p.h, p.counter.x, p.counter.y, p.line)
	drawMark(luma, w, w, p.h, m)
}

// swing moves between 0 and size and back in two periods of frames.
func swing(n uint32, period, size int) int {
	at := int(n % uint32(2*period))
	if at > period {
		at = 2*period - at
	}
	return at * size / (period + 1)
}

func appendPadded(b []byte, n uint32) []byte {
	for limit := uint64(1_000_000_000); limit > uint64(max(n, 1)); limit /= 10 {
		b = append(b, '0')
	}
	return strconv.AppendUint(b, uint64(n), 10)
}

func fill(b []byte, v byte) {
	for i := range b {
		b[i] = v
	}
}

func markAt(counter uint32, at time.Time) Mark {
	at = at.UTC().Truncate(time.Millisecond)
	return Mark{Counter: counter, Time: at, Flash: time.Duration(at.Nanosecond()) < flashTime}
}

// Render returns the picture with the given frame counter and capture time, packed as format.Packed says. The same
// arguments give the same bytes: a test can compare a decoded picture with what was sent. It is slow next to a Source; any
// uncompressed layout will do.
func Render(format media.VideoFormat, counter uint32, at time.Time) ([]byte, error) {
	if err := checkSize(format); err != nil {
		return nil, err
	}
	p := newPainter(format)
	data := make([]byte, len(p.background))
	p.draw([][]byte{p.plane(data, 0), p.plane(data, 1), p.plane(data, 2)}, markAt(counter, at))
	return convert(data, format)
}
