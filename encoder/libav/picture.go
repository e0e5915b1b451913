//go:build cgo && !nolibav

package libav

// #include "libav.h"
import "C"

import (
	"fmt"

	"gantry/media"
)

// A layout is how FFmpeg names a pixel layout.
type layout struct {
	format C.int
	rgb    bool
	halve  bool // twice the chroma lines of format
}

// What encoders of ten bits take.
const (
	planar10     C.int = C.AV_PIX_FMT_YUV420P10LE
	semiplanar10 C.int = C.AV_PIX_FMT_P010LE
)

var layouts = map[media.FourCC]layout{
	media.YU12: {format: C.AV_PIX_FMT_YUV420P},
	media.NV12: {format: C.AV_PIX_FMT_NV12},
	media.YUYV: {format: C.AV_PIX_FMT_YUYV422},
	media.UYVY: {format: C.AV_PIX_FMT_UYVY422},
	media.NV16: {format: C.AV_PIX_FMT_NV12, halve: true},
	media.NV24: {format: C.AV_PIX_FMT_NV24},
	media.RGB3: {format: C.AV_PIX_FMT_RGB24, rgb: true},
	media.BGR3: {format: C.AV_PIX_FMT_BGR24, rgb: true},
	media.P010: {format: C.AV_PIX_FMT_P010LE},
	media.Y210: {format: C.AV_PIX_FMT_Y210LE},
}

// colourOf returns what the stream says about its colour. YCbCr keeps the source's matrix and range; RGB becomes BT.709 in
// limited range, which every player assumes.
func colourOf(in media.VideoFormat, l layout) C.gantry_colour {
	if l.rgb {
		return C.gantry_colour{
			matrix: C.AVCOL_SPC_BT709, primaries: C.AVCOL_PRI_BT709, transfer: C.AVCOL_TRC_BT709, _range: C.AVCOL_RANGE_MPEG,
		}
	}
	c := C.gantry_colour{
		matrix: C.AVCOL_SPC_UNSPECIFIED, primaries: C.AVCOL_PRI_UNSPECIFIED, transfer: C.AVCOL_TRC_UNSPECIFIED,
		_range: C.AVCOL_RANGE_MPEG,
	}
	if in.Range == media.RangeFull {
		c._range = C.AVCOL_RANGE_JPEG
	}
	switch in.Matrix {
	case media.MatrixBT601:
		c.matrix, c.primaries, c.transfer = C.AVCOL_SPC_SMPTE170M, C.AVCOL_PRI_SMPTE170M, C.AVCOL_TRC_SMPTE170M
	case media.MatrixBT709:
		c.matrix, c.primaries, c.transfer = C.AVCOL_SPC_BT709, C.AVCOL_PRI_BT709, C.AVCOL_TRC_BT709
	case media.MatrixBT2020:
		c.matrix, c.primaries, c.transfer = C.AVCOL_SPC_BT2020_NCL, C.AVCOL_PRI_BT2020, C.AVCOL_TRC_BT2020_10
	}
	switch in.Transfer {
	case media.TransferPQ:
		c.transfer = C.AVCOL_TRC_SMPTE2084
	case media.TransferHLG:
		c.transfer = C.AVCOL_TRC_ARIB_STD_B67
	}
	return c
}

// scalerMatrix returns swscale's code for the matrix of what comes in.
func scalerMatrix(in media.VideoFormat, l layout) C.int {
	switch {
	case l.rgb, in.Matrix == media.MatrixBT709:
		return C.SWS_CS_ITU709
	case in.Matrix == media.MatrixBT2020:
		return C.SWS_CS_BT2020
	}
	return C.SWS_CS_ITU601
}

// checkPlanes makes sure that FFmpeg reads no byte outside the planes, whatever a driver says about them.
func checkPlanes(f *media.Frame, planes [][]byte) error {
	packed, _ := f.Format.Packed()
	if len(planes) != len(packed) || len(f.Planes) != len(packed) {
		return fmt.Errorf("%v picture with %d planes", f.Format.FourCC, len(planes))
	}
	for i, want := range packed {
		rows, stride := want.Len/want.Stride, f.Planes[i].Stride
		if stride < want.Stride || len(planes[i]) < stride*(rows-1)+want.Stride {
			return fmt.Errorf("plane %d of %v: %d bytes in lines of %d", i, f.Format, len(planes[i]), stride)
		}
	}
	return nil
}
