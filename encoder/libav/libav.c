//go:build cgo && !nolibav

#include "libav.h"

#include <stdio.h>
#include <string.h>

#include <libavutil/buffer.h>
#include <libavutil/hwcontext.h>
#include <libavutil/imgutils.h>
#include <libavutil/mem.h>
#include <libavutil/opt.h>

static _Thread_local char last_error[512];

static void keep_error(void *object, int level, const char *format, va_list args)
{
	if (level > AV_LOG_ERROR)
		return;
	size_t used = strlen(last_error);
	if (used > 0 && used + 2 < sizeof last_error) {
		memcpy(last_error + used, "; ", 3);
		used += 2;
	}
	vsnprintf(last_error + used, sizeof last_error - used, format, args);
	for (size_t n = strlen(last_error); n > 0 && last_error[n - 1] == '\n'; n--)
		last_error[n - 1] = 0;
}

void gantry_log_init(void) { av_log_set_callback(keep_error); }
const char *gantry_last_error(void) { return last_error; }
void gantry_clear_error(void) { last_error[0] = 0; }

// TAIL is how many lines at a picture's end swscale reads from memory of ours: it reads past the end of a line, which must
// not be the end of a mapping. Twice a chroma line's height, and what an odd height leaves.
#define TAIL 3
#define PADDING 64

static int open_scaler(gantry_encoder *e, const gantry_config *c)
{
	int same = c->src_width == c->width && c->src_height == c->height;
	e->scaler = sws_getContext(c->src_width, c->src_height, c->src_format, c->width, c->height, c->format,
		(same ? SWS_BILINEAR : SWS_BICUBIC) | SWS_ACCURATE_RND | SWS_FULL_CHR_H_INP, NULL, NULL, NULL);
	if (!e->scaler)
		return AVERROR(EINVAL);
	int matrix = c->colour.matrix == AVCOL_SPC_UNSPECIFIED ? c->src_matrix : c->colour.matrix;
	int err = sws_setColorspaceDetails(e->scaler, sws_getCoefficients(c->src_matrix), c->src_full,
		sws_getCoefficients(matrix), c->colour.range == AVCOL_RANGE_JPEG, 0, 1 << 16, 1 << 16);
	if (err < 0)
		return AVERROR(EINVAL);
	int lines[4];
	err = av_image_fill_linesizes(lines, c->src_format, c->src_width);
	if (err < 0)
		return err;
	e->tail_stride = FFALIGN(lines[0], PADDING) + PADDING; // no plane of our layouts but NV24's second is wider than the first
	if (lines[1] > lines[0])
		e->tail_stride = FFALIGN(lines[1], PADDING) + PADDING;
	e->tail = av_mallocz((size_t)3 * TAIL * e->tail_stride);
	if (!e->tail)
		return AVERROR(ENOMEM);
	e->frame->format = c->format;
	e->frame->width = c->width;
	e->frame->height = c->height;
	return av_frame_get_buffer(e->frame, 0);
}

int gantry_exists(const char *name) { return avcodec_find_encoder_by_name(name) != NULL; }

// set_options sets all of c's options, the encoder's own before the general ones of the same name.
static int set_options(AVCodecContext *ctx, const gantry_config *c, char *unused, int unused_size)
{
	AVDictionary *options = NULL;
	int err = av_dict_parse_string(&options, c->options, "=", "\n", 0);
	if (err >= 0 && ctx->codec->priv_class)
		err = av_opt_set_dict(ctx->priv_data, &options);
	if (err >= 0)
		err = av_opt_set_dict(ctx, &options);
	const AVDictionaryEntry *left = av_dict_get(options, "", NULL, AV_DICT_IGNORE_SUFFIX);
	if (err >= 0 && left) {
		snprintf(unused, unused_size, "%s", left->key);
		err = AVERROR_OPTION_NOT_FOUND;
	}
	av_dict_free(&options);
	return err;
}

// SURFACES is how many pictures may be on the device: one is coded, some are kept as references by drivers that count them in.
#define SURFACES 16

