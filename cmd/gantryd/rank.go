package main

import (
	"context"
	"log/slog"
	"slices"
	"time"

	"gantry/encoder"
	"gantry/internal/pipeline"
	"gantry/media"
)

// A ranking is the back ends that work, the best first. Before the first picture goes out, back ends are tried until one passes, or
// what an earlier start found out is remembered; the others are tried while that one is on the air.
type ranking struct {
	log    *slog.Logger
	memory memory
	names  map[media.Codec][]string
	left   []leftover
}

// A leftover is what is still to be tried.
type leftover struct {
	trial    encoder.Trial
	backends []encoder.Backend
}

func newRanking(m memory, log *slog.Logger) *ranking {
	return &ranking{log: log, memory: m, names: map[media.Codec][]string{}}
}

// first finds a back end that works for each encode of s, in the input's own size and rate, where there is a choice.
func (r *ranking) first(ctx context.Context, s *pipeline.Spec) {
	r.begin(ctx, s.Video.Format, s.Encoder)
	for _, further := range s.Renditions {
		r.begin(ctx, s.Video.Format, further.Encoder)
	}
	r.apply(s)
}

// begin does so for one codec, once.
func (r *ranking) begin(ctx context.Context, format media.VideoFormat, e pipeline.Encoder) {
	codec := e.Params.Codec
	if len(e.Backends) < 2 || r.names[codec] != nil {
		return
	}
	if e.Params.Width != 0 { // what is scaled cannot be compared, and every encoder scales alike
		format.Width, format.Height = e.Params.Width, e.Params.Height
	}
	t := encoder.Trial{Format: format, Params: e.Params, Decoder: decoder()}
	if names := r.memory.ranked(t, e.Backends); names != nil {
		r.log.Info("encoders known from an earlier start", "encoder", names[0], "codec", codec)
		r.names[codec] = names
		return
	}
	ranked, left, results, err := encoder.First(ctx, e.Backends, t)
	r.tell(results)
	if err != nil { // each is tried again when there is a picture
		r.log.Warn("no encoder passes the trial", "err", err)
		return
	}
	r.names[codec] = namesOf(ranked)
	r.left = append(r.left, leftover{t, left})
}

// rest tries what first has left, and remembers the outcome. It reports whether there is something new for apply.
func (r *ranking) rest(ctx context.Context) (news bool) {
	for _, l := range r.left {
		ranked, results, _ := encoder.Rank(ctx, l.backends, l.trial) // none is no error: one works
		if ctx.Err() != nil {
			return false
		}
		r.tell(results)
		codec := l.trial.Params.Codec
		r.names[codec] = append(r.names[codec], namesOf(ranked)...)
		news = news || len(ranked) > 0
		if err := r.memory.remember(l.trial, r.names[codec]); err != nil {
			r.log.Warn("encoders not remembered: the next start tries them again", "err", err)
		}
	}
	r.left = nil
	return news
}

func (r *ranking) tell(results []encoder.Result) {
	for _, t := range results {
		if t.OK {
			r.log.Info("encoder works", "encoder", t.Encoder, "codec", t.Codec, "fps", int(t.FPS), "psnr", int(t.PSNR))
		} else {
			r.log.Info("encoder passed over", "encoder", t.Encoder, "codec", t.Codec, "reason", t.Reason)
		}
	}
}

func namesOf(list []encoder.Backend) (names []string) {
	for _, b := range list {
		names = append(names, b.Name)
	}
	return names
}

// apply leaves in s what works, in rank. Where there was no trial, it changes nothing.
func (r *ranking) apply(s *pipeline.Spec) {
	r.sort(&s.Encoder)
	for i := range s.Renditions {
		r.sort(&s.Renditions[i].Encoder)
	}
}

func (r *ranking) sort(e *pipeline.Encoder) {
	names := r.names[e.Params.Codec]
	if len(e.Backends) < 2 || names == nil {
		return
	}
	at := func(b encoder.Backend) int { return slices.Index(names, b.Name) }
	list := slices.DeleteFunc(slices.Clone(e.Backends), func(b encoder.Backend) bool { return at(b) < 0 })
	slices.SortStableFunc(list, func(a, b encoder.Backend) int { return at(a) - at(b) })
	e.Backends = list
}

// tryRest tries the remaining encoders once the first one is at work, and lets the session know.
func (b *box) tryRest(ctx context.Context) {
	const soon, atLast = 100 * time.Millisecond, 10 * time.Second
	for begun := time.Now(); b.session.Status().Encoder.Frames == 0 && time.Since(begun) < atLast; {
		select {
		case <-time.After(soon):
		case <-ctx.Done():
			return
		}
	}
	if b.ranking.rest(ctx) {
		b.applyConfig(b.config)
	}
}
