// Package slate draws what viewers see while nobody publishes: words on a dark picture of the stream's size, in H.264. It needs
// no encoder (media/h264's Still). It knows nothing of streams and viewers; a stream of another codec has no slate.
package slate

import (
	"bytes"
	"image"
	"strings"

	"golang.org/x/image/font"
	"golang.org/x/image/font/inconsolata"
	"golang.org/x/image/math/fixed"

	"gantry/media"
	"gantry/media/h264"
)

// Luma of the paper and of the letters, in video range.
const (
	paper = 32
	ink   = 200
)

// The size where a stream's is not known, and the largest that is drawn.
const (
	defaultWidth, defaultHeight = 1280, 720
	maxWidth, maxHeight         = 4096, 2304
)

// New returns a relay's slate with these words; a line feed begins a line. Only H.264 in a size of 64x64 to 4096x2304 has one.
func New(words string) func(media.Track) [][]byte {
	lines := strings.Split(words, "\n")
	return func(t media.Track) [][]byte {
		if t.Codec != media.H264 {
			return nil
		}
		width, height := t.Width, t.Height
		if width == 0 || height == 0 {
			width, height = defaultWidth, defaultHeight
		}
		if width < 64 || height < 64 || width > maxWidth || height > maxHeight {
			return nil
		}
		s := draw(lines, width&^1, height&^1)
		var units [][]byte
		for _, odd := range []bool{false, true} {
			au, err := s.Encode(odd)
			if err != nil {
				return nil // the size was looked at above
			}
			units = append(units, au)
		}
		return units
	}
}

// draw puts the lines into the middle, as large as a half of the width allows, or smaller.
func draw(lines []string, width, height int) *h264.Still {
	columns, rows := (width+15)/16*16, (height+15)/16*16
	s := &h264.Still{Width: width, Height: height, Paper: paper, Luma: bytes.Repeat([]byte{paper}, columns*rows)}
	face := inconsolata.Bold8x16
	longest := 1
	for _, l := range lines {
		longest = max(longest, len([]rune(l)))
	}
	w, h := longest*face.Advance, len(lines)*face.Height
	scale := max(1, min(width*6/10/w, height*6/10/h))
	text := image.NewAlpha(image.Rect(0, 0, w, h))
	for i, l := range lines {
		d := font.Drawer{Dst: text, Src: image.Opaque, Face: face, Dot: fixed.P((longest-len([]rune(l)))*face.Advance/2, i*face.Height+face.Ascent)}
		d.DrawString(l)
	}
	left, top := (width-w*scale)/2, (height-h*scale)/2
	for y := range h * scale {
		for x := range w * scale {
			px, py := left+x, top+y
			if px < 0 || py < 0 || px >= width || py >= height {
				continue
			}
			if a := int(text.AlphaAt(x/scale, y/scale).A); a > 0 {
				s.Luma[py*columns+px] = byte(paper + (ink-paper)*a/255)
			}
		}
	}
	return s
}