// open_device makes the device, and the pool of its surfaces that the encoder takes pictures from.
static int open_device(gantry_encoder *e, const gantry_config *c)
{
	enum AVHWDeviceType type = av_hwdevice_find_type_by_name(c->device);
	const AVCodecHWConfig *hw;
	for (int i = 0; (hw = avcodec_get_hw_config(e->codec->codec, i)); i++)
		if (hw->device_type == type && hw->methods & AV_CODEC_HW_CONFIG_METHOD_HW_FRAMES_CTX)
			break;
	if (type == AV_HWDEVICE_TYPE_NONE || !hw)
		return AVERROR(ENOSYS);
	AVBufferRef *device = NULL;
	int err = av_hwdevice_ctx_create(&device, type, NULL, NULL, 0);
	if (err < 0)
		return err;
	AVBufferRef *pool = av_hwframe_ctx_alloc(device); // which refers to the device
	av_buffer_unref(&device);
	e->surface = av_frame_alloc();
	if (!pool || !e->surface) {
		av_buffer_unref(&pool);
		return AVERROR(ENOMEM);
	}
	AVHWFramesContext *frames = (AVHWFramesContext *)pool->data;
	frames->format = hw->pix_fmt;
	frames->sw_format = c->format;
	frames->width = c->width;
	frames->height = c->height;
	frames->initial_pool_size = SURFACES;
	e->codec->pix_fmt = hw->pix_fmt;
	e->codec->hw_frames_ctx = pool; // freed with the codec
	return av_hwframe_ctx_init(pool);
}

static int open_codec(gantry_encoder *e, const gantry_config *c, char *unused, int unused_size)
{
	const AVCodec *codec = avcodec_find_encoder_by_name(c->name);
	if (!codec)
		return AVERROR_ENCODER_NOT_FOUND;
	if (avcodec_version() < c->version)
		return AVERROR_EXPERIMENTAL;
	AVCodecContext *ctx = e->codec = avcodec_alloc_context3(codec);
	if (!ctx)
		return AVERROR(ENOMEM);
	ctx->width = c->width;
	ctx->height = c->height;
	ctx->pix_fmt = c->format;
	ctx->framerate = (AVRational){c->rate_num, c->rate_den};
	ctx->time_base = (AVRational){c->rate_den, c->rate_num}; // packets are matched to pictures by number
	ctx->thread_count = c->threads;
	ctx->max_b_frames = 0;
	ctx->colorspace = c->colour.matrix;
	ctx->color_primaries = c->colour.primaries;
	ctx->color_trc = c->colour.transfer;
	ctx->color_range = c->colour.range;
	ctx->chroma_sample_location = AVCHROMA_LOC_LEFT;
	ctx->flags |= AV_CODEC_FLAG_GLOBAL_HEADER | AV_CODEC_FLAG_LOW_DELAY;
	gantry_set_bitrate(e, c->bitrate, c->buffer);
	int err = set_options(ctx, c, unused, unused_size);
	if (err >= 0 && c->device)
		err = open_device(e, c);
	return err < 0 ? err : avcodec_open2(ctx, codec, NULL);
}

int gantry_open(const gantry_config *c, gantry_encoder **out, char *unused, int unused_size)
{
	gantry_encoder *e = av_mallocz(sizeof *e);
	if (!e)
		return AVERROR(ENOMEM);
	e->src_width = c->src_width;
	e->src_height = c->src_height;
	e->src_format = c->src_format;
	e->format = c->format;
	e->lends = c->lends;
	e->frame = av_frame_alloc();
	e->packet = av_packet_alloc();
	int err = e->frame && e->packet ? 0 : AVERROR(ENOMEM);
	if (err >= 0)
		err = open_codec(e, c, unused, unused_size);
	if (err >= 0 && c->convert)
		err = open_scaler(e, c);
	if (err >= 0 && c->halve) {
		e->chroma_stride = (c->src_width + 63) & ~63;
		e->chroma = av_malloc((size_t)e->chroma_stride * ((c->src_height + 1) / 2) + 64); // swscale reads past a line's end
		if (!e->chroma)
			err = AVERROR(ENOMEM);
	}
	if (err < 0) {
		gantry_close(e);
		return err;
	}
	*out = e;
	return 0;
}

