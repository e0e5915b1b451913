//go:build cgo && !nolibav

package libav

// #cgo pkg-config: libavfilter
// #include "convert.h"
import "C"

import (
	"bytes"
	"errors"
	"fmt"
	"runtime"
	"time"
	"unsafe"

	"gantry/encoder"
	"gantry/media"
)

// NewConverter returns what makes progressive pictures of format in, YU12 or for ten bits P010, nil when encoders take it as it is:
// JPEGs are decoded, interlaced pictures deinterlaced by bwdif in the fields' order: one picture for each pair of fields, or with
// fields one for each, at twice the rate.
func NewConverter(in media.VideoFormat, fields bool) (encoder.Converter, error) {
	out := in
	out.FourCC, out.Field = media.YU12, media.Progressive
	switch {
	case in.FourCC == media.MJPG && in.Field != media.Progressive:
		return nil, errors.New("convert interlaced JPEGs: no capture device is known to make them")
	case in.FourCC == media.MJPG:
		out.Matrix, out.Range = media.MatrixBT601, media.RangeFull // JFIF
		d, err := openDecoder(C.AV_CODEC_ID_MJPEG)
		if err != nil {
			return nil, fmt.Errorf("open JPEG decoder: %w", err)
		}
		return &jpegs{decoder: d, in: in, out: out}, nil
	case in.Field != media.Progressive:
		return newDeinterlacer(in, out, fields)
	}
	return nil, nil
}

// jpegs decodes pictures that are JPEGs.
type jpegs struct {
	decoder *Decoder
	scaler  *C.struct_SwsContext
	in, out media.VideoFormat
}

func (j *jpegs) Format() media.VideoFormat { return j.out }

// trimJPEG cuts off what drivers append, and tells whether the picture has a beginning. Some cameras leave out its end: whether it is all
// there, the decoder sees.
func trimJPEG(data []byte) ([]byte, error) {
	if !bytes.HasPrefix(data, []byte{0xff, 0xd8}) {
		return nil, errors.New("no JPEG: it does not begin with SOI")
	}
	scan := max(bytes.Index(data, []byte{0xff, 0xda}), 0) // a segment before it may hold a smaller picture, with an end of its own
	if end := bytes.LastIndex(data[scan:], []byte{0xff, 0xd9}); end >= 0 {
		return data[:scan+end+2], nil
	}
	return bytes.TrimRight(data, "\x00"), nil
}

// Convert implements encoder.Converter.
func (j *jpegs) Convert(f *media.Frame) ([]*media.Frame, error) {
	if !sameFormat(f.Format, j.in) {
		return nil, fmt.Errorf("convert %v: opened for %v", f.Format, j.in)
	}
	var picture *C.AVFrame
	err := f.CPU(func(planes [][]byte) error {
		if len(planes) != 1 {
			return fmt.Errorf("JPEG in %d planes", len(planes))
		}
		data, err := trimJPEG(planes[0])
		if err != nil {
			return err
		}
		runtime.LockOSThread() // the last error is the thread's
		defer runtime.UnlockOSThread()
		C.gantry_clear_error()
		err = check(C.gantry_decode(j.decoder.c, (*C.uint8_t)(unsafe.Pointer(&data[0])), C.int(len(data)), C.int64_t(f.PTS)))
		if err == nil {
			err = check(C.gantry_picture(j.decoder.c, &picture))
		}
		if said := C.GoString(C.gantry_last_error()); err == nil && said != "" { // it hides damage as well as it can
			C.av_frame_free(&picture)
			err = errors.New(said)
		}
		return err
	})
	if err == nil && (int(picture.width) != j.in.Width || int(picture.height) != j.in.Height) {
		err = fmt.Errorf("JPEG of %dx%d", picture.width, picture.height)
	}
	if err == nil {
		err = check(C.gantry_planar(&picture, &j.scaler))
	}
	if err != nil {
		C.av_frame_free(&picture)
		return nil, fmt.Errorf("decode picture %d: %w", f.Seq, err)
	}
	done, err := finish(picture, j.out, f.Format.Rate, f.PTS, f.Seq)
	if err != nil {
		return nil, err
	}
	return []*media.Frame{done}, nil
}

