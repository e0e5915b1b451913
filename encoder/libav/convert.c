//go:build cgo && !nolibav

#include "convert.h"

#include <stdio.h>

#include <libavfilter/buffersink.h>
#include <libavfilter/buffersrc.h>
#include <libavutil/imgutils.h>
#include <libavutil/mem.h>

// Times are in nanoseconds; bwdif halves the time base, which still fits.
static const AVRational nanoseconds = {1, 1000000000};

static int open_graph(gantry_deinterlacer *d, const AVFrame *f, const gantry_interlaced *c)
{
	char args[256], chain[128];
	snprintf(args, sizeof args, "video_size=%dx%d:pix_fmt=%d:time_base=1/1000000000:frame_rate=%d/%d:pixel_aspect=1/1", f->width,
		f->height, f->format, c->rate_num, c->rate_den);
#if LIBAVFILTER_VERSION_MAJOR >= 10
	size_t used = strlen(args);
	snprintf(args + used, sizeof args - used, ":colorspace=%d:range=%d", f->colorspace, f->color_range);
#endif
	int err = avfilter_graph_create_filter(&d->in, avfilter_get_by_name("buffer"), "in", args, NULL, d->graph);
	if (err >= 0)
		err = avfilter_graph_create_filter(&d->out, avfilter_get_by_name("buffersink"), "out", NULL, NULL, d->graph);
	if (err < 0)
		return err;
	AVFilterInOut *from = avfilter_inout_alloc(), *to = avfilter_inout_alloc();
	if (!from || !to) {
		err = AVERROR(ENOMEM);
		goto end;
	}
	*from = (AVFilterInOut){.name = av_strdup("in"), .filter_ctx = d->in};
	*to = (AVFilterInOut){.name = av_strdup("out"), .filter_ctx = d->out};
	// All of them, whatever the frames' flags say.
	snprintf(chain, sizeof chain, "bwdif=mode=send_%s:parity=%s:deint=all,format=pix_fmts=%s", c->fields ? "field" : "frame",
		c->bottom_first ? "bff" : "tff", av_get_pix_fmt_name(c->out));
	err = avfilter_graph_parse_ptr(d->graph, chain, &to, &from, NULL);
	if (err >= 0)
		err = avfilter_graph_config(d->graph, NULL);
end:
	avfilter_inout_free(&from);
	avfilter_inout_free(&to);
	return err;
}

int gantry_deinterlacer_open(const gantry_interlaced *c, gantry_deinterlacer **out)
{
	gantry_deinterlacer *d = av_mallocz(sizeof *d);
	if (!d)
		return AVERROR(ENOMEM);
	d->split = c->split;
	d->bottom_first = c->bottom_first;
	d->graph = avfilter_graph_alloc();
	d->woven = av_frame_alloc();
	int err = AVERROR(ENOMEM);
	if (d->graph && d->woven) {
		d->graph->nb_threads = 1;
		d->woven->width = c->width;
		d->woven->height = c->height;
		d->woven->format = c->format;
		d->woven->colorspace = c->colour.matrix;
		d->woven->color_range = c->colour.range;
		err = open_graph(d, d->woven, c);
	}
	if (err < 0) {
		gantry_deinterlacer_close(d);
		return err;
	}
	*out = d;
	return 0;
}

int gantry_deinterlace(gantry_deinterlacer *d, const uint8_t *p0, const uint8_t *p1, const uint8_t *p2, int s0, int s1, int s2,
	int64_t pts)
{
	AVFrame *f = av_frame_alloc();
	if (!f)
		return AVERROR(ENOMEM);
	int err = av_frame_copy_props(f, d->woven);
	if (err < 0)
		goto end;
	f->width = d->woven->width;
	f->height = d->woven->height;
	f->format = d->woven->format;
	f->pts = pts;
#if LIBAVUTIL_VERSION_INT >= AV_VERSION_INT(58, 29, 100)
	f->flags |= AV_FRAME_FLAG_INTERLACED | (d->bottom_first ? 0 : AV_FRAME_FLAG_TOP_FIELD_FIRST);
#else
	f->interlaced_frame = 1; // also tells swscale how chroma lies
	f->top_field_first = !d->bottom_first;
#endif
	err = av_frame_get_buffer(f, 0);
	if (err < 0)
		goto end;
	const uint8_t *planes[4] = {p0, p1, p2, NULL};
	int strides[4] = {s0, s1, s2, 0};
	if (d->split) {
		av_image_copy_plane(f->data[0], f->linesize[0], p0, s0, f->width, f->height);
		for (int y = 0; y < f->height; y++)
			for (int x = 0; x < (f->width + 1) / 2; x++) {
				f->data[1][y * f->linesize[1] + x] = p1[(ptrdiff_t)y * s1 + 2 * x];
				f->data[2][y * f->linesize[2] + x] = p1[(ptrdiff_t)y * s1 + 2 * x + 1];
			}
	} else {
		av_image_copy(f->data, f->linesize, planes, strides, f->format, f->width, f->height);
	}
	err = av_buffersrc_add_frame(d->in, f);
end:
	av_frame_free(&f);
	return err;
}

int gantry_deinterlaced(gantry_deinterlacer *d, AVFrame **out)
{
	AVFrame *done = av_frame_alloc();
	if (!done)
		return AVERROR(ENOMEM);
	int err = av_buffersink_get_frame(d->out, done);
	if (err < 0) {
		av_frame_free(&done);
		return err;
	}
	done->pts = av_rescale_q(done->pts, av_buffersink_get_time_base(d->out), nanoseconds);
	*out = done;
	return 0;
}

void gantry_deinterlacer_close(gantry_deinterlacer *d)
{
	if (!d)
		return;
	avfilter_graph_free(&d->graph);
	av_frame_free(&d->woven);
	av_free(d);
}

int gantry_planar(AVFrame **f, struct SwsContext **scaler)
{
	AVFrame *in = *f;
	if (in->format == AV_PIX_FMT_YUVJ420P || in->format == AV_PIX_FMT_YUV420P)
		return 0;
	*scaler = sws_getCachedContext(*scaler, in->width, in->height, in->format, in->width, in->height, AV_PIX_FMT_YUVJ420P,
		SWS_BILINEAR | SWS_ACCURATE_RND, NULL, NULL, NULL);
	AVFrame *out = av_frame_alloc();
	if (!*scaler || !out) {
		av_frame_free(&out);
		return AVERROR(EINVAL);
	}
	out->format = AV_PIX_FMT_YUVJ420P;
	out->width = in->width;
	out->height = in->height;
	int err = av_frame_get_buffer(out, 0);
	if (err >= 0)
		err = sws_scale(*scaler, (const uint8_t *const *)in->data, in->linesize, 0, in->height, out->data, out->linesize);
	if (err < 0) {
		av_frame_free(&out);
		return err;
	}
	av_frame_free(f);
	*f = out;
	return 0;
}