void gantry_set_bitrate(gantry_encoder *e, int64_t bitrate, int buffer)
{
	// All three, or libx264 follows downwards only.
	e->codec->bit_rate = bitrate;
	e->codec->rc_max_rate = bitrate;
	e->codec->rc_buffer_size = buffer;
}

static void given_back(void *opaque, uint8_t *data) { --*(int *)opaque; }

// lend makes e->frame show the caller's pixels. avcodec_send_frame would copy a picture without a buffer behind it.
static int lend(gantry_encoder *e, uint8_t *const planes[4], const int strides[4])
{
	AVFrame *f = e->frame;
	f->format = e->format;
	f->width = e->codec->width;
	f->height = e->codec->height;
	for (int i = 0; i < 4; i++) {
		f->data[i] = planes[i];
		f->linesize[i] = strides[i];
	}
	f->extended_data = f->data;
	f->buf[0] = av_buffer_create(planes[0], 1, given_back, &e->lent, AV_BUFFER_FLAG_READONLY);
	if (!f->buf[0])
		return AVERROR(ENOMEM);
	e->lent++;
	if (e->lends)
		return 0;
	// This encoder keeps pictures: give it one of its own.
	AVFrame *own = av_frame_alloc();
	if (!own)
		return AVERROR(ENOMEM);
	own->format = f->format;
	own->width = f->width;
	own->height = f->height;
	int err = av_frame_get_buffer(own, 0);
	if (err >= 0)
		err = av_frame_copy(own, f);
	av_frame_unref(f);
	if (err >= 0)
		av_frame_move_ref(f, own);
	av_frame_free(&own);
	return err;
}

// halve makes one chroma line of each two, as NV12 has it; swscale before 7 does not read NV16.
static void halve(gantry_encoder *e, const uint8_t *uv, int stride)
{
	int width = (e->src_width + 1) & ~1;
	for (int y = 0; y < e->src_height; y += 2) {
		const uint8_t *a = uv + (ptrdiff_t)y * stride, *b = y + 1 < e->src_height ? a + stride : a;
		uint8_t *out = e->chroma + (ptrdiff_t)(y / 2) * e->chroma_stride;
		for (int x = 0; x < width; x++)
			out[x] = (a[x] + b[x] + 1) >> 1;
	}
}

// scale converts a picture into e->frame, its last lines from e->tail.
static int scale(gantry_encoder *e, const uint8_t *const planes[4], const int strides[4])
{
	int err = av_frame_make_writable(e->frame);
	if (err < 0)
		return err;
	int top = (e->src_height - 2) & ~1, rest = e->src_height - top;
	int shift = av_pix_fmt_desc_get(e->src_format)->log2_chroma_h;
	int lines[4];
	av_image_fill_linesizes(lines, e->src_format, e->src_width);
	const uint8_t *tail[4] = {0};
	int tail_strides[4] = {0};
	for (int i = 0; i < 3 && planes[i]; i++) {
		int down = i > 0 ? shift : 0;
		int first = top >> down, count = AV_CEIL_RSHIFT(rest, down);
		uint8_t *to = e->tail + (size_t)i * TAIL * e->tail_stride;
		for (int y = 0; y < count; y++)
			memcpy(to + (size_t)y * e->tail_stride, planes[i] + (ptrdiff_t)(first + y) * strides[i], lines[i]);
		tail[i] = to;
		tail_strides[i] = e->tail_stride;
	}
	err = sws_scale(e->scaler, planes, strides, 0, top, e->frame->data, e->frame->linesize);
	if (err >= 0)
		err = sws_scale(e->scaler, tail, tail_strides, top, rest, e->frame->data, e->frame->linesize);
	return err;
}

// upload copies e->frame to a surface of the device.
static int upload(gantry_encoder *e)
{
	int err = av_hwframe_get_buffer(e->codec->hw_frames_ctx, e->surface, 0);
	if (err >= 0)
		err = av_hwframe_transfer_data(e->surface, e->frame, 0);
	if (!e->scaler)
		av_frame_unref(e->frame); // what was lent
	if (err < 0)
		av_frame_unref(e->surface);
	return err;
}

