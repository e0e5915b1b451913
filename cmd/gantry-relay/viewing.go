package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/pion/rtcp"
	"github.com/pion/rtp"
	"github.com/pion/rtp/codecs"
	"github.com/pion/webrtc/v4"
	"github.com/pion/webrtc/v4/pkg/media/samplebuilder"

	"gantry/media/h264"
)

// captureTimeURI names the RTP header extension abs-capture-time.
const captureTimeURI = "http://www.webrtc.org/experiments/rtp-hdrext/abs-capture-time"

// A missing packet is waited for until maxLate packets or maxDelay of media have come after it; retransmissions come well
// before.
const (
	maxLate  = 512
	maxDelay = 500 * time.Millisecond
)

// A viewing counts what one session receives. Its methods may be called by any goroutine.
type viewing struct {
	want  int // decodable access units; 0: no end
	out   io.Writer
	begun time.Time

	mu        sync.Mutex
	ended     chan error // one element when the present session is over
	told      bool       // ended has its element
	number    int        // of the present session
	r         report
	last      time.Time // when report was last called, and what stood then
	lastBytes uint64
	lastUnits uint64
	decodable bool // nothing is missing since the last key frame
	latencies []time.Duration
}

// A report is what a viewer has received so far. Times are in seconds since the command began.
type report struct {
	Sessions      int         `json:"sessions"` // that the relay opened
	Codec         string      `json:"codec"`
	Profile       string      `json:"profile,omitempty"` // H.264 profile-level-id of the parameter sets in the stream
	Width         int         `json:"width,omitempty"`
	Height        int         `json:"height,omitempty"`
	FPS           float64     `json:"fps"`     // access units a second, of the last second
	Bitrate       int         `json:"bitrate"` // bit/s of payload, of the last second
	Units         uint64      `json:"accessUnits"`
	Decodable     int         `json:"decodable"` // access units with all before them back to a key frame
	KeyFrames     uint64      `json:"keyFrames"`
	Packets       uint64      `json:"packets"`
	Lost          uint64      `json:"lost"` // packets that did not come, not even when asked for again
	Audio         audioReport `json:"audio"`
	Connected     float64     `json:"connected,omitempty"`
	FirstKeyFrame float64     `json:"firstKeyFrame,omitempty"`
	Latency       float64     `json:"latency,omitempty"` // seconds from capture to here, median, by the two machines' clocks
}

// An audioReport is what of the sound has come.
type audioReport struct {
	Codec   string `json:"codec"`
	Packets uint64 `json:"packets"`
}

// String is the line that people read.
func (r report) String() string {
	var b strings.Builder
	if r.Codec == "" {
		b.WriteString("nothing received yet")
	} else {
		fmt.Fprintf(&b, "%s", r.Codec)
		if r.Profile != "" {
			fmt.Fprintf(&b, " %s", r.Profile)
		}
		if r.Width > 0 {
			fmt.Fprintf(&b, " %dx%d", r.Width, r.Height)
		}
		fmt.Fprintf(&b, " %.1f fps %.2f Mb/s, %d access units, %d decodable, %d key frames, %d packets, %d lost",
			r.FPS, float64(r.Bitrate)/1e6, r.Units, r.Decodable, r.KeyFrames, r.Packets, r.Lost)
	}
	if r.Audio.Codec != "" {
		fmt.Fprintf(&b, ", %s %d packets", r.Audio.Codec, r.Audio.Packets)
	}
	if r.FirstKeyFrame > 0 {
		fmt.Fprintf(&b, ", first key frame after %.0f ms", r.FirstKeyFrame*1000)
	}
	if r.Latency != 0 {
		fmt.Fprintf(&b, ", latency %.0f ms", r.Latency*1000)
	}
	return b.String()
}

func newViewing(want int, out io.Writer, begun time.Time) *viewing {
	return &viewing{want: want, out: out, begun: begun, last: begun, ended: make(chan error, 1)}
}

// open begins another session, and returns what says why it is over.
func (v *viewing) open() <-chan error {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.number++
	v.ended, v.told, v.decodable = make(chan error, 1), false, false
	return v.ended
}

// opened notes that the relay has opened the session.
func (v *viewing) opened() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.r.Sessions++
}

func (v *viewing) session() int {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.number
}

// endOf is end for one session: what the last one's connection says later does not matter.
func (v *viewing) endOf(session int, err error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if session == v.number {
		v.endLocked(err)
	}
}

// end is told once why the session is over; nil when all is received.
func (v *viewing) end(err error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.endLocked(err)
}

func (v *viewing) endLocked(err error) {
	if !v.told {
		v.told = true
		v.ended <- err
	}
}

