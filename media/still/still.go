// Package still makes a JPEG (ITU-T T.81, JFIF) of a picture, in memory that it lends for the moment only. It is for looking at one picture
// now and then: it takes some tens of milliseconds for 1080p.
package still

import (
	"bytes"
	"fmt"
	"image"
	"image/jpeg"

	"gantry/media"
)

const (
	quality = 85
	// MinWidth and MaxWidth bound what JPEG can be asked for.
	MinWidth, MaxWidth = 16, 3840
)

// JPEG returns f, which is lent, as a JPEG of the given width in pixels and f's proportions; 0 is f's own width, and none is larger than
// that. A picture that is a JPEG comes back as it is, whatever width is.
func JPEG(f *media.Frame, width int) (data []byte, err error) {
	in := f.Format
	if in.FourCC == media.MJPG {
		err := f.CPU(func(planes [][]byte) error { data = bytes.Clone(planes[0]); return nil })
		return data, err
	}
	if width <= 0 || width > in.Width {
		width = in.Width
	}
	width = min(max(width&^1, MinWidth), MaxWidth)
	height := max(in.Height*width/max(in.Width, 1)&^1, 2)
	out := image.NewYCbCr(image.Rect(0, 0, width, height), image.YCbCrSubsampleRatio420)
	err = f.CPU(func(planes [][]byte) error {
		at, err := sampler(f, planes)
		if err != nil {
			return err
		}
		fill(out, in, at)
		return nil
	})
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	if err := jpeg.Encode(&b, out, &jpeg.Options{Quality: quality}); err != nil {
		return nil, fmt.Errorf("code the picture: %w", err)
	}
	return b.Bytes(), nil
}

// A sample is luma and the two chroma differences, the latter around 128.
type sample struct{ y, cb, cr int }

// sampler returns what reads one pixel.
func sampler(f *media.Frame, planes [][]byte) (func(x, y int) sample, error) {
	stride := func(i int) int { return f.Planes[i].Stride }
	count := map[media.FourCC]int{media.YU12: 3, media.NV12: 2, media.NV16: 2, media.NV24: 2, media.P010: 2, media.YUYV: 1, media.UYVY: 1, media.RGB3: 1,
		media.BGR3: 1}[f.Format.FourCC]
	if count == 0 || len(planes) != count {
		return nil, fmt.Errorf("no JPEG of %v", f.Format)
	}
	if err := checkSize(f, planes); err != nil {
		return nil, err
	}
	p := planes
	switch f.Format.FourCC {
	case media.YU12:
		return func(x, y int) sample {
			c := y/2*stride(1) + x/2
			return sample{int(p[0][y*stride(0)+x]), int(p[1][c]), int(p[2][y/2*stride(2)+x/2])}
		}, nil
	case media.NV12:
		return func(x, y int) sample {
			c := y/2*stride(1) + x&^1
			return sample{int(p[0][y*stride(0)+x]), int(p[1][c]), int(p[1][c+1])}
		}, nil
	case media.NV16:
		return func(x, y int) sample {
			c := y*stride(1) + x&^1
			return sample{int(p[0][y*stride(0)+x]), int(p[1][c]), int(p[1][c+1])}
		}, nil
	case media.NV24:
		return func(x, y int) sample {
			c := y*stride(1) + 2*x
			return sample{int(p[0][y*stride(0)+x]), int(p[1][c]), int(p[1][c+1])}
		}, nil
	case media.P010: // the high bytes
		return func(x, y int) sample {
			c := y/2*stride(1) + 2*(x&^1)
			return sample{int(p[0][y*stride(0)+2*x+1]), int(p[1][c+1]), int(p[1][c+3])}
		}, nil
	case media.YUYV:
		return func(x, y int) sample {
			c := y*stride(0) + x/2*4
			return sample{int(p[0][y*stride(0)+2*x]), int(p[0][c+1]), int(p[0][c+3])}
		}, nil
	case media.UYVY:
		return func(x, y int) sample {
			c := y*stride(0) + x/2*4
			return sample{int(p[0][y*stride(0)+2*x+1]), int(p[0][c]), int(p[0][c+2])}
		}, nil
	}
	r, b := 0, 2
	if f.Format.FourCC == media.BGR3 {
		r, b = 2, 0
	}
	return func(x, y int) sample {
		c := y*stride(0) + 3*x
		red, green, blue := int(p[0][c+r]), int(p[0][c+1]), int(p[0][c+b])
		return sample{(299*red + 587*green + 114*blue) / 1000, 128 + (-169*red-331*green+500*blue)/1000, 128 + (500*red-419*green-81*blue)/1000}
	}, nil
}

// checkSize says whether the planes hold the whole picture.
func checkSize(f *media.Frame, planes [][]byte) error {
	packed, _ := f.Format.Packed()
	for i, p := range packed {
		if p.Stride <= 0 || i >= len(f.Planes) || f.Planes[i].Stride < p.Stride {
			return fmt.Errorf("no JPEG of %v: plane %d is too narrow", f.Format, i)
		}
		if rows := p.Len / p.Stride; len(planes[i]) < (rows-1)*f.Planes[i].Stride+p.Stride {
			return fmt.Errorf("no JPEG of %v: plane %d is too short", f.Format, i)
		}
	}
	return nil
}

// fill scales the picture into out, and brings its colours into JFIF's: BT.601, full range.
func fill(out *image.YCbCr, in media.VideoFormat, at func(x, y int) sample) {
	w, h := out.Rect.Dx(), out.Rect.Dy()
	narrow := in.Range == media.RangeLimited || in.Range == media.RangeUnspecified && in.FourCC != media.RGB3 && in.FourCC != media.BGR3
	hd := in.Matrix == media.MatrixBT709 || in.Matrix == media.MatrixUnspecified && in.Height >= 720
	for y := range h {
		for x := range w {
			s := area(at, x*in.Width/w, max((x+1)*in.Width/w, x*in.Width/w+1), y*in.Height/h, max((y+1)*in.Height/h, y*in.Height/h+1))
			s.cb, s.cr = s.cb-128, s.cr-128
			if narrow {
				s = sample{(s.y - 16) * 255 / 219, s.cb * 255 / 224, s.cr * 255 / 224}
			}
			if hd { // BT.709 to BT.601
				s = sample{s.y + (102*s.cb+196*s.cr)/1000, (990*s.cb - 111*s.cr) / 1000, (-72*s.cb + 983*s.cr) / 1000}
			}
			out.Y[y*out.YStride+x] = byte(min(max(s.y, 0), 255))
			if x%2 == 0 && y%2 == 0 {
				c := y/2*out.CStride + x/2
				out.Cb[c], out.Cr[c] = byte(min(max(s.cb+128, 0), 255)), byte(min(max(s.cr+128, 0), 255))
			}
		}
	}
}

// area returns the mean of up to four by four pixels of a rectangle.
func area(at func(x, y int) sample, x0, x1, y0, y1 int) sample {
	if x1-x0 == 1 && y1-y0 == 1 {
		return at(x0, y0)
	}
	var sum sample
	n := 0
	for y := y0; y < y1; y += (y1 - y0 + 3) / 4 {
		for x := x0; x < x1; x += (x1 - x0 + 3) / 4 {
			s := at(x, y)
			sum = sample{sum.y + s.y, sum.cb + s.cb, sum.cr + s.cr}
			n++
		}
	}
	return sample{sum.y / n, sum.cb / n, sum.cr / n}
}
