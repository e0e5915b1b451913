// The C side of package sound. Functions return 0 or more, or a negative AVERROR code.
#ifndef GANTRY_SOUND_H
#define GANTRY_SOUND_H

#include <libavcodec/avcodec.h>
#include <libavutil/audio_fifo.h>
#include <libavutil/channel_layout.h>
#include <libavutil/error.h>
#include <libavutil/frame.h>
#include <libavutil/opt.h>
#include <libswresample/swresample.h>

typedef struct {
	AVCodecContext *dec, *enc;
	SwrContext *swr; // from what the decoder gives to what the encoder takes
	AVAudioFifo *fifo;
	AVPacket *in, *out;
	AVFrame *raw, *pcm;
	AVChannelLayout layout; // swr's input
	int format, rate;
} gantry_sound;

// gantry_sound_open makes a transcoder to the encoder of that name at rate, in stereo. config is the decoder's, as AAC has one.
int gantry_sound_open(int from, const uint8_t *config, int config_size, int in_rate, int in_channels,
	const char *to, int rate, int64_t bitrate, gantry_sound **out);
// gantry_sound_feed decodes a packet and returns how many samples it added to those that wait for the encoder.
int gantry_sound_feed(gantry_sound *s, const uint8_t *data, int size);
// gantry_sound_delay returns how many output samples the resampler still holds.
int64_t gantry_sound_delay(gantry_sound *s);
// gantry_sound_stretch makes the next distance output samples delta more.
int gantry_sound_stretch(gantry_sound *s, int delta, int distance);
// gantry_sound_restart forgets what waits.
void gantry_sound_restart(gantry_sound *s);
// gantry_sound_encode codes the next whole frame, whose first sample has number pts; 1 when s->out is a packet, 0 when there is
// no whole frame or no packet yet: *fed tells the samples taken.
int gantry_sound_encode(gantry_sound *s, int64_t pts, int *fed);
void gantry_sound_close(gantry_sound *s);

#endif
