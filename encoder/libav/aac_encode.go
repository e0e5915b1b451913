//go:build cgo && !nolibav

package libav

/*
#include "libav.h"
#include <libavutil/channel_layout.h>

static int aac_open(int rate, int64_t bitrate, AVCodecContext **out, AVFrame **frame, AVPacket **packet)
{
	const AVCodec *codec = avcodec_find_encoder_by_name("aac");
	if (!codec)
		return AVERROR_ENCODER_NOT_FOUND;
	AVCodecContext *c = avcodec_alloc_context3(codec);
	AVFrame *f = av_frame_alloc();
	AVPacket *p = av_packet_alloc();
	int err = AVERROR(ENOMEM);
	if (!c || !f || !p)
		goto fail;
	c->sample_fmt = AV_SAMPLE_FMT_FLTP;
	c->sample_rate = rate;
	c->bit_rate = bitrate;
	c->time_base = (AVRational){1, rate};
	c->flags |= AV_CODEC_FLAG_GLOBAL_HEADER; // no ADTS: the containers have their own
	av_channel_layout_default(&c->ch_layout, 2);
	err = avcodec_open2(c, codec, NULL);
	if (err < 0)
		goto fail;
	f->format = c->sample_fmt;
	f->sample_rate = rate;
	f->nb_samples = c->frame_size;
	err = av_channel_layout_copy(&f->ch_layout, &c->ch_layout);
	if (err >= 0)
		err = av_frame_get_buffer(f, 0);
	if (err < 0)
		goto fail;
	*out = c, *frame = f, *packet = p;
	return 0;
fail:
	av_packet_free(&p);
	av_frame_free(&f);
	avcodec_free_context(&c);
	return err;
}

// aac_send codes interleaved stereo of the frame's length.
static int aac_send(AVCodecContext *c, AVFrame *f, const float *samples, int64_t at)
{
	int err = av_frame_make_writable(f);
	if (err < 0)
		return err;
	float *left = (float *)f->data[0], *right = (float *)f->data[1];
	for (int i = 0; i < f->nb_samples; i++) {
		left[i] = samples[2 * i];
		right[i] = samples[2 * i + 1];
	}
	f->pts = at;
	return avcodec_send_frame(c, f);
}
*/
import "C"

import (
	"encoding/hex"
	"fmt"
	"strings"
	"time"
	"unsafe"

	"gantry/encoder"
	"gantry/media"
)

// aacTolerance is how far the PTS of sound may be from where the samples before it ended, until the timeline is set anew.
const aacTolerance = 20 * time.Millisecond

// aac is a running encoder.
type aac struct {
	config AACConfig
	format media.AudioFormat
	codec  *C.AVCodecContext // nil once closed
	frame  *C.AVFrame
	packet *C.AVPacket

	fill  []float32     // stereo, towards the next frame
	start time.Duration // PTS of the timeline's first sample
	base  int64         // what the encoder counts that sample as: its count only rises
	count int64         // samples that it was given
	begun bool
}

// NewAAC returns an encoder by FFmpeg's own AAC-LC encoder for sound of format in: one or two channels at AACRate. It always
// makes stereo.
func NewAAC(config AACConfig, in media.AudioFormat) (encoder.AudioEncoder, error) {
	if err := config.Validate(); err != nil {
		return nil, err
	}
	if in.Rate != AACRate || in.Channels != 1 && in.Channels != 2 {
		return nil, fmt.Errorf("AAC takes one or two channels at %d Hz, not %v", AACRate, in)
	}
	initLog()
	a := &aac{config: config, format: in}
	if err := check(C.aac_open(AACRate, C.int64_t(config.Bitrate), &a.codec, &a.frame, &a.packet)); err != nil {
		return nil, fmt.Errorf("open the AAC encoder: %w", err)
	}
	head := hex.EncodeToString(C.GoBytes(unsafe.Pointer(a.codec.extradata), a.codec.extradata_size))
	if !strings.HasPrefix(head, aacProfile) {
		_ = a.Close()
		return nil, fmt.Errorf("open the AAC encoder: configuration %q instead of %s", head, aacProfile)
	}
	a.fill = make([]float32, 0, 2*int(a.codec.frame_size))
	return a, nil
}

func (a *aac) Track() media.Track { return a.config.Track() }

func (a *aac) Encode(s *media.Audio) ([]*media.Packet, error) {
	if a.codec == nil {
		return nil, encoder.ErrClosed
	}
	if s.Format != a.format {
		return nil, fmt.Errorf("encode AAC: sound of %v, opened for %v", s.Format, a.format)
	}
	expected := a.at(a.count + int64(len(a.fill)/2))
	if off := s.PTS - expected; !a.begun || off > aacTolerance || off < -aacTolerance {
		a.start, a.base, a.begun, a.fill = s.PTS, a.count, true, a.fill[:0]
	}
	var packets []*media.Packet
	for in := s.Samples; len(in) >= a.format.Channels; {
		if in = a.take(in); len(a.fill) < cap(a.fill) {
			break
		}
		err := check(C.aac_send(a.codec, a.frame, (*C.float)(&a.fill[0]), C.int64_t(a.count)))
		a.count += int64(len(a.fill) / 2)
		a.fill = a.fill[:0]
		if err == nil {
			packets, err = a.drain(packets)
		}
		if err != nil {
			return packets, fmt.Errorf("encode AAC: %w", err)
		}
	}
	return packets, nil
}

// take moves samples to fill until it is full or in is used up, and returns the rest.
func (a *aac) take(in []float32) []float32 {
	n := min(len(in)/a.format.Channels, (cap(a.fill)-len(a.fill))/2)
	if a.format.Channels == 2 {
		a.fill = append(a.fill, in[:2*n]...)
	} else {
		for _, s := range in[:n] {
			a.fill = append(a.fill, s, s)
		}
	}
	return in[n*a.format.Channels:]
}

func (a *aac) drain(packets []*media.Packet) ([]*media.Packet, error) {
	for {
		switch err := check(C.avcodec_receive_packet(a.codec, a.packet)); err {
		case nil:
		case errAgain, errEOF:
			return packets, nil
		default:
			return packets, err
		}
		pts := a.at(int64(a.packet.pts)) // of the first sample in it, the encoder's run-in (priming) subtracted
		data := C.GoBytes(unsafe.Pointer(a.packet.data), a.packet.size)
		C.av_packet_unref(a.packet)
		packets = append(packets, &media.Packet{PTS: pts, DTS: pts, Start: true, End: true, Key: true, Data: data})
	}
}

// at is the PTS of what the encoder counts as sample n.
func (a *aac) at(n int64) time.Duration {
	n -= a.base
	return a.start + time.Duration(n/AACRate)*time.Second + time.Duration(n%AACRate)*time.Second/AACRate
}

// SetBitrate implements encoder.AudioEncoder: FFmpeg's encoder keeps the rate that it was opened with.
func (a *aac) SetBitrate(bps int) error {
	if bps == a.config.Bitrate {
		return nil
	}
	return fmt.Errorf("set AAC bitrate: %w", encoder.ErrRestart)
}

func (a *aac) Close() error {
	C.av_packet_free(&a.packet)
	C.av_frame_free(&a.frame)
	C.avcodec_free_context(&a.codec)
	return nil
}
