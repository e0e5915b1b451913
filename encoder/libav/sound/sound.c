//go:build cgo && !nolibav

#include "sound.h"

#include <string.h>

static int open_decoder(gantry_sound *s, int id, const uint8_t *config, int size, int rate, int channels)
{
	const AVCodec *codec = avcodec_find_decoder(id);
	if (!codec)
		return AVERROR_DECODER_NOT_FOUND;
	AVCodecContext *c = s->dec = avcodec_alloc_context3(codec);
	if (!c)
		return AVERROR(ENOMEM);
	c->sample_rate = rate;
	av_channel_layout_default(&c->ch_layout, channels);
	c->thread_count = 1;
	if (size > 0) {
		c->extradata = av_mallocz(size + AV_INPUT_BUFFER_PADDING_SIZE);
		if (!c->extradata)
			return AVERROR(ENOMEM);
		memcpy(c->extradata, config, size);
		c->extradata_size = size;
	}
	return avcodec_open2(c, codec, NULL);
}

static int open_encoder(gantry_sound *s, const char *name, int rate, int64_t bitrate)
{
	const AVCodec *codec = avcodec_find_encoder_by_name(name);
	if (!codec)
		return AVERROR_ENCODER_NOT_FOUND;
	AVCodecContext *c = s->enc = avcodec_alloc_context3(codec);
	if (!c)
		return AVERROR(ENOMEM);
	c->sample_rate = rate;
	c->time_base = (AVRational){1, rate};
	c->bit_rate = bitrate;
	c->thread_count = 1;
	c->sample_fmt = codec->id == AV_CODEC_ID_OPUS ? AV_SAMPLE_FMT_FLT : AV_SAMPLE_FMT_FLTP;
	c->flags |= AV_CODEC_FLAG_GLOBAL_HEADER;
	av_channel_layout_default(&c->ch_layout, 2);
	return avcodec_open2(c, codec, NULL);
}

int gantry_sound_open(int from, const uint8_t *config, int config_size, int in_rate, int in_channels,
	const char *to, int rate, int64_t bitrate, gantry_sound **out)
{
	gantry_sound *s = av_mallocz(sizeof *s);
	if (!s)
		return AVERROR(ENOMEM);
	s->in = av_packet_alloc();
	s->out = av_packet_alloc();
	s->raw = av_frame_alloc();
	s->pcm = av_frame_alloc();
	int err = s->in && s->out && s->raw && s->pcm ? 0 : AVERROR(ENOMEM);
	if (err >= 0)
		err = open_decoder(s, from, config, config_size, in_rate, in_channels);
	if (err >= 0)
		err = open_encoder(s, to, rate, bitrate);
	if (err >= 0) {
		s->fifo = av_audio_fifo_alloc(s->enc->sample_fmt, 2, 4 * s->enc->frame_size);
		if (!s->fifo)
			err = AVERROR(ENOMEM);
	}
	if (err < 0) {
		gantry_sound_close(s);
		return err;
	}
	*out = s;
	return 0;
}

// adapt makes swr take frames such as f.
static int adapt(gantry_sound *s, const AVFrame *f)
{
	if (s->swr && f->format == s->format && f->sample_rate == s->rate && !av_channel_layout_compare(&f->ch_layout, &s->layout))
		return 0;
	swr_free(&s->swr);
	int err = av_channel_layout_copy(&s->layout, &f->ch_layout);
	if (err < 0)
		return err;
	s->format = f->format;
	s->rate = f->sample_rate;
	err = swr_alloc_set_opts2(&s->swr, &s->enc->ch_layout, s->enc->sample_fmt, s->enc->sample_rate,
		&s->layout, s->format, s->rate, 0, NULL);
	if (err >= 0)
		err = av_opt_set_int(s->swr, "flags", SWR_FLAG_RESAMPLE, 0); // even at equal rates: clocks differ
	if (err >= 0 && s->layout.nb_channels == 1)
		err = swr_set_matrix(s->swr, (const double[]){1, 1}, 1); // or mono loses 3 dB
	if (err >= 0)
		err = swr_init(s->swr);
	return err;
}

