package pipeline

import (
	"fmt"
	"log/slog"
	"sync"
	"time"

	"gantry/device"
	"gantry/internal/clock"
	"gantry/internal/health"
	"gantry/media"
)

// sourceRID is the rendition that the source's own packets are. No configuration can name one so, and no destination sees it.
const sourceRID = "source:"

const (
	decideAfter = 10               // pictures, after which it is known whether they come in display order
	gopLimit    = 20 * time.Second // of packets that are kept for a decoder that is opened later
	gopBytes    = 32 << 20
)

var (
	bFrames     = health.Warnable{Code: "source-b-frames", Severity: health.Degraded}
	decoderDown = health.Warnable{Code: "decoder-down", Severity: health.Failing, Visible: time.Second}
)

var errNoPictures = fmt.Errorf("the source sends no H.264 or H.265 pictures: %w", device.ErrUnsupported)

// passing brings the packets of a source that comes coded to the destinations that take them as they are, and to a decoder while
// other destinations need pictures. Where the slate stands in, it comes from an encoder of its own.
type passing struct {
	log     *slog.Logger
	health  *health.Set
	fanout  *fanout
	tracks  *tracks
	slot    *slot // of the encoder that codes the slate
	standIn *setting[Encoder]

	mu   sync.Mutex
	live bool          // the source's packets go out, not the slate
	last time.Duration // newest DTS that went out
	gop  []*media.Packet
	size int // bytes in gop
	stat passStat
	out  meter // of the source's pictures

	sounds []media.Track // that the source's sound can be had as
	quiet  map[media.Codec]quiet
	heard  meter // of its sound as it comes
}

// passStat is what others may know.
type passStat struct {
	codec     media.Codec
	reordered bool
	packets   uint64 // of pictures
	decoding  bool
}

// A codedRun is the time from one start of the source to its end. One goroutine uses it.
type codedRun struct {
	coded  *Coded
	tracks []media.Track
	video  int // index of the pictures
	sound  int // -1: there is none

	picture lookout
	format  media.VideoFormat // of the pictures; zero: not known yet
	shift   time.Duration     // added to the source's times
	begun   bool
	told    bool      // the destinations know the track
	decode  *decoding // nil: nobody needs pictures
	failed  time.Duration
	voice   Transcoder // nil: nobody needs one
}

// begin prepares for packets of these tracks.
func (p *passing) begin(coded *Coded, tracks []media.Track) (*codedRun, error) {
	r := &codedRun{coded: coded, tracks: tracks, video: -1, sound: -1, failed: clock.Now() - decodeAgain}
	for i, t := range tracks {
		switch {
		case t.Codec.Video() && r.video < 0:
			r.video = i
		case t.Codec.Audio() && r.sound < 0 && coded.Sound:
			r.sound = i
		}
	}
	if r.video < 0 {
		return nil, errNoPictures
	}
	codec := tracks[r.video].Codec
	r.picture.codec = codec
	if old, _ := p.standIn.get(); old.Params.Codec != codec || old.Key != coded.standIn(codec).Key {
		p.standIn.set(coded.standIn(codec))
	}
	p.mu.Lock()
	p.gop, p.size = nil, 0
	p.stat.codec = codec
	p.mu.Unlock()
	if coded.Sound {
		sounds := r.sounds()
		p.tracks.setAudio(sounds)
		p.mu.Lock()
		p.sounds = sounds
		p.mu.Unlock()
	}
	return r, nil
}

// sounds are the tracks that the source's sound can be had as.
func (r *codedRun) sounds() (list []media.Track) {
	if r.sound < 0 {
		return nil
	}
	own := r.tracks[r.sound]
	list = append(list, own)
	if r.coded.Transcode == nil {
		return list
	}
	for _, c := range []media.Codec{media.Opus, media.AAC} {
		if c == own.Codec {
			continue
		}
		if t, err := r.coded.Transcode(own, c); err == nil {
			list = append(list, t.Track())
			_ = t.Close() // it has done nothing
		}
	}
	return list
}

// end forgets what was opened for a run.
func (p *passing) end(r *codedRun) error {
	p.stopDecoding(r)
	p.mu.Lock()
	p.gop, p.size = nil, 0
	p.mu.Unlock()
	var err error
	if r.voice != nil {
		err = r.voice.Close()
		r.voice = nil
	}
	return err
}

// dark says that the slate is shown now, and tells whether there are destinations that had the source's own packets.
func (p *passing) dark() (direct bool) {
	p.mu.Lock()
	p.live = false
	p.gop, p.size = nil, 0 // decoding begins again at a key frame
	p.mu.Unlock()
	return p.tracks.passes()
}