// Close implements encoder.Converter.
func (j *jpegs) Close() error {
	C.sws_freeContext(j.scaler)
	j.scaler = nil
	return j.decoder.Close()
}

// finish makes picture, which it takes over, a Frame of that format.
func finish(picture *C.AVFrame, format media.VideoFormat, rate media.Rational, pts time.Duration, seq uint32) (*media.Frame, error) {
	f, err := wrap(picture)
	if err != nil {
		C.av_frame_free(&picture)
		return nil, err
	}
	f.Format, f.PTS, f.Seq = format, pts, seq
	f.Format.Rate = rate // which a source may find out later
	return f, nil
}

// deinterlacer makes one picture of two fields, or two.
type deinterlacer struct {
	c       *C.gantry_deinterlacer
	in, out media.VideoFormat
	each    int    // pictures of a pair of fields
	held    uint32 // Seq of the picture that waits for the next
}

func newDeinterlacer(in, out media.VideoFormat, fields bool) (encoder.Converter, error) {
	initLog()
	l, ok := layouts[in.FourCC]
	if !ok || l.rgb {
		return nil, fmt.Errorf("deinterlace %v: not in this pixel layout", in)
	}
	rate := in.Rate
	if rate.Num <= 0 || rate.Den <= 0 {
		rate = media.Rational{Num: 30, Den: 1}
	}
	config := C.gantry_interlaced{width: C.int(in.Width), height: C.int(in.Height), format: l.format, out: C.AV_PIX_FMT_YUV420P,
		rate_num: C.int(rate.Num), rate_den: C.int(rate.Den), colour: colourOf(in, l)}
	d := &deinterlacer{in: in, out: out, each: 1}
	if l.halve {
		config.format, config.split = C.AV_PIX_FMT_YUV422P, 1
	}
	if in.FourCC.Depth() == 10 {
		d.out.FourCC, config.out = media.P010, semiplanar10
	}
	if in.Field == media.BottomFieldFirst {
		config.bottom_first = 1
	}
	if fields {
		d.each, config.fields = 2, 1
		d.out.Rate.Num *= 2
	}
	if err := check(C.gantry_deinterlacer_open(&config, &d.c)); err != nil {
		return nil, fmt.Errorf("deinterlace %v: %w", in, err)
	}
	return d, nil
}

func (d *deinterlacer) Format() media.VideoFormat { return d.out }

// Convert implements encoder.Converter. bwdif looks one picture ahead, so each comes out when the next goes in.
func (d *deinterlacer) Convert(f *media.Frame) (done []*media.Frame, err error) {
	if !sameFormat(f.Format, d.in) {
		return nil, fmt.Errorf("convert %v: opened for %v", f.Format, d.in)
	}
	err = f.CPU(func(planes [][]byte) error {
		if err := checkPlanes(f, planes); err != nil {
			return err
		}
		var ptr [3]*C.uint8_t
		var stride [3]C.int
		for i, p := range planes {
			ptr[i], stride[i] = (*C.uint8_t)(unsafe.Pointer(&p[0])), C.int(f.Planes[i].Stride)
		}
		return check(C.gantry_deinterlace(d.c, ptr[0], ptr[1], ptr[2], stride[0], stride[1], stride[2], C.int64_t(f.PTS)))
	})
	seq := d.held
	d.held = f.Seq
	rate := f.Format.Rate
	rate.Num *= d.each
	for i := 0; err == nil; i++ {
		var picture *C.AVFrame
		if err = check(C.gantry_deinterlaced(d.c, &picture)); err == nil {
			var f *media.Frame
			if f, err = finish(picture, d.out, rate, time.Duration(picture.pts), seq*uint32(d.each)+uint32(i)); err == nil {
				done = append(done, f)
			}
		}
	}
	if err == errAgain {
		return done, nil
	}
	for _, f := range done {
		f.Release()
	}
	return nil, fmt.Errorf("deinterlace: %w", err)
}

// Close implements encoder.Converter.
func (d *deinterlacer) Close() error {
	C.gantry_deinterlacer_close(d.c)
	d.c = nil
	return nil
}