func (v *viewing) connected(now time.Time) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.r.Connected == 0 {
		v.r.Connected = now.Sub(v.begun).Seconds()
	}
}

// report returns the counts, with rates since the last call that was at least half a second ago.
func (v *viewing) report() report {
	v.mu.Lock()
	defer v.mu.Unlock()
	now := time.Now()
	if d := now.Sub(v.last); d >= 500*time.Millisecond {
		v.r.FPS = float64(v.r.Units-v.lastUnits) / d.Seconds()
		v.r.Bitrate = int(float64(v.lastBytes) * 8 / d.Seconds())
		v.last, v.lastUnits, v.lastBytes = now, v.r.Units, 0
		if len(v.latencies) > 0 {
			slices.Sort(v.latencies)
			v.r.Latency = v.latencies[len(v.latencies)/2].Seconds()
			v.latencies = v.latencies[:0]
		}
	}
	return v.r
}

// receive reads a track until it ends.
func (v *viewing) receive(pc *webrtc.PeerConnection, track *webrtc.TrackRemote) {
	name := strings.TrimPrefix(strings.TrimPrefix(track.Codec().MimeType, "video/"), "audio/")
	v.mu.Lock()
	if track.Kind() == webrtc.RTPCodecTypeAudio {
		v.r.Audio.Codec = name
	} else {
		v.r.Codec = name
	}
	v.mu.Unlock()
	if track.Kind() == webrtc.RTPCodecTypeAudio {
		for {
			if _, _, err := track.ReadRTP(); err != nil {
				return
			}
			v.mu.Lock()
			v.r.Audio.Packets++
			v.mu.Unlock()
		}
	}
	h264Video := track.Codec().MimeType == webrtc.MimeTypeH264
	if !h264Video && v.want > 0 {
		v.end(fmt.Errorf("the stream is coded in %s: --frames and --out know H264 alone", name))
	}
	builder := samplebuilder.New(maxLate, &codecs.H264Packet{}, track.Codec().ClockRate, samplebuilder.WithMaxTimeDelay(maxDelay))
	asked := time.Time{}
	for {
		p, _, err := track.ReadRTP()
		if err != nil {
			return
		}
		v.packet(p, h264Video)
		if !h264Video {
			continue
		}
		builder.Push(p)
		for s := builder.Pop(); s != nil; s = builder.Pop() {
			if v.unit(s.Data, int(s.PrevDroppedPackets)) || time.Since(asked) < 500*time.Millisecond {
				continue
			}
			asked = time.Now() // as a player does: decoding cannot go on before a key frame
			_ = pc.WriteRTCP([]rtcp.Packet{&rtcp.PictureLossIndication{MediaSSRC: uint32(track.SSRC())}})
		}
	}
}

// packet counts an RTP packet of the picture.
func (v *viewing) packet(p *rtp.Packet, h264Video bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.r.Packets++
	v.lastBytes += uint64(len(p.Payload))
	if !h264Video && p.Marker {
		v.r.Units++
	}
	for _, id := range p.GetExtensionIDs() {
		// The one extension of 8 or 16 bytes that is asked for.
		var capture rtp.AbsCaptureTimeExtension
		if ext := p.GetExtension(id); (len(ext) == 8 || len(ext) == 16) && capture.Unmarshal(ext) == nil {
			v.latencies = append(v.latencies, time.Since(capture.CaptureTime()))
		}
	}
}

// unit counts an access unit and reports whether a decoder can take it.
func (v *viewing) unit(au []byte, droppedBefore int) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.r.Units++
	if droppedBefore > 0 {
		v.decodable = false
		v.r.Lost += uint64(droppedBefore)
	}
	if h264.HasIDR(au) {
		sps, pps := false, false
		for nalu := range h264.NALUs(au) {
			switch h264.TypeOf(nalu) {
			case h264.SPS:
				if info, err := h264.ParseSPS(nalu); err == nil {
					sps = true
					v.r.Width, v.r.Height, v.r.Profile = info.Width, info.Height, info.ProfileLevelID
				}
			case h264.PPS:
				pps = true
			}
		}
		v.r.KeyFrames++
		if sps && pps || v.r.Decodable > 0 {
			v.decodable = true
			if v.r.FirstKeyFrame == 0 {
				v.r.FirstKeyFrame = time.Since(v.begun).Seconds()
			}
		}
	}
	if !v.decodable {
		return false
	}
	if v.want > 0 && v.r.Decodable >= v.want {
		return true
	}
	if _, err := v.out.Write(au); err != nil {
		v.endLocked(fmt.Errorf("write access unit: %w", err))
		return true
	}
	if v.r.Decodable++; v.r.Decodable == v.want {
		v.endLocked(nil)
	}
	return true
}
