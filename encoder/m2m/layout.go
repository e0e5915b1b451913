package m2m

import (
	"fmt"

	kernel "gantry/internal/v4l2"
	"gantry/internal/v4l2/uapi"
	"gantry/media"
)

// A place is where a plane of the picture lies in a buffer of the encoder.
type place struct {
	memory int
	media.Plane
}

// places computes where the planes lie in a buffer of the driver's format f, whose height may be rounded up.
func places(layout media.FourCC, f kernel.Format) ([]place, error) {
	packed, _ := media.VideoFormat{Width: f.Width, Height: f.Height, FourCC: layout}.Packed()
	if len(packed) == 0 || len(f.Planes) == 0 || len(f.Planes) > 1 && len(f.Planes) < len(packed) {
		return nil, fmt.Errorf("no place for the planes of %v in %v", layout, f)
	}
	out := make([]place, len(packed))
	offset := 0
	for i, p := range packed {
		memory, stride := 0, p.Stride
		switch {
		case len(f.Planes) > 1:
			memory, offset = i, 0
			stride = max(stride, f.Planes[i].Stride)
		case f.Planes[0].Stride > 0: // luma's; chroma's follows in proportion
			stride = f.Planes[0].Stride * p.Stride / packed[0].Stride
		}
		length := stride * (p.Len / p.Stride)
		out[i] = place{memory: memory, Plane: media.Plane{FD: -1, Offset: offset, Stride: stride, Len: length}}
		offset += length
		if stride < p.Stride || offset > f.Planes[memory].Size {
			return nil, fmt.Errorf("%v in %v: lines of %d bytes, memory of %d", layout, f, stride, f.Planes[memory].Size)
		}
	}
	return out, nil
}

// importable tells whether the encoder can read the picture where it lies: in DMABUFs, with its planes where the encoder looks
// for them.
func importable(f *media.Frame, at []place) bool {
	if len(f.Planes) != len(at) {
		return false
	}
	for i, p := range f.Planes {
		if p.FD < 0 || p.Offset != at[i].Offset || p.Stride != at[i].Stride || p.Len < at[i].Len {
			return false
		}
		if at[i].memory == 0 && p.FD != f.Planes[0].FD {
			return false
		}
	}
	return true
}

// copyTo copies the picture into a buffer of the encoder.
func copyTo(b *kernel.Buffer, at []place, f *media.Frame, width, height int) error {
	packed, _ := media.VideoFormat{Width: width, Height: height, FourCC: f.Format.FourCC}.Packed()
	return f.CPU(func(planes [][]byte) error {
		return b.CPU(uapi.SyncWrite, func() error {
			for i, p := range packed {
				from, to := planes[i], b.Planes[at[i].memory].Data[at[i].Offset:]
				for range p.Len / p.Stride {
					copy(to[:p.Stride], from)
					from, to = from[min(f.Planes[i].Stride, len(from)):], to[min(at[i].Stride, len(to)):]
				}
			}
			return nil
		})
	})
}

// colour says in the kernel's terms what the pictures' colours mean.
func colour(in media.VideoFormat, f *kernel.Format) {
	switch in.Matrix {
	case media.MatrixBT601:
		f.Colorspace, f.YCbCrEnc = uapi.ColorspaceSMPTE170M, uapi.YCbCrEnc601
	case media.MatrixBT709:
		f.Colorspace, f.YCbCrEnc = uapi.ColorspaceREC709, uapi.YCbCrEnc709
	case media.MatrixBT2020:
		f.Colorspace, f.YCbCrEnc = uapi.ColorspaceBT2020, uapi.YCbCrEncBT2020
	case media.MatrixRGB:
		f.Colorspace = uapi.ColorspaceSRGB
	}
	if in.Transfer == media.TransferPQ { // the kernel has no name for HLG
		f.XferFunc = uapi.XferFuncSMPTE2084
	}
	switch in.Range {
	case media.RangeLimited:
		f.Quantization = uapi.QuantizationLimited
	case media.RangeFull:
		f.Quantization = uapi.QuantizationFull
	}
}