// admit returns a packet of pictures with its place on the timeline, nil where it cannot be shown. shown is the PTS of the newest picture,
// of the slate too.
func (p *passing) admit(r *codedRun, pkt *media.Packet, shown time.Duration) *media.Packet {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.live {
		if !pkt.Key {
			return nil
		}
		if behind := max(shown, p.last) - (pkt.DTS + r.shift); behind >= 0 {
			if r.begun { // what was held up while the slate stood in
				return nil
			}
			r.shift += behind + time.Millisecond
		}
		r.begun, p.live = true, true
	}
	moved := *pkt
	moved.Track, moved.PTS, moved.DTS = 0, pkt.PTS+r.shift, pkt.DTS+r.shift
	p.last = max(p.last, moved.DTS)
	if pkt.Key {
		p.gop, p.size = nil, 0
	}
	if p.size += len(pkt.Data); p.size > gopBytes || len(p.gop) > 0 && moved.PTS-p.gop[0].PTS > gopLimit {
		p.gop, p.size = nil, 0 // a decoder begins at the next key frame
	} else if pkt.Key || len(p.gop) > 0 {
		p.gop = append(p.gop, &moved)
	}
	p.stat.packets++
	p.out.add(clock.Now(), len(moved.Data))
	return &moved
}

// picture brings a packet of pictures to who needs it; show takes what is decoded of it.
func (p *passing) picture(r *codedRun, pkt *media.Packet, show func(*media.Frame)) {
	p.decide(r)
	codec := r.tracks[r.video].Codec
	p.fanout.pushPicture(pkt, codec, sourceRID)
	p.feed(r, pkt, show)
}

// decide tells the destinations what the source sends, as soon as it is known and when that changes.
func (p *passing) decide(r *codedRun) {
	sure, reordered := r.picture.verdict()
	if !sure || r.told && r.picture.said == reordered {
		return
	}
	r.told, r.picture.said = true, reordered
	p.mu.Lock()
	p.stat.reordered = reordered
	p.mu.Unlock()
	track := r.tracks[r.video]
	track.Width, track.Height, track.Profile = r.format.Width, r.format.Height, r.picture.profile
	track.RID, track.Packing = sourceRID, media.AccessUnits
	p.tracks.setPass(track, reordered, r.coded.PassThrough)
	if reordered {
		p.health.Raise(bFrames, "", "the source sends B-frames, which WebRTC cannot show: its pictures are coded anew for WHIP; switch B-frames off in the camera")
	} else {
		p.health.Clear(bFrames, "")
	}
}

// stood takes what the encoder of the slate makes.
func (p *passing) stood(pkt *media.Packet, codec media.Codec) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.live || pkt.DTS <= p.last { // the source is back, and the picture late
		return
	}
	p.last = pkt.DTS
	p.fanout.pushPicture(pkt, codec, sourceRID)
}

// hear brings a packet of sound to who has chosen it.
func (p *passing) hear(r *codedRun, pkt *media.Packet) {
	if !r.begun {
		return
	}
	moved := *pkt
	moved.PTS, moved.DTS = pkt.PTS+r.shift, pkt.DTS+r.shift
	own := r.tracks[r.sound].Codec
	p.sing(&moved, own)
	if r.coded.Transcode == nil {
		return
	}
	other := media.Opus
	if own == media.Opus {
		other = media.AAC
	}
	if !p.fanout.wants(other) {
		if r.voice != nil {
			_ = r.voice.Close() // nothing is lost: nobody listens
			r.voice = nil
		}
		return
	}
	if r.voice == nil {
		t, err := r.coded.Transcode(r.tracks[r.sound], other)
		if err != nil {
			p.health.Raise(audioDown, "input", err.Error())
			return
		}
		p.health.Clear(audioDown, "input")
		r.voice = t
	}
	for _, out := range r.voice.Convert(nil, &moved) {
		p.sing(out, other)
	}
}

// stop ends what is said of a source that is no longer used.
func (p *passing) stop() {
	p.health.Clear(bFrames, "")
	p.health.Clear(decoderDown, "")
	p.health.Clear(audioDown, "input")
	p.mu.Lock()
	p.live, p.stat = false, passStat{packets: p.stat.packets}
	p.sounds = nil
	clear(p.quiet)
	p.mu.Unlock()
	p.tracks.forgetPass()
}

// rate returns the bit/s of the source's pictures over the last second or two, 0 while the slate stands in.
func (p *passing) rate(now time.Duration) float64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.live {
		return 0
	}
	_, _, _, bps := p.out.read(now)
	return bps
}

func (p *passing) status() passStat {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.stat
}

func (p *passing) note(decoding bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.stat.decoding = decoding
}
