package testsrc

import (
	"image"

	"golang.org/x/image/font/inconsolata"
	"golang.org/x/image/math/fixed"
)

// Letters are drawn from one fixed-width bitmap face, enlarged by whole factors.
const (
	glyphWidth  = 8
	glyphHeight = 16
)

// An alphabet holds the glyphs of one size as luma blocks, so that drawing a letter is copying its lines.
type alphabet struct {
	w, h       int
	paper, ink byte
	glyphs     map[rune][]byte
}

func newAlphabet(scale int, paper, ink byte) *alphabet {
	return &alphabet{w: glyphWidth * scale, h: glyphHeight * scale, paper: paper, ink: ink, glyphs: map[rune][]byte{}}
}

// glyph returns the block of r; what the face lacks becomes its replacement character.
func (a *alphabet) glyph(r rune) []byte {
	if g := a.glyphs[r]; g != nil {
		return g
	}
	face := inconsolata.Bold8x16
	area, mask, at, _, ok := face.Glyph(fixed.P(0, face.Ascent), r)
	if !ok {
		area, mask, at, _, _ = face.Glyph(fixed.P(0, face.Ascent), '\ufffd')
	}
	alpha := func(x, y int) int {
		p := image.Pt(x, y)
		if !p.In(area) {
			return 0
		}
		q := p.Sub(area.Min).Add(at)
		_, _, _, v := mask.At(q.X, q.Y).RGBA()
		return int(v >> 8)
	}
	g := make([]byte, a.w*a.h)
	scale := a.h / glyphHeight
	for y := range a.h {
		for x := range a.w {
			// Bilinear between the face's pixels: their centres lie in the middle of scale by scale blocks.
			sx, sy := 2*x+1-scale, 2*y+1-scale
			ix, iy := floorDiv(sx, 2*scale), floorDiv(sy, 2*scale)
			fx, fy := sx-ix*2*scale, sy-iy*2*scale
			top := alpha(ix, iy)*(2*scale-fx) + alpha(ix+1, iy)*fx
			bottom := alpha(ix, iy+1)*(2*scale-fx) + alpha(ix+1, iy+1)*fx
			v := (top*(2*scale-fy) + bottom*fy) / (4 * scale * scale)
			g[y*a.w+x] = byte(int(a.paper) + (int(a.ink)-int(a.paper))*v/255)
		}
	}
	a.glyphs[r] = g
	return g
}

func floorDiv(a, b int) int {
	if a < 0 {
		return -((b - 1 - a) / b)
	}
	return a / b
}

// draw writes text with its top left corner at x, y; letters that do not fit into w by h pixels are left out.
func (a *alphabet) draw(luma []byte, stride, w, h, x, y int, text []byte) {
	for _, c := range text {
		if x < 0 || y < 0 || x+a.w > w || y+a.h > h {
			return
		}
		g := a.glyph(rune(c))
		for line := range a.h {
			copy(luma[(y+line)*stride+x:], g[line*a.w:(line+1)*a.w])
		}
		x += a.w
	}
}