int gantry_send(gantry_encoder *e, const uint8_t *p0, const uint8_t *p1, const uint8_t *p2, int s0, int s1, int s2,
	int64_t number, int key)
{
	if (!p0)
		return avcodec_send_frame(e->codec, NULL);
	if (e->chroma) {
		halve(e, p1, s1);
		p1 = e->chroma;
		s1 = e->chroma_stride;
	}
	const uint8_t *planes[4] = {p0, p1, p2, NULL};
	int strides[4] = {s0, s1, s2, 0};
	AVFrame *f = e->frame;
	int err;
	if (e->scaler) {
		err = scale(e, planes, strides);
	} else {
		err = lend(e, (uint8_t *const *)planes, strides);
	}
	if (err < 0)
		return err;
	if (e->surface) {
		err = upload(e);
		if (err < 0)
			return err;
		f = e->surface;
	}
	f->pts = number;
	f->pict_type = key ? AV_PICTURE_TYPE_I : AV_PICTURE_TYPE_NONE;
	f->colorspace = e->codec->colorspace;
	f->color_primaries = e->codec->color_primaries;
	f->color_trc = e->codec->color_trc;
	f->color_range = e->codec->color_range;
	f->chroma_location = e->codec->chroma_sample_location;
	err = avcodec_send_frame(e->codec, f);
	if (e->surface)
		av_frame_unref(e->surface);
	else if (!e->scaler)
		av_frame_unref(e->frame);
	if (!e->scaler) {
		if (err >= 0 && e->lent != 0)
			return AVERROR_BUG; // it refers to memory that is not ours after this call
	}
	return err;
}

int gantry_receive(gantry_encoder *e) { return avcodec_receive_packet(e->codec, e->packet); }

void gantry_close(gantry_encoder *e)
{
	if (!e)
		return;
	avcodec_free_context(&e->codec);
	sws_freeContext(e->scaler);
	av_free(e->chroma);
	av_free(e->tail);
	av_frame_free(&e->frame);
	av_frame_free(&e->surface);
	av_packet_free(&e->packet);
	av_free(e);
}

int gantry_decoder_open(int codec_id, gantry_decoder **out)
{
	const AVCodec *codec = avcodec_find_decoder(codec_id);
	if (!codec)
		return AVERROR_DECODER_NOT_FOUND;
	gantry_decoder *d = av_mallocz(sizeof *d);
	if (!d)
		return AVERROR(ENOMEM);
	d->codec = avcodec_alloc_context3(codec);
	d->packet = av_packet_alloc();
	int err = d->codec && d->packet ? 0 : AVERROR(ENOMEM);
	if (err >= 0) {
		d->codec->thread_count = 1;
		d->codec->flags |= AV_CODEC_FLAG_LOW_DELAY;
		d->codec->err_recognition = AV_EF_EXPLODE;
		err = avcodec_open2(d->codec, codec, NULL);
	}
	if (err < 0) {
		gantry_decoder_close(d);
		return err;
	}
	*out = d;
	return 0;
}

int gantry_decode(gantry_decoder *d, const uint8_t *data, int size, int64_t pts)
{
	if (!data)
		return avcodec_send_packet(d->codec, NULL);
	int err = av_new_packet(d->packet, size); // with the padding that decoders read past the end
	if (err < 0)
		return err;
	memcpy(d->packet->data, data, size);
	d->packet->pts = pts;
	err = avcodec_send_packet(d->codec, d->packet);
	av_packet_unref(d->packet);
	return err;
}

int gantry_picture(gantry_decoder *d, AVFrame **out)
{
	AVFrame *f = av_frame_alloc();
	if (!f)
		return AVERROR(ENOMEM);
	int err = avcodec_receive_frame(d->codec, f);
	if (err < 0)
		av_frame_free(&f);
	*out = f;
	return err;
}

void gantry_decoder_close(gantry_decoder *d)
{
	if (!d)
		return;
	avcodec_free_context(&d->codec);
	av_packet_free(&d->packet);
	av_free(d);
}
