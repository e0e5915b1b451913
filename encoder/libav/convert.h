// What makes progressive planar pictures of what capture devices deliver. Functions return 0 or a negative AVERROR code.
#ifndef GANTRY_CONVERT_H
#define GANTRY_CONVERT_H

#include "libav.h"

#include <libavfilter/avfilter.h>

typedef struct {
	AVFilterGraph *graph;
	AVFilterContext *in, *out;
	AVFrame *woven; // what goes in
	int split;      // its chroma comes interleaved
	int bottom_first;
} gantry_deinterlacer;

// gantry_deinterlacer_open makes one for pictures of format, an AVPixelFormat; nv16 says that they come as NV16 although format is
// AV_PIX_FMT_YUV422P.
int gantry_deinterlacer_open(int width, int height, int format, int nv16, int bottom_first, int rate_num, int rate_den,
	gantry_colour colour, gantry_deinterlacer **out);
// gantry_deinterlace copies the picture in p0..p2 and makes the one before it *out, YUV420P, to be freed with av_frame_free;
// EAGAIN for the first.
int gantry_deinterlace(gantry_deinterlacer *d, const uint8_t *p0, const uint8_t *p1, const uint8_t *p2, int s0, int s1, int s2,
	int64_t pts, AVFrame **out);
void gantry_deinterlacer_close(gantry_deinterlacer *d);

// gantry_planar replaces a decoded JPEG by a full-range YUV420P picture, unless it is one; *scaler is kept for the next.
int gantry_planar(AVFrame **f, struct SwsContext **scaler);

#endif
