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

typedef struct {
	int width, height;
	int format;       // AVPixelFormat of what comes
	int split;        // it comes as NV16 although format is AV_PIX_FMT_YUV422P
	int out;          // AVPixelFormat of what is made
	int bottom_first; // the order of the fields
	int fields;       // a picture of each field; else of each pair
	int rate_num, rate_den;
	gantry_colour colour;
} gantry_interlaced;

int gantry_deinterlacer_open(const gantry_interlaced *config, gantry_deinterlacer **out);
// gantry_deinterlace copies the picture in p0..p2.
int gantry_deinterlace(gantry_deinterlacer *d, const uint8_t *p0, const uint8_t *p1, const uint8_t *p2, int s0, int s1, int s2,
	int64_t pts);
// gantry_deinterlaced makes the next picture *out, to be freed with av_frame_free. They are of the picture before the last that went
// in; EAGAIN when there is none.
int gantry_deinterlaced(gantry_deinterlacer *d, AVFrame **out);
void gantry_deinterlacer_close(gantry_deinterlacer *d);

// gantry_planar replaces a decoded JPEG by a full-range YUV420P picture, unless it is one; *scaler is kept for the next.
int gantry_planar(AVFrame **f, struct SwsContext **scaler);

#endif
