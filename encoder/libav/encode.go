//go:build cgo && !nolibav

package libav

// #cgo pkg-config: libavcodec libavutil libswscale
// #include <stdlib.h>
// #include "libav.h"
import "C"

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	"gantry/encoder"
	"gantry/media"
	"gantry/media/h264"
)

// Missing says what this build lacks, empty when it has FFmpeg.
func Missing() string { return "" }

var initLog = sync.OnceFunc(func() {
	C.gantry_log_init()
	if os.Getenv("SVT_LOG") == "" { // SVT-AV1 writes to stderr by itself
		_ = os.Setenv("SVT_LOG", "1") // errors only
	}
})

const (
	// waiting is how many packets may wait for Read before Encode waits.
	waiting = 8
	// delay is how many pictures an encoder may hold: packets find their PTS in a ring of this size.
	delay = 64
	// unlimited is a distance between key frames that no stream reaches: KeyTimer asks for them.
	unlimited = 1 << 30
)

// An avError is a negative AVERROR code.
type avError C.int

func (e avError) Error() string {
	var buf [128]C.char
	C.av_strerror(C.int(e), &buf[0], C.size_t(len(buf)))
	return C.GoString(&buf[0])
}

func check(code C.int) error {
	if code < 0 {
		return avError(code)
	}
	return nil
}

var (
	errAgain = avError(-int(C.EAGAIN))
	errEOF   = avError(C.AVERROR_EOF)
)

// video is a running encoder.
type video struct {
	coder *coder
	in    media.VideoFormat
	track media.Track
	head  []byte // parameter sets to put before key frames, Annex B
	most  int    // bit/s that the level allows, 0: no limit known
	rate  media.Rational
	out   *encoder.Output

	inPlace bool // pictures are read where they lie
	coded   atomic.Uint64

	mu     sync.Mutex
	c      *C.gantry_encoder // nil once closed
	params encoder.Params
	keys   encoder.KeyTimer
	number int64
	stamps [delay]time.Duration
}

// open starts the table's encoder co for pictures of format in.
func open(co *coder, in media.VideoFormat, asked encoder.Params) (encoder.Encoder, error) {
	if asked.Codec != media.NoCodec && asked.Codec != co.codec {
		return nil, fmt.Errorf("open %s: codes %v, not %v", co.name, co.codec, asked.Codec)
	}
	p, err := asked.Resolve(in)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", co.name, err)
	}
	p.Codec = co.codec
	if asked.Preset != "" && !slices.Contains(co.presets, asked.Preset) {
		return nil, fmt.Errorf("open %s: preset %q: must be one of %s", co.name, asked.Preset, strings.Join(co.presets, " "))
	}
	if asked.Profile != "" && !slices.Contains(co.profiles, asked.Profile) {
		return nil, fmt.Errorf("open %s: profile %q: must be one of %s", co.name, asked.Profile, strings.Join(co.profiles, " "))
	}
	src, ok := layouts[in.FourCC]
	if !ok {
		return nil, fmt.Errorf("open %s: no conversion from %v", co.name, in.FourCC)
	}
	rate := in.Rate
	if rate.Num <= 0 || rate.Den <= 0 {
		rate = media.Rational{Num: 30, Den: 1}
	}
	// A size that is smaller by the odd column or line only is a crop: the planes are right as they are.
	cropped := in.Width&^1 == p.Width && in.Height&^1 == p.Height
	target := layouts[co.direct[0]].format
	direct := slices.Contains(co.direct, in.FourCC)
	if co.ten != 0 && (asked.Profile == mainTen || asked.Profile == "" && in.FourCC.Depth() == 10) {
		p.Profile, target, direct = mainTen, co.ten, src.format == co.ten
	}
	if direct = direct && cropped; direct {
		target = src.format
	}
	width, height := in.Width, in.Height
	if cropped {
		width, height = p.Width, p.Height
	}
	name, options := C.CString(co.name), C.CString(lines(co.options(p, rate)))
	defer C.free(unsafe.Pointer(name))
	defer C.free(unsafe.Pointer(options))
	config := C.gantry_config{
		name: name, options: options,
		src_width: C.int(width), src_height: C.int(height), src_format: src.format,
		width: C.int(p.Width), height: C.int(p.Height), format: target,
		rate_num: C.int(rate.Num), rate_den: C.int(rate.Den),
		threads: C.int(threads(p, rate)),
		version: C.uint(co.least),
		lends:   1,
		bitrate: C.int64_t(p.Bitrate), buffer: C.int(buffer(p.Bitrate)),
		colour: colourOf(in, src), src_matrix: scalerMatrix(in, src),
	}
	if !direct {
		config.convert = 1
	}
	if in.Range == media.RangeFull || src.rgb {
		config.src_full = 1
	}
	if src.halve {
		config.halve = 1
	}
	if co.keepsPictures {
		config.lends = 0
	}
	if co.device != "" {
		config.device = C.CString(co.device)
		defer C.free(unsafe.Pointer(config.device))
	}
	c, err := co.start(&config)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", co.name, err)
	}
	v := &video{
		coder: co, in: in, inPlace: direct && !src.halve && !co.keepsPictures && co.device == "", params: asked, rate: rate, c: c, out: encoder.NewOutput(waiting),
		keys:  encoder.KeyTimer{GOP: p.GOP, Interval: rate.Interval()},
		track: media.Track{Codec: co.codec, ClockRate: 90000, Width: p.Width, Height: p.Height, Bitrate: p.Bitrate},
	}
	if err := v.readHead(p); err != nil {
		C.gantry_close(c)
		return nil, fmt.Errorf("open %s: %w", co.name, err)
	}
	return v, nil
}

