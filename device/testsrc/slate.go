package testsrc

import (
	"strings"
	"time"

	"gantry/media"
)

// A Still is one picture that can be sent again and again.
type Still struct {
	format media.VideoFormat
	planes []media.Plane
	data   []byte
}

// Slate returns a still picture of the given format, in any uncompressed layout, that shows title large and text below it,
// broken into lines, as far as there is room. It carries no mark. ErrUnsupported for a compressed layout.
func Slate(format media.VideoFormat, title, text string) (*Still, error) {
	const paper = 40
	whole := format // an odd size is cut from the next larger even one
	whole.Width, whole.Height = (format.Width+1)&^1, (format.Height+1)&^1
	yu12 := whole
	yu12.FourCC = media.YU12
	planes, size := yu12.Packed()
	data := make([]byte, size)
	w, h := whole.Width, whole.Height
	fill(data[:planes[0].Len], paper)
	fill(data[planes[1].Offset:planes[2].Offset], 140) // a little blue: a slate is not a black picture
	fill(data[planes[2].Offset:], 122)

	scale := max(1, min(w/320, h/180)) // 40 letters of text to a line, half as many of the title
	y := h / 4
	write := func(a *alphabet, line string) {
		if y+a.h > h {
			return
		}
		line = line[:min(len(line), w/a.w)]
		a.draw(data, w, w, h, (w-len(line)*a.w)/2, y, []byte(line))
		y += a.h * 5 / 4
	}
	large := newAlphabet(2*scale, paper, whiteLevel)
	for _, line := range wrap(title, w/large.w-2) {
		write(large, line)
	}
	y += large.h / 4
	small := newAlphabet(scale, paper, 200)
	for _, line := range wrap(text, w/small.w-2) {
		write(small, line)
	}
	packed, err := convert(data, whole)
	if err != nil {
		return nil, err
	}
	planes, _ = format.Packed()
	return &Still{format: format, planes: planes, data: cut(packed, whole, format)}, nil
}

// cut returns the upper left corner, of format's size, of a packed picture.
func cut(data []byte, whole, format media.VideoFormat) []byte {
	if whole == format {
		return data
	}
	from, _ := whole.Packed()
	to, size := format.Packed()
	out := make([]byte, 0, size)
	for i, p := range to {
		for y := range p.Len / p.Stride {
			out = append(out, data[from[i].Offset+y*from[i].Stride:][:p.Stride]...)
		}
	}
	return out
}

// Format returns the format of the Still's Frames.
func (s *Still) Format() media.VideoFormat { return s.format }

// Frame returns a Frame that shows the Still; the caller owns it. All Frames share the same pixels, so that sending a slate
// costs nothing.
func (s *Still) Frame(pts time.Duration, seq uint32) *media.Frame {
	f := media.NewFrame(s.format, s.planes, s)
	f.PTS, f.Seq = pts, seq
	return f
}

// CPU implements media.Memory.
func (s *Still) CPU(f *media.Frame, fn func([][]byte) error) error {
	planes := make([][]byte, len(f.Planes))
	for i, p := range f.Planes {
		planes[i] = s.data[p.Offset : p.Offset+p.Len : p.Offset+p.Len]
	}
	return fn(planes)
}

// Release implements media.Memory: the pixels are the garbage collector's.
func (s *Still) Release(*media.Frame) {}

// wrap breaks text into lines of at most n letters, between words where it can. Letters beyond ASCII become "?".
func wrap(text string, n int) []string {
	if n < 1 {
		return nil
	}
	text = strings.Map(func(r rune) rune {
		if r > '~' {
			return '?'
		}
		return r
	}, text)
	var lines []string
	line := ""
	for _, word := range strings.Fields(text) {
		for len(word) > n {
			if line != "" {
				lines, line = append(lines, line), ""
			}
			lines, word = append(lines, word[:n]), word[n:]
		}
		switch {
		case line == "":
			line = word
		case len(line)+1+len(word) <= n:
			line += " " + word
		default:
			lines, line = append(lines, line), word
		}
	}
	if line != "" {
		lines = append(lines, line)
	}
	return lines
}
