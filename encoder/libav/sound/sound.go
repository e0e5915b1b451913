//go:build cgo && !nolibav

package sound

// #cgo pkg-config: libavcodec libavutil libswresample
// #include <stdlib.h>
// #include "sound.h"
import "C"

import (
	"encoding/hex"
	"fmt"
	"sync"
	"time"
	"unsafe"

	"gantry/media"
)

// Missing says what this build lacks, empty when it has FFmpeg.
func Missing() string { return "" }

const (
	// gap is how far a packet may be from where the sound before it ended; beyond, the timeline begins anew.
	gap = 60 * time.Millisecond
	// slack is how far it may be on average before the sound is stretched: RTMP's times are whole milliseconds.
	slack = 2 * time.Millisecond
	// smooth is how many packets the average is over.
	smooth = 64
)

// A Transcoder converts the access units of one track. One goroutine uses it; Close it after the last.
type Transcoder struct {
	c     *C.gantry_sound
	track media.Track

	begun   bool
	start   time.Duration // PTS of the timeline's first sample
	first   int64         // its number; the encoder's numbers never run back
	fed     int64         // number of the next sample that the resampler gives
	taken   int64         // number of the next sample that the encoder takes
	late    time.Duration // how late packets are, on average
	stretch int64         // until this number the sound is being stretched
}

// quiet keeps FFmpeg from writing to stderr: what it says there of a damaged packet is a gap to us.
var quiet = sync.OnceFunc(func() { C.av_log_set_level(C.AV_LOG_FATAL) })

type avError C.int

func (e avError) Error() string {
	var buf [128]C.char
	C.av_strerror(C.int(e), &buf[0], C.size_t(len(buf)))
	return C.GoString(&buf[0])
}

// New returns a Transcoder of AAC to Opus or of Opus to AAC. AAC needs its AudioSpecificConfig in from.Profile.
func New(from media.Track, to media.Codec) (*Transcoder, error) {
	decoders := map[media.Codec]C.int{media.AAC: C.AV_CODEC_ID_AAC, media.Opus: C.AV_CODEC_ID_OPUS}
	encoders := map[media.Codec]string{media.AAC: "aac", media.Opus: "libopus"}
	id, ok := decoders[from.Codec]
	name, can := encoders[to]
	if !ok || !can {
		return nil, fmt.Errorf("transcode %v to %v: only AAC and Opus are known", from.Codec, to)
	}
	quiet()
	var config []byte
	if from.Codec == media.AAC {
		var err error
		if config, err = hex.DecodeString(from.Profile); err != nil {
			return nil, fmt.Errorf("transcode AAC: configuration: %w", err)
		}
	}
	cname := C.CString(name)
	defer C.free(unsafe.Pointer(cname))
	t := &Transcoder{track: output(to)}
	code := C.gantry_sound_open(id, (*C.uint8_t)(unsafe.Pointer(unsafe.SliceData(config))), C.int(len(config)), C.int(from.ClockRate), C.int(max(from.Channels, 1)),
		cname, rate, bitrate, &t.c)
	if code < 0 {
		return nil, fmt.Errorf("transcode %v to %v with FFmpeg's %s: %w", from.Codec, to, name, avError(code))
	}
	if to == media.AAC {
		t.track.Profile = hex.EncodeToString(C.GoBytes(unsafe.Pointer(t.c.enc.extradata), t.c.enc.extradata_size))
	}
	return t, nil
}

// Track returns what comes out.
func (t *Transcoder) Track() media.Track { return t.track }

// Convert appends the packets that p completes to dst. Sound that cannot be decoded is a gap.
func (t *Transcoder) Convert(dst []*media.Packet, p *media.Packet) []*media.Packet {
	if len(p.Data) == 0 || t.c == nil {
		return dst
	}
	t.follow(p)
	n := C.gantry_sound_feed(t.c, (*C.uint8_t)(unsafe.Pointer(&p.Data[0])), C.int(len(p.Data)))
	if n < 0 {
		return dst
	}
	t.fed += int64(n)
	for {
		var fed C.int
		got := C.gantry_sound_encode(t.c, C.int64_t(t.taken), &fed)
		t.taken += int64(fed)
		if got > 0 {
			at := t.at(int64(t.c.out.pts))
			dst = append(dst, &media.Packet{Track: p.Track, PTS: at, DTS: at, Start: true, End: true,
				Data: C.GoBytes(unsafe.Pointer(t.c.out.data), t.c.out.size)})
		}
		if fed == 0 {
			return dst
		}
	}
}

// follow keeps the timeline at p's, whose samples come next.
func (t *Transcoder) follow(p *media.Packet) {
	next := t.fed + int64(C.gantry_sound_delay(t.c))
	late := p.PTS - t.at(next)
	if !t.begun || late > gap || late < -gap {
		C.gantry_sound_restart(t.c)
		t.begun, t.start, t.late, t.stretch = true, p.PTS, 0, 0
		t.first, t.fed = t.taken, t.taken
		return
	}
	t.late += (late - t.late) / smooth
	if (t.late > slack || t.late < -slack) && t.fed > t.stretch {
		// Over four seconds: 2 ms are 0.05 %, which nobody hears.
		t.stretch = t.fed + 4*rate
		C.gantry_sound_stretch(t.c, C.int(t.late*rate/time.Second), 4*rate)
	}
}

// at is the PTS of the sample of that number.
func (t *Transcoder) at(n int64) time.Duration {
	n -= t.first
	return t.start + time.Duration(n/rate)*time.Second + time.Duration(n%rate)*time.Second/rate
}

// Close frees what FFmpeg holds.
func (t *Transcoder) Close() error {
	C.gantry_sound_close(t.c)
	t.c = nil
	return nil
}