// start opens the encoder and, where that goes wrong, tells what FFmpeg said about it. A chip that does not open is one that
// this machine has not.
func (co *coder) start(config *C.gantry_config) (*C.gantry_encoder, error) {
	initLog()
	runtime.LockOSThread() // the last error is the thread's
	defer runtime.UnlockOSThread()
	C.gantry_clear_error()
	var c *C.gantry_encoder
	var unused [64]C.char
	err := check(C.gantry_open(config, &c, &unused[0], C.int(len(unused))))
	if err == nil {
		return c, nil
	}
	if option := C.GoString(&unused[0]); option != "" {
		return nil, fmt.Errorf("it has no option %q", option)
	}
	switch err {
	case avError(C.AVERROR_ENCODER_NOT_FOUND):
		return nil, fmt.Errorf("not in this FFmpeg: %w", encoder.ErrUnavailable)
	case avError(C.AVERROR_EXPERIMENTAL):
		return nil, fmt.Errorf("in this FFmpeg it %s: %w", co.lacks, encoder.ErrUnavailable)
	}
	if said := C.GoString(C.gantry_last_error()); said != "" {
		err = fmt.Errorf("%w: %s", err, said)
	}
	if co.hardware {
		if nodes, _ := filepath.Glob(co.node); co.node != "" && len(nodes) == 0 {
			err = fmt.Errorf("there is no %s: %w", co.node, err)
		}
		err = fmt.Errorf("%w: %w", encoder.ErrUnavailable, err)
	}
	return nil, err
}

// exists tells whether the FFmpeg that this runs with has an encoder of that name.
func exists(name string) bool {
	c := C.CString(name)
	defer C.free(unsafe.Pointer(c))
	return C.gantry_exists(c) != 0
}

// readHead takes the parameter sets that the encoder wrote outside the stream. Chips may have none until the first picture: then
// they are in the stream, and the track is what was asked for.
func (v *video) readHead(p encoder.Params) error {
	extra := C.GoBytes(unsafe.Pointer(v.c.codec.extradata), v.c.codec.extradata_size)
	if v.coder.codec != media.H264 {
		v.head = extra
		return nil
	}
	var sets h264.ParameterSets
	sets.Learn(extra)
	if !sets.Complete() {
		if !v.coder.hardware {
			return errors.New("no parameter sets before the first picture")
		}
		level := h264.Level(p.Width, p.Height, v.rate.Float(), p.Bitrate)
		v.track.Profile = fmt.Sprintf("%s%02x", map[string]string{"main": "4d40", "high": "6400"}[p.Profile], level)
		if p.Profile == "" || p.Profile == "baseline" {
			v.track.Profile = fmt.Sprintf("42c0%02x", level)
		}
		return nil
	}
	info, err := h264.ParseSPS(sets.SPS())
	if err != nil {
		return err
	}
	if info.Width != v.track.Width || info.Height != v.track.Height {
		return fmt.Errorf("stream says %dx%d instead of %dx%d", info.Width, info.Height, v.track.Width, v.track.Height)
	}
	v.head = h264.Append(h264.Append(nil, sets.SPS()), sets.PPS())
	v.track.Profile = info.ProfileLevelID
	v.most = h264.MaxBitrate(sets.SPS()[1], sets.SPS()[3])
	return nil
}

// Copies implements encoder.CopyCounter. What libraries and drivers copy themselves is not known.
func (v *video) Copies() (inPlace, copied uint64) {
	if v.inPlace {
		return v.coded.Load(), 0
	}
	return 0, v.coded.Load()
}

func (v *video) Track() media.Track { return v.track }

