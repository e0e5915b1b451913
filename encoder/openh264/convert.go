package openh264

import (
	"encoding/binary"
	"fmt"
	"image"

	"gantry/media"
)

// inputs are the layouts that i420 reads, the cheapest first.
var inputs = []media.FourCC{media.YU12, media.NV12, media.NV16, media.YUYV, media.UYVY, media.P010, media.Y210}

// A converter makes pictures of one format planar 4:2:0. Its memory is used again for each picture.
type converter struct {
	in            media.VideoFormat
	width, height int // even
	own           image.YCbCr
}

func newConverter(in media.VideoFormat, width, height int) *converter {
	c := &converter{in: in, width: width, height: height}
	c.own = image.YCbCr{
		YStride: width, CStride: width / 2, SubsampleRatio: image.YCbCrSubsampleRatio420, Rect: image.Rect(0, 0, width, height),
	}
	switch in.FourCC {
	case media.YUYV, media.UYVY, media.P010, media.Y210:
		c.own.Y = make([]byte, width*height)
	}
	if in.FourCC != media.YU12 {
		c.own.Cb, c.own.Cr = make([]byte, width*height/4), make([]byte, width*height/4)
	}
	return c
}

// i420 fills img with f's picture, without a copy where the layout allows it. img is good as long as planes are.
func (c *converter) i420(img *image.YCbCr, f *media.Frame, planes [][]byte) error {
	packed, _ := c.in.Packed()
	if len(planes) != len(packed) || len(f.Planes) != len(packed) {
		return fmt.Errorf("%v picture with %d planes", c.in.FourCC, len(planes))
	}
	for i, want := range packed {
		rows, stride := want.Len/want.Stride, f.Planes[i].Stride
		if stride < want.Stride || len(planes[i]) < stride*(rows-1)+want.Stride {
			return fmt.Errorf("plane %d of %v: %d bytes in lines of %d", i, c.in, len(planes[i]), stride)
		}
	}
	*img = c.own
	switch stride := f.Planes[0].Stride; c.in.FourCC {
	case media.YU12:
		if f.Planes[1].Stride != f.Planes[2].Stride {
			return fmt.Errorf("chroma planes with lines of %d and %d bytes", f.Planes[1].Stride, f.Planes[2].Stride)
		}
		img.Y, img.Cb, img.Cr = planes[0], planes[1], planes[2]
		img.YStride, img.CStride = stride, f.Planes[1].Stride
	case media.NV12:
		img.Y, img.YStride = planes[0], stride
		for y := range c.height / 2 {
			split(c.own.Cb[y*c.own.CStride:][:c.width/2], c.own.Cr[y*c.own.CStride:], planes[1][y*f.Planes[1].Stride:])
		}
	case media.NV16:
		img.Y, img.YStride = planes[0], stride
		for y := range c.height / 2 {
			a := planes[1][2*y*f.Planes[1].Stride:]
			splitTwo(c.own.Cb[y*c.own.CStride:][:c.width/2], c.own.Cr[y*c.own.CStride:], a, a[f.Planes[1].Stride:])
		}
	case media.YUYV, media.UYVY:
		first := 0
		if c.in.FourCC == media.UYVY {
			first = 1
		}
		for y := 0; y < c.height; y += 2 {
			a := planes[0][y*stride:]
			unpack(c.own.Y[y*c.width:][:2*c.width], c.own.Cb[y/2*c.own.CStride:][:c.width/2], c.own.Cr[y/2*c.own.CStride:],
				a, a[stride:], first)
		}
	case media.P010:
		for y := range c.height {
			reduce(c.own.Y[y*c.width:][:c.width], planes[0][y*stride:], 2, 0)
		}
		for y := range c.height / 2 {
			uv := planes[1][y*f.Planes[1].Stride:]
			reduce(c.own.Cb[y*c.own.CStride:][:c.width/2], uv, 4, 0)
			reduce(c.own.Cr[y*c.own.CStride:][:c.width/2], uv, 4, 2)
		}
	case media.Y210:
		for y := range c.height {
			reduce(c.own.Y[y*c.width:][:c.width], planes[0][y*stride:], 4, 0)
		}
		for y := range c.height / 2 {
			a := planes[0][2*y*stride:]
			reduceTwo(c.own.Cb[y*c.own.CStride:][:c.width/2], a, a[stride:], 2)
			reduceTwo(c.own.Cr[y*c.own.CStride:][:c.width/2], a, a[stride:], 6)
		}
	}
	return nil
}

