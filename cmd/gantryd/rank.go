package main

import (
	"context"
	"log/slog"
	"slices"

	"gantry/encoder"
	"gantry/internal/pipeline"
	"gantry/media"
)

// A ranking is the back ends that work, the best first, as trials found out when the daemon started.
type ranking map[media.Codec][]string

// try puts what s may be coded with through a trial in the input's own size and rate, where there is a choice. It takes about
// a second per software encoder and codec, and is done before the first picture: chips have room for few encoders.
func (r ranking) try(ctx context.Context, s *pipeline.Spec, log *slog.Logger) {
	r.trial(ctx, s.Video.Format, s.Encoder, log)
	for _, further := range s.Renditions {
		r.trial(ctx, s.Video.Format, further.Encoder, log)
	}
	r.apply(s)
}

// trial ranks the back ends for one codec, once.
func (r ranking) trial(ctx context.Context, format media.VideoFormat, e pipeline.Encoder, log *slog.Logger) {
	if len(e.Backends) < 2 || r[e.Params.Codec] != nil {
		return
	}
	if e.Params.Width != 0 { // what is scaled cannot be compared, and every encoder scales alike
		format.Width, format.Height = e.Params.Width, e.Params.Height
	}
	ranked, results, err := encoder.Rank(ctx, e.Backends, encoder.Trial{Format: format, Params: e.Params, Decoder: decoder()})
	for _, t := range results {
		if t.OK {
			log.Info("encoder works", "encoder", t.Encoder, "codec", t.Codec, "fps", int(t.FPS), "psnr", int(t.PSNR))
		} else {
			log.Info("encoder passed over", "encoder", t.Encoder, "codec", t.Codec, "reason", t.Reason)
		}
	}
	if err != nil { // each is tried again when there is a picture
		log.Warn("no encoder passes the trial", "err", err)
		return
	}
	names := []string{}
	for _, b := range ranked {
		names = append(names, b.Name)
	}
	r[e.Params.Codec] = names
}

// apply leaves in s what works, in rank. Where there was no trial, it changes nothing.
func (r ranking) apply(s *pipeline.Spec) {
	r.sort(&s.Encoder)
	for i := range s.Renditions {
		r.sort(&s.Renditions[i].Encoder)
	}
}

func (r ranking) sort(e *pipeline.Encoder) {
	names := r[e.Params.Codec]
	if len(e.Backends) < 2 || names == nil {
		return
	}
	at := func(b encoder.Backend) int { return slices.Index(names, b.Name) }
	list := slices.DeleteFunc(slices.Clone(e.Backends), func(b encoder.Backend) bool { return at(b) < 0 })
	slices.SortStableFunc(list, func(a, b encoder.Backend) int { return at(a) - at(b) })
	e.Backends = list
}