// resample puts s->raw into the fifo.
static int resample(gantry_sound *s)
{
	int err = adapt(s, s->raw);
	if (err < 0)
		return err;
	AVFrame *p = s->pcm;
	av_frame_unref(p);
	p->format = s->enc->sample_fmt;
	p->sample_rate = s->enc->sample_rate;
	p->nb_samples = swr_get_out_samples(s->swr, s->raw->nb_samples);
	err = av_channel_layout_copy(&p->ch_layout, &s->enc->ch_layout);
	if (err >= 0)
		err = av_frame_get_buffer(p, 0);
	if (err < 0)
		return err;
	int n = swr_convert(s->swr, p->extended_data, p->nb_samples, (const uint8_t **)s->raw->extended_data, s->raw->nb_samples);
	if (n > 0)
		n = av_audio_fifo_write(s->fifo, (void **)p->extended_data, n);
	return n;
}

int gantry_sound_feed(gantry_sound *s, const uint8_t *data, int size)
{
	int err = av_new_packet(s->in, size);
	if (err < 0)
		return err;
	memcpy(s->in->data, data, size);
	err = avcodec_send_packet(s->dec, s->in);
	av_packet_unref(s->in);
	if (err < 0)
		return err;
	for (int added = 0;;) {
		err = avcodec_receive_frame(s->dec, s->raw);
		if (err == AVERROR(EAGAIN) || err == AVERROR_EOF)
			return added;
		if (err >= 0)
			err = resample(s);
		av_frame_unref(s->raw);
		if (err < 0)
			return err;
		added += err;
	}
}

int64_t gantry_sound_delay(gantry_sound *s) { return s->swr ? swr_get_delay(s->swr, s->enc->sample_rate) : 0; }

int gantry_sound_stretch(gantry_sound *s, int delta, int distance)
{
	return s->swr ? swr_set_compensation(s->swr, delta, distance) : 0;
}

void gantry_sound_restart(gantry_sound *s)
{
	av_audio_fifo_reset(s->fifo);
	swr_free(&s->swr);
	avcodec_flush_buffers(s->dec);
}

int gantry_sound_encode(gantry_sound *s, int64_t pts, int *fed)
{
	*fed = 0;
	int n = s->enc->frame_size;
	if (av_audio_fifo_size(s->fifo) < n)
		return 0;
	AVFrame *p = s->pcm;
	av_frame_unref(p);
	p->format = s->enc->sample_fmt;
	p->sample_rate = s->enc->sample_rate;
	p->nb_samples = n;
	p->pts = pts;
	int err = av_channel_layout_copy(&p->ch_layout, &s->enc->ch_layout);
	if (err >= 0)
		err = av_frame_get_buffer(p, 0);
	if (err >= 0)
		err = av_audio_fifo_read(s->fifo, (void **)p->extended_data, n);
	if (err < 0)
		return err;
	*fed = n;
	err = avcodec_send_frame(s->enc, p);
	if (err < 0)
		return err;
	av_packet_unref(s->out);
	err = avcodec_receive_packet(s->enc, s->out);
	return err == AVERROR(EAGAIN) ? 0 : err < 0 ? err : 1;
}

void gantry_sound_close(gantry_sound *s)
{
	if (!s)
		return;
	avcodec_free_context(&s->dec);
	avcodec_free_context(&s->enc);
	swr_free(&s->swr);
	if (s->fifo)
		av_audio_fifo_free(s->fifo);
	av_packet_free(&s->in);
	av_packet_free(&s->out);
	av_frame_free(&s->raw);
	av_frame_free(&s->pcm);
	av_channel_layout_uninit(&s->layout);
	av_free(s);
}
