package testsrc

import (
	"fmt"

	"gantry/device"
	"gantry/media"
)

// convert returns a packed YU12 picture of format's size in format's layout. It is for stills and tests: clear, not fast.
func convert(yu12 []byte, format media.VideoFormat) ([]byte, error) {
	if format.FourCC == media.YU12 {
		return yu12, nil
	}
	_, size := format.Packed()
	if size == 0 {
		return nil, fmt.Errorf("draw %v: %w", format, device.ErrUnsupported)
	}
	w, h := format.Width, format.Height
	luma, u, v := yu12[:w*h], yu12[w*h:w*h+w*h/4], yu12[w*h+w*h/4:]
	out := make([]byte, 0, size)
	chroma := func(x, y int) int { return y/2*(w/2) + x/2 }
	switch format.FourCC {
	case media.NV12, media.NV16, media.NV24:
		xStep, yStep := 2, 1
		if format.FourCC == media.NV12 {
			yStep = 2
		}
		if format.FourCC == media.NV24 {
			xStep = 1
		}
		out = append(out, luma...)
		for y := 0; y < h; y += yStep {
			for x := 0; x < w; x += xStep {
				out = append(out, u[chroma(x, y)], v[chroma(x, y)])
			}
		}
	case media.YUYV, media.UYVY:
		for y := range h {
			for x := 0; x < w; x += 2 {
				y0, y1, i := luma[y*w+x], luma[y*w+x+1], chroma(x, y)
				if format.FourCC == media.YUYV {
					out = append(out, y0, u[i], y1, v[i])
				} else {
					out = append(out, u[i], y0, v[i], y1)
				}
			}
		}
	case media.RGB3, media.BGR3:
		for y := range h {
			for x := range w {
				i := chroma(x, y)
				r, g, b := toRGB(luma[y*w+x], u[i], v[i])
				if format.FourCC == media.BGR3 {
					r, b = b, r
				}
				out = append(out, r, g, b)
			}
		}
	case media.P010:
		for _, v := range luma {
			out = append(out, 0, v)
		}
		for i := range u {
			out = append(out, 0, u[i], 0, v[i])
		}
	case media.Y210:
		for y := range h {
			for x := 0; x < w; x += 2 {
				i := chroma(x, y)
				out = append(out, 0, luma[y*w+x], 0, u[i], 0, luma[y*w+x+1], 0, v[i])
			}
		}
	default:
		return nil, fmt.Errorf("draw %v: %w", format, device.ErrUnsupported)
	}
	return out, nil
}

// toRGB converts limited-range BT.709 to full-range RGB (ITU-R BT.709-6 §3), in 16-bit fixed point.
func toRGB(y, u, v byte) (r, g, b byte) {
	l := 76309 * (int(y) - 16)
	cb, cr := int(u)-128, int(v)-128
	clip := func(x int) byte { return byte(min(max((x+1<<15)>>16, 0), 255)) }
	return clip(l + 117489*cr), clip(l - 13975*cb - 34925*cr), clip(l + 138438*cb)
}
