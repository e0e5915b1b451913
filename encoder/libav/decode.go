//go:build cgo && !nolibav

package libav

// #include "libav.h"
//
// // How a picture's lines were scanned: 0 at once, 1 the upper field first, 2 the lower.
// static int gantry_scanned(const AVFrame *f)
// {
// #if LIBAVUTIL_VERSION_INT >= AV_VERSION_INT(58, 29, 100)
// 	return !(f->flags & AV_FRAME_FLAG_INTERLACED) ? 0 : f->flags & AV_FRAME_FLAG_TOP_FIELD_FIRST ? 1 : 2;
// #else
// 	return !f->interlaced_frame ? 0 : f->top_field_first ? 1 : 2;
// #endif
// }
import "C"

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"
	"unsafe"

	"gantry/media"
)

// A Decoder turns access units back into pictures, so that what an encoder made can be looked at. One goroutine uses it.
type Decoder struct {
	c *C.gantry_decoder
}

// NewDecoder returns a decoder of H.264 or H.265 access units in Annex B, or of AV1 temporal units.
func NewDecoder(codec media.Codec) (*Decoder, error) {
	id, ok := map[media.Codec]C.int{
		media.H264: C.AV_CODEC_ID_H264, media.H265: C.AV_CODEC_ID_HEVC, media.AV1: C.AV_CODEC_ID_AV1,
	}[codec]
	if !ok {
		return nil, fmt.Errorf("open decoder: none for %v", codec)
	}
	d, err := openDecoder(id)
	if err != nil {
		return nil, fmt.Errorf("open %v decoder: %w", codec, err)
	}
	return d, nil
}

func openDecoder(id C.int) (*Decoder, error) {
	initLog()
	d := new(Decoder)
	return d, check(C.gantry_decoder_open(id, &d.c))
}

// Decode takes one access unit and returns the pictures that are complete, as YU12, or P010 where they have ten bits, with the
// stream's colour. Each is the
// caller's: Release it. A damaged access unit is an error.
func (d *Decoder) Decode(p *media.Packet) ([]*media.Frame, error) {
	if len(p.Data) == 0 {
		return nil, nil
	}
	err := check(C.gantry_decode(d.c, (*C.uint8_t)(unsafe.Pointer(&p.Data[0])), C.int(len(p.Data)), C.int64_t(p.PTS)))
	if err != nil {
		return nil, fmt.Errorf("decode: %w", err)
	}
	return d.pictures()
}

// Drain returns the pictures still held. The Decoder takes no more after it.
func (d *Decoder) Drain() ([]*media.Frame, error) {
	if err := check(C.gantry_decode(d.c, nil, 0, 0)); err != nil {
		return nil, fmt.Errorf("drain decoder: %w", err)
	}
	return d.pictures()
}

func (d *Decoder) pictures() ([]*media.Frame, error) {
	var frames []*media.Frame
	for {
		var f *C.AVFrame
		switch err := check(C.gantry_picture(d.c, &f)); err {
		case nil:
		case errAgain, errEOF:
			return frames, nil
		default:
			return frames, fmt.Errorf("decode: %w", err)
		}
		frame, err := wrap(f)
		if err != nil {
			C.av_frame_free(&f)
			return frames, err
		}
		frames = append(frames, frame)
	}
}

// Close frees the decoder; pictures that it returned live on.
func (d *Decoder) Close() error {
	C.gantry_decoder_close(d.c)
	d.c = nil
	return nil
}

// picture is the memory of a decoded Frame.
type picture struct{ f *C.AVFrame }

func (p picture) CPU(f *media.Frame, fn func([][]byte) error) error {
	planes := make([][]byte, len(f.Planes))
	for i, plane := range f.Planes {
		planes[i] = unsafe.Slice((*byte)(unsafe.Pointer(p.f.data[i])), plane.Len)
	}
	return fn(planes)
}

func (p picture) Release(*media.Frame) { C.av_frame_free(&p.f) }

// wrap makes f, which it takes over, a Frame.
func wrap(f *C.AVFrame) (*media.Frame, error) {
	if f.decode_error_flags != 0 || f.flags&C.AV_FRAME_FLAG_CORRUPT != 0 {
		return nil, errors.New("decode: damaged picture")
	}
	format := media.VideoFormat{Width: int(f.width), Height: int(f.height), FourCC: media.YU12,
		Field: [...]media.FieldOrder{media.Progressive, media.TopFieldFirst, media.BottomFieldFirst}[C.gantry_scanned(f)]}
	switch f.format {
	case C.AV_PIX_FMT_YUV420P:
		if f.color_range != C.AVCOL_RANGE_UNSPECIFIED {
			format.Range = media.RangeLimited
		}
	case C.AV_PIX_FMT_YUVJ420P:
	case C.AV_PIX_FMT_YUV420P10LE, C.AV_PIX_FMT_P010LE:
		format.FourCC, format.Range = media.P010, media.RangeLimited
	default:
		return nil, fmt.Errorf("decode: pixel format %s is not 4:2:0 of 8 or 10 bits", C.GoString(C.av_get_pix_fmt_name(int32(f.format))))
	}
	if f.format == C.AV_PIX_FMT_YUVJ420P || f.color_range == C.AVCOL_RANGE_JPEG {
		format.Range = media.RangeFull
	}
	switch f.colorspace {
	case C.AVCOL_SPC_BT709:
		format.Matrix = media.MatrixBT709
	case C.AVCOL_SPC_SMPTE170M, C.AVCOL_SPC_BT470BG:
		format.Matrix = media.MatrixBT601
	case C.AVCOL_SPC_BT2020_NCL:
		format.Matrix = media.MatrixBT2020
	}
	switch f.color_trc {
	case C.AVCOL_TRC_SMPTE2084:
		format.Transfer = media.TransferPQ
	case C.AVCOL_TRC_ARIB_STD_B67:
		format.Transfer = media.TransferHLG
	}
	if f.format == C.AV_PIX_FMT_YUV420P10LE {
		return interleave(f, format), nil
	}
	planes, _ := format.Packed()
	for i, p := range planes {
		planes[i] = media.Plane{FD: -1, Stride: int(f.linesize[i]), Len: int(f.linesize[i]) * (p.Len / p.Stride)}
	}
	frame := media.NewFrame(format, planes, picture{f})
	frame.PTS = time.Duration(f.pts)
	return frame, nil
}

// interleave copies planes of ten bits, in the low bits of their words, into a P010 Frame and frees f.
func interleave(f *C.AVFrame, format media.VideoFormat) *media.Frame {
	out := media.NewPool(format, 1).Get()
	out.PTS = time.Duration(f.pts)
	row := func(plane, y, n int) []uint16 {
		from := unsafe.Add(unsafe.Pointer(f.data[plane]), y*int(f.linesize[plane]))
		return unsafe.Slice((*uint16)(from), n)
	}
	_ = out.CPU(func(planes [][]byte) error { // a Pool's never fails
		for y := range format.Height {
			for x, v := range row(0, y, format.Width) {
				binary.LittleEndian.PutUint16(planes[0][y*out.Planes[0].Stride+2*x:], v<<6)
			}
		}
		n := (format.Width + 1) / 2
		for y := range (format.Height + 1) / 2 {
			u, v, to := row(1, y, n), row(2, y, n), planes[1][y*out.Planes[1].Stride:]
			for x := range n {
				binary.LittleEndian.PutUint16(to[4*x:], u[x]<<6)
				binary.LittleEndian.PutUint16(to[4*x+2:], v[x]<<6)
			}
		}
		return nil
	})
	C.av_frame_free(&f)
	return out
}