// word is the sample of ten bits in the high bits of b's first two bytes.
func word(b []byte) uint { return uint(b[0])>>6 | uint(b[1])<<2 }

// reduce rounds samples of ten bits, one each step bytes from first on, to eight.
func reduce(to, from []byte, step, first int) {
	for i := range to {
		to[i] = byte(min((word(from[i*step+first:])+2)/4, 255))
	}
}

// reduceTwo does so with the average of two lines of Y210's chroma.
func reduceTwo(to, a, b []byte, first int) {
	for i := range to {
		to[i] = byte(min((word(a[8*i+first:])+word(b[8*i+first:])+4)/8, 255))
	}
}

// The loops below take eight bytes at a time as one number: plain byte loops are too slow for a small ARM box.
const (
	even   = 0x00ff00ff00ff00ff // each second byte
	fourth = 0x000000ff000000ff // each fourth byte
	ones   = 0x0001000100010001
)

// squeeze moves the four even bytes of w together.
func squeeze(w uint64) uint32 {
	w &= even
	w = (w | w>>8) & 0x0000ffff0000ffff
	return uint32(w | w>>16)
}

// pair moves bytes 0 and 4 of w together.
func pair(w uint64) uint16 {
	w &= fourth
	return uint16(w | w>>24)
}

// split takes a line of interleaved chroma apart.
func split(u, v, uv []byte) {
	v, uv = v[:len(u)], uv[:2*len(u)]
	i := 0
	for ; i+4 <= len(u); i += 4 {
		w := binary.LittleEndian.Uint64(uv[2*i:])
		binary.LittleEndian.PutUint32(u[i:], squeeze(w))
		binary.LittleEndian.PutUint32(v[i:], squeeze(w>>8))
	}
	for ; i < len(u); i++ {
		u[i], v[i] = uv[2*i], uv[2*i+1]
	}
}

// splitTwo does so with the average of two lines.
func splitTwo(u, v, a, b []byte) {
	v, a, b = v[:len(u)], a[:2*len(u)], b[:2*len(u)]
	i := 0
	for ; i+4 <= len(u); i += 4 {
		p, q := binary.LittleEndian.Uint64(a[2*i:]), binary.LittleEndian.Uint64(b[2*i:])
		binary.LittleEndian.PutUint32(u[i:], squeeze((p&even+q&even+ones)>>1))
		binary.LittleEndian.PutUint32(v[i:], squeeze((p>>8&even+q>>8&even+ones)>>1))
	}
	for ; i < len(u); i++ {
		u[i], v[i] = mean(a[2*i], b[2*i]), mean(a[2*i+1], b[2*i+1])
	}
}

func mean(a, b byte) byte { return byte((uint(a) + uint(b) + 1) / 2) }

// unpack takes the packed 4:2:2 lines a and b apart into two lines of luma and one of chroma. Luma is the byte at first of
// each two, chroma the other.
func unpack(luma, u, v, a, b []byte, first int) {
	n := len(u)
	v, a, b = v[:n], a[:4*n], b[:4*n]
	top, bottom := luma[:2*n], luma[2*n:4*n]
	y, c := 8*first, 8*(1-first)
	i := 0
	for ; i+2 <= n; i += 2 {
		p, q := binary.LittleEndian.Uint64(a[4*i:]), binary.LittleEndian.Uint64(b[4*i:])
		binary.LittleEndian.PutUint32(top[2*i:], squeeze(p>>y))
		binary.LittleEndian.PutUint32(bottom[2*i:], squeeze(q>>y))
		w := (p>>c&even + q>>c&even + ones) >> 1
		binary.LittleEndian.PutUint16(u[i:], pair(w))
		binary.LittleEndian.PutUint16(v[i:], pair(w>>16))
	}
	if i < n {
		p, q := a[4*i:], b[4*i:]
		top[2*i], top[2*i+1], bottom[2*i], bottom[2*i+1] = p[first], p[first+2], q[first], q[first+2]
		u[i], v[i] = mean(p[1-first], q[1-first]), mean(p[3-first], q[3-first])
	}
}
