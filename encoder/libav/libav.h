// The C side of package libav: what must happen between two calls of FFmpeg without returning to Go, and nothing else.
// Functions return 0 or a negative AVERROR code.
#ifndef GANTRY_LIBAV_H
#define GANTRY_LIBAV_H

#include <libavcodec/avcodec.h>
#include <libavutil/dict.h>
#include <libavutil/error.h>
#include <libavutil/frame.h>
#include <libavutil/log.h>
#include <libavutil/pixdesc.h>
#include <libswscale/swscale.h>

// Colour as H.273 codes it; range is an AVColorRange.
typedef struct {
	int matrix, primaries, transfer, range;
} gantry_colour;

typedef struct {
	const char *name;    // of the encoder
	const char *options; // key=value lines
	const char *device;  // AVHWDeviceType by name: pictures are uploaded to a pool of its surfaces; NULL: the encoder reads memory
	unsigned version;    // of libavcodec that the encoder needs at least, 0: any
	int src_width, src_height, src_format;
	int width, height, format;
	int rate_num, rate_den;
	int threads;
	int convert;    // pictures go through swscale
	int halve;      // they come as NV16, which is NV12 with twice the chroma lines
	int lends;      // the encoder has read a picture when avcodec_send_frame returns
	int src_matrix; // SWS_CS_* of what comes in
	int src_full;
	int64_t bitrate;
	int buffer; // bits
	gantry_colour colour;
} gantry_config;

typedef struct {
	AVCodecContext *codec;
	AVFrame *frame;   // a picture in memory
	AVFrame *surface; // the same on the device; NULL without one
	AVPacket *packet;
	struct SwsContext *scaler;
	uint8_t *chroma; // NV16's, halved
	int chroma_stride;
	int src_width, src_height, src_format;
	int format;    // of frame
	uint8_t *tail; // the last lines of each plane, padded
	int tail_stride;
	int lends;
	int lent; // pictures of ours that the encoder still refers to
} gantry_encoder;

// gantry_log_init sends FFmpeg's log to gantry_last_error instead of stderr.
void gantry_log_init(void);
// gantry_last_error returns what FFmpeg complained about on this thread since gantry_clear_error; "" for nothing.
const char *gantry_last_error(void);
void gantry_clear_error(void);

// gantry_exists tells whether this FFmpeg has an encoder of that name.
int gantry_exists(const char *name);
// gantry_open also checks every option's name and value, before it looks for the device: one that the encoder does not know is
// AVERROR_OPTION_NOT_FOUND with its key in unused. AVERROR_EXPERIMENTAL: this libavcodec is older than config->version.
int gantry_open(const gantry_config *config, gantry_encoder **out, char *unused, int unused_size);
// gantry_send codes the picture in p0..p2, which are only read during the call; without p0 it ends the stream.
int gantry_send(gantry_encoder *e, const uint8_t *p0, const uint8_t *p1, const uint8_t *p2, int s0, int s1, int s2,
	int64_t number, int key);
// gantry_receive makes the next packet e->packet.
int gantry_receive(gantry_encoder *e);
void gantry_set_bitrate(gantry_encoder *e, int64_t bitrate, int buffer);
void gantry_close(gantry_encoder *e);

typedef struct {
	AVCodecContext *codec;
	AVPacket *packet;
} gantry_decoder;

int gantry_decoder_open(int codec_id, gantry_decoder **out);
// gantry_decode takes an access unit, which it copies; without data it ends the stream.
int gantry_decode(gantry_decoder *d, const uint8_t *data, int size, int64_t pts);
// gantry_picture makes the next decoded picture *out, to be freed with av_frame_free.
int gantry_picture(gantry_decoder *d, AVFrame **out);
void gantry_decoder_close(gantry_decoder *d);

#endif
