package pipeline

import (
	"math"
	"time"

	mch265 "github.com/bluenviron/mediacommon/v2/pkg/codecs/h265"

	"gantry/media"
	"gantry/media/h264"
)

// A lookout reads what a coded source does not announce: the size, rate and order of its pictures. One goroutine uses it.
type lookout struct {
	codec   media.Codec
	profile string // as in media.Track
	fps     float64

	seen      int
	newest    time.Duration // PTS
	promised  bool          // the stream itself says that pictures come in display order
	reordered bool
	said      bool          // what verdict said when it was last asked for
	first     time.Duration // DTS
	sets      string        // the newest SPS
}

// look reads one access unit.
func (r *codedRun) look(p *media.Packet) {
	l := &r.picture
	if p.Key {
		r.learn(p.Data)
	}
	if l.seen == 0 {
		l.first = p.DTS
	}
	l.seen++
	if l.seen > 1 && p.PTS < l.newest && l.newest-p.PTS < 2*time.Second { // further back is another timeline
		l.reordered, l.promised = true, false
	}
	l.newest = max(l.newest, p.PTS)
	if l.fps == 0 && l.seen == decideAfter && p.DTS > l.first {
		l.fps = float64(decideAfter-1) / (p.DTS - l.first).Seconds()
		r.format.Rate = rate(l.fps)
	}
}

// verdict tells whether pictures come in another order than they are shown in, and whether that is known.
func (l *lookout) verdict() (sure, reordered bool) {
	return l.promised || l.reordered || l.seen >= decideAfter, l.reordered
}

// learn reads the sequence parameter set of a key frame.
func (r *codedRun) learn(au []byte) {
	l := &r.picture
	for nalu := range h264.NALUs(au) {
		if l.codec == media.H264 && h264.TypeOf(nalu) == h264.SPS && string(nalu) != l.sets {
			info, err := h264.ParseSPS(nalu)
			if err != nil {
				continue
			}
			l.sets, l.profile, l.promised = string(nalu), info.ProfileLevelID, info.MaxReorder == 0
			r.size(info.Width, info.Height, info.FPS)
		}
		if l.codec == media.H265 && len(nalu) > 2 && mch265.NALUType(nalu[0]>>1&0x3f) == mch265.NALUType_SPS_NUT && string(nalu) != l.sets {
			var sps mch265.SPS
			if sps.Unmarshal(nalu) != nil {
				continue
			}
			l.sets = string(nalu)
			r.size(sps.Width(), sps.Height(), sps.FPS())
		}
	}
}

// size notes what the pictures are.
func (r *codedRun) size(w, h int, fps float64) {
	if w < 16 || h < 16 || w > 8192 || h > 8192 {
		return
	}
	r.format.Width, r.format.Height, r.format.FourCC = w, h, media.YU12
	if r.format.Rate.Num == 0 {
		r.format.Rate = media.Rational{Num: 30, Den: 1}
	}
	if fps >= 1 && fps <= 240 {
		r.picture.fps = fps
		r.format.Rate = rate(fps)
	}
}

// rate returns the rate that cameras mean by a measured or coded number.
func rate(fps float64) media.Rational {
	if whole := math.Round(fps); whole >= 1 && math.Abs(fps-whole) < 0.02*whole {
		if math.Abs(fps-whole*1000/1001) < 0.004 {
			return media.Rational{Num: int(whole) * 1000, Den: 1001}
		}
		return media.Rational{Num: int(whole), Den: 1}
	}
	return media.Rational{Num: max(int(fps*1000), 1000), Den: 1000}
}