// Encode codes f before it returns: with software encoders that is the whole work, on the caller's thread.
func (v *video) Encode(ctx context.Context, f *media.Frame, key bool) error {
	if !sameFormat(f.Format, v.in) {
		return fmt.Errorf("encode %v: opened for %v", f.Format, v.in)
	}
	if err := v.out.Wait(ctx); err != nil {
		return err
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.c == nil {
		return encoder.ErrClosed
	}
	key = v.keys.Key(f.PTS, key)
	v.stamps[v.number%delay] = f.PTS
	err := f.CPU(func(planes [][]byte) error { return v.send(f, planes, key) })
	v.number++
	v.coded.Add(1)
	if err == nil {
		err = v.drain()
	}
	if err != nil {
		return fmt.Errorf("encode with %s: %w", v.coder.name, err)
	}
	return nil
}

// sameFormat compares what the encoder depends on: a source may find out its true rate later.
func sameFormat(a, b media.VideoFormat) bool {
	a.Rate = b.Rate
	return a == b
}

func (v *video) send(f *media.Frame, planes [][]byte, key bool) error {
	var ptr [3]*C.uint8_t
	var stride [3]C.int
	if err := checkPlanes(f, planes); err != nil {
		return err
	}
	for i, p := range planes {
		ptr[i], stride[i] = (*C.uint8_t)(unsafe.Pointer(&p[0])), C.int(f.Planes[i].Stride)
	}
	forced := C.int(0)
	if key {
		forced = 1
	}
	return check(C.gantry_send(v.c, ptr[0], ptr[1], ptr[2], stride[0], stride[1], stride[2], C.int64_t(v.number), forced))
}

// drain moves the coded packets to the Output, copying each once.
func (v *video) drain() error {
	for {
		switch err := check(C.gantry_receive(v.c)); err {
		case nil:
			v.out.Put(v.take())
		case errAgain, errEOF:
			return nil
		default:
			return err
		}
	}
}

func (v *video) take() *media.Packet {
	pkt := v.c.packet
	defer C.av_packet_unref(pkt)
	coded := unsafe.Slice((*byte)(unsafe.Pointer(pkt.data)), int(pkt.size))
	key := pkt.flags&C.AV_PKT_FLAG_KEY != 0
	head := v.head
	if !key || hasSets(v.coder.codec, coded) {
		head = nil
	}
	data := make([]byte, len(head)+len(coded))
	copy(data[copy(data, head):], coded)
	pts := v.stamps[int64(pkt.pts)%delay]
	return &media.Packet{PTS: pts, DTS: pts, Start: true, End: true, Key: key, Data: data}
}

// hasSets tells whether the access unit begins with its parameter sets.
func hasSets(codec media.Codec, au []byte) bool {
	for nalu := range h264.NALUs(au) {
		switch codec {
		case media.H264:
			switch h264.TypeOf(nalu) {
			case h264.SPS:
				return true
			case h264.IDR, h264.NonIDR:
				return false
			}
		case media.H265:
			switch t := nalu[0] >> 1 & 0x3f; { // H.265 table 7-1: 33 is an SPS, up to 31 are slices
			case t == 33:
				return true
			case t < 32:
				return false
			}
		default:
			return true // the sequence header is in band
		}
	}
	return false
}

func (v *video) Read(ctx context.Context) (*media.Packet, error) { return v.out.Read(ctx) }

// Apply implements encoder.Encoder. More bits than the level in the parameter sets allows need a new encoder.
func (v *video) Apply(p encoder.Params) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.c == nil {
		return encoder.ErrClosed
	}
	if !v.params.Live(p) {
		return encoder.ErrRestart
	}
	resolved, err := p.Resolve(v.in)
	if err != nil {
		return fmt.Errorf("apply to %s: %w", v.coder.name, err)
	}
	if p.Bitrate != v.params.Bitrate {
		if v.coder.live > version(C.avcodec_version()) || v.most > 0 && p.Bitrate > v.most {
			return encoder.ErrRestart
		}
		C.gantry_set_bitrate(v.c, C.int64_t(p.Bitrate), C.int(buffer(p.Bitrate)))
	}
	v.keys.GOP = resolved.GOP
	v.params = p
	return nil
}

// Close implements encoder.Encoder. Packets are Go memory, so FFmpeg's is free when it returns, whoever still reads.
func (v *video) Close() error {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.c == nil {
		return nil
	}
	woken := v.coder.wakes && v.number == 0
	if woken {
		v.wake()
	}
	err := check(C.gantry_send(v.c, nil, nil, nil, 0, 0, 0, 0, 0))
	if err == nil && woken {
		for err == nil { // nobody asked for this picture
			if err = check(C.gantry_receive(v.c)); err == nil {
				C.av_packet_unref(v.c.packet)
			}
		}
		if err == errEOF {
			err = nil
		}
	} else if err == nil {
		err = v.drain()
	}
	C.gantry_close(v.c)
	v.c = nil
	v.out.End(nil)
	if err != nil {
		return fmt.Errorf("drain %s: %w", v.coder.name, err)
	}
	return nil
}

// wake gives the encoder a picture of anything.
func (v *video) wake() {
	f := media.NewPool(v.in, 1).Get()
	defer f.Release()
	_ = f.CPU(func(planes [][]byte) error { return v.send(f, planes, true) }) // the drain after it tells
}

// buffer is the size of the rate control's buffer in bits: half a second, which is what Params.Bitrate means.
func buffer(bitrate int) int { return bitrate / 2 }

// threads decides how many pictures are coded at a time. Each thread past the first delays the stream by a picture, as one
// picture is one slice; so there is a second only where one core cannot be expected to keep up.
func threads(p encoder.Params, rate media.Rational) int {
	if p.Threads > 0 {
		return p.Threads
	}
	const oneCore = 1920 * 1080 * 30
	n := math.Ceil(float64(p.Width*p.Height) * rate.Float() / oneCore)
	return max(1, min(int(n), runtime.NumCPU()))
}
