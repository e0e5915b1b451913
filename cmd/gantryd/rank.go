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
// a second per software encoder, and is done before the first picture: chips have room for few encoders.
func (r ranking) try(ctx context.Context, s *pipeline.Spec, log *slog.Logger) {
	e := &s.Encoder
	if len(e.Backends) < 2 {
		return
	}
	trial := encoder.Trial{Format: s.Video.Format, Params: e.Params, Decoder: decoder()}
	ranked, results, err := encoder.Rank(ctx, e.Backends, trial)
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
	r.apply(s)
}

// apply leaves in s what works, in rank. Where there was no trial, it changes nothing.
func (r ranking) apply(s *pipeline.Spec) {
	names := r[s.Encoder.Params.Codec]
	if len(s.Encoder.Backends) < 2 || names == nil {
		return
	}
	at := func(b encoder.Backend) int { return slices.Index(names, b.Name) }
	list := slices.DeleteFunc(slices.Clone(s.Encoder.Backends), func(b encoder.Backend) bool { return at(b) < 0 })
	slices.SortStableFunc(list, func(a, b encoder.Backend) int { return at(a) - at(b) })
	s.Encoder.Backends = list
}
