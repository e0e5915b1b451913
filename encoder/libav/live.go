//go:build cgo && !nolibav

package libav

// #include "libav.h"
//
// // After avcodec_open2 both are read with each packet, where decoding has one thread.
// static void gantry_decoder_live(gantry_decoder *d)
// {
// 	d->codec->flags &= ~AV_CODEC_FLAG_LOW_DELAY;
// 	d->codec->err_recognition = 0;
// }
import "C"

import "gantry/media"

// NewLiveDecoder is NewDecoder for what cameras send: pictures leave in the order in which they are shown, also with B-frames, and
// those that are damaged are left out without an end.
func NewLiveDecoder(codec media.Codec) (*Decoder, error) {
	d, err := NewDecoder(codec)
	if err != nil {
		return nil, err
	}
	C.gantry_decoder_live(d.c)
	return d, nil
}
