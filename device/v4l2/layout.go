package v4l2

import (
	"fmt"

	kernel "gantry/internal/v4l2"
	"gantry/internal/v4l2/uapi"
	"gantry/media"
)

// A layout joins a code of the kernel to the layout that it means. Codes such as NM12 differ from NV12 only in that each plane
// has its own memory.
type layout struct {
	code media.FourCC // the kernel's
	as   media.FourCC // ours
}

// layouts are in the order of our choice: what encoders take directly comes first, what has to be unpacked later, RGB last.
var layouts = []layout{
	{media.NV12, media.NV12},
	{media.NewFourCC("NM12"), media.NV12},
	{media.YU12, media.YU12},
	{media.NewFourCC("YM12"), media.YU12},
	{media.YUYV, media.YUYV},
	{media.UYVY, media.UYVY},
	{media.NV16, media.NV16},
	{media.NewFourCC("NM16"), media.NV16},
	{media.NV24, media.NV24},
	{media.BGR3, media.BGR3},
	{media.RGB3, media.RGB3},
	{media.P010, media.P010}, // ten bits when asked for, or when the driver has nothing else: most destinations show eight
	{media.Y210, media.Y210},
	{media.MJPG, media.MJPG}, // of USB: it has to be decoded, and yet is often the only way to large pictures at their full rate
}

// passed is what Packets passes on; it holds no pictures that can be converted.
var passed = layout{media.NewFourCC("H264"), media.NewFourCC("H264")}

// coded tells whether pictures are coded, each as long as it is.
func (l layout) coded() bool { return l == passed || l.as == media.MJPG }

// layoutOf finds the layout that a configuration names by either code.
func layoutOf(name string) (layout, bool) {
	if name == passed.code.String() {
		return passed, true
	}
	for _, l := range layouts {
		if l.code.String() == name {
			return l, true
		}
	}
	return layout{}, false
}

func layoutOfCode(code media.FourCC) (layout, bool) {
	for _, l := range layouts {
		if l.code == code {
			return l, true
		}
	}
	return layout{}, false
}

func layoutNames() []string {
	names := make([]string, len(layouts), len(layouts)+1)
	for i, l := range layouts {
		names[i] = l.code.String()
	}
	return append(names, passed.code.String())
}

// A planePlace tells where a plane of the picture lies: in which memory of the buffer, from which byte.
type planePlace struct {
	memory int
	media.Plane
}

// places computes where the planes of the picture lie in a buffer of format f: driver strides, chroma after luma in one
// memory, or one memory a plane. It refuses memory that is too small for its picture, so that nobody reads beyond it.
func places(l layout, f kernel.Format) ([]planePlace, error) {
	if l.coded() {
		if len(f.Planes) != 1 || f.Planes[0].Size <= 0 {
			return nil, fmt.Errorf("%v in %d planes of memory", f, len(f.Planes))
		}
		return []planePlace{{memory: 0, Plane: media.Plane{FD: -1, Len: f.Planes[0].Size}}}, nil
	}
	packed, _ := media.VideoFormat{Width: f.Width, Height: f.Height, FourCC: l.as}.Packed()
	if len(packed) == 0 || len(f.Planes) == 0 {
		return nil, fmt.Errorf("no picture planes in %v", f)
	}
	out := make([]planePlace, len(packed))
	offset := 0
	for i, p := range packed {
		lines := p.Len / p.Stride
		memory, stride := 0, p.Stride
		switch {
		case len(f.Planes) > 1: // one memory a plane
			if len(f.Planes) < len(packed) {
				return nil, fmt.Errorf("%v has %d planes of memory, its pictures %d", f, len(f.Planes), len(packed))
			}
			memory, offset = i, 0
			stride = max(stride, f.Planes[i].Stride)
		case f.Planes[0].Stride > 0: // V4L2 gives luma's; chroma's follows in proportion
			stride = f.Planes[0].Stride * p.Stride / packed[0].Stride
		}
		if stride < p.Stride {
			return nil, fmt.Errorf("%v has lines of %d bytes, its pictures of %d", f, stride, p.Stride)
		}
		out[i] = planePlace{memory: memory, Plane: media.Plane{FD: -1, Offset: offset, Stride: stride, Len: stride * lines}}
		offset += stride * lines
		if offset > f.Planes[memory].Size {
			return nil, fmt.Errorf("%v has %d bytes of memory, its pictures need %d", f, f.Planes[memory].Size, offset)
		}
	}
	return out, nil
}

// videoFormat says in media's terms what the driver delivers.
func videoFormat(l layout, f kernel.Format, rate media.Rational, std uapi.Std) media.VideoFormat {
	out := media.VideoFormat{Width: f.Width, Height: f.Height, FourCC: l.as, Rate: rate, Matrix: matrix(l, f), Range: quantization(l, f)}
	if f.XferFunc == uapi.XferFuncSMPTE2084 {
		out.Transfer = media.TransferPQ
	}
	switch f.Field {
	case uapi.FieldAlternate:
		out.Height *= 2
		out.Field = media.TopFieldFirst
		if std&uapi.Std525 != 0 {
			out.Field = media.BottomFieldFirst
		}
	case uapi.FieldInterlacedTB:
		out.Field = media.TopFieldFirst
	case uapi.FieldInterlacedBT:
		out.Field = media.BottomFieldFirst
	case uapi.FieldInterlaced:
		out.Field = media.TopFieldFirst
		if std&uapi.Std525 != 0 {
			out.Field = media.BottomFieldFirst
		}
	}
	return out
}

// matrix applies the kernel's defaults (V4L2_MAP_YCBCR_ENC_DEFAULT).
func matrix(l layout, f kernel.Format) media.ColourMatrix {
	if rgb(l) {
		return media.MatrixRGB
	}
	switch f.YCbCrEnc {
	case uapi.YCbCrEnc601, uapi.YCbCrEncXV601:
		return media.MatrixBT601
	case uapi.YCbCrEnc709, uapi.YCbCrEncXV709:
		return media.MatrixBT709
	case uapi.YCbCrEncBT2020:
		return media.MatrixBT2020
	case uapi.YCbCrEncDefault:
		switch f.Colorspace {
		case uapi.ColorspaceREC709:
			return media.MatrixBT709
		case uapi.ColorspaceBT2020:
			return media.MatrixBT2020
		case uapi.ColorspaceSMPTE170M, uapi.Colorspace470M, uapi.Colorspace470BG, uapi.ColorspaceJPEG, uapi.ColorspaceSRGB:
			return media.MatrixBT601
		}
	}
	return media.MatrixUnspecified
}

// quantization applies the kernel's defaults (V4L2_MAP_QUANTIZATION_DEFAULT).
func quantization(l layout, f kernel.Format) media.ColourRange {
	switch {
	case f.Quantization == uapi.QuantizationFull:
		return media.RangeFull
	case f.Quantization == uapi.QuantizationLimited:
		return media.RangeLimited
	case rgb(l) || f.Colorspace == uapi.ColorspaceJPEG:
		return media.RangeFull
	}
	return media.RangeLimited
}

func rgb(l layout) bool { return l.as == media.RGB3 || l.as == media.BGR3 }
