package file

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io"

	amp4 "github.com/abema/go-mp4"
	"github.com/bluenviron/mediacommon/v2/pkg/codecs/mpeg4audio"

	"gantry/media"
	"gantry/media/h264"
)

const (
	maxSamples = 4 << 20 // of a file: a day and a half at 30 a second
	maxSample  = 32 << 20
)

// A sample is one access unit in the file.
type sample struct {
	offset   int64
	size     uint32
	key      bool
	dts, pts int64 // in ticks
}

// A lane is one track of an MP4 file.
type lane struct {
	track   media.Track
	id      uint32
	scale   int64  // ticks a second
	lengths int    // bytes of a NAL unit's length; 0: no NAL units
	head    []byte // parameter sets in Annex B, for key frames that have none
	samples []sample

	start    int64 // ticks at which the presentation begins: the edit list
	duration uint32
	size     uint32
	flags    uint32
	next     int64 // DTS of the next fragment's first sample, if it does not say
}

var errNoSamples = errors.New("has no H.264, H.265, AAC or Opus track with samples")

// readMP4 finds the samples of an MP4 file, fragmented or not (ISO/IEC 14496-12).
func readMP4(r io.ReadSeeker) (lanes []*lane, err error) {
	defer func() {
		if p := recover(); p != nil { // of the library, on a damaged file
			err = fmt.Errorf("damaged MP4: %v", p)
		}
	}()
	x := &mp4Index{r: r}
	if _, err := amp4.ReadBoxStructure(r, x.box); err != nil {
		return nil, fmt.Errorf("damaged MP4: %w", err)
	}
	for _, l := range x.lanes {
		if l.track.Codec != media.NoCodec && len(l.samples) > 0 {
			lanes = append(lanes, l)
		}
	}
	if len(lanes) == 0 {
		return nil, errNoSamples
	}
	return lanes, nil
}

// An mp4Index gathers what the boxes say.
type mp4Index struct {
	r     io.ReadSeeker
	lanes []*lane
	table table // of the track being read
	count int
	moof  int64 // offset of the fragment being read
	frag  *lane // of the track fragment being read; nil: it is not used
	base  int64 // of its data
	end   int64 // of the data of the run before
}

// A table is the sample table of one track (ISO/IEC 14496-12 §8.5 to 8.7).
type table struct {
	stts    []amp4.SttsEntry
	ctts    *amp4.Ctts
	stsc    []amp4.StscEntry
	sizes   []uint32
	same    uint32
	count   uint32
	chunks  []uint64
	keys    []uint32
	haveKey bool
}

func (x *mp4Index) lane() *lane {
	if len(x.lanes) == 0 {
		return &lane{}
	}
	return x.lanes[len(x.lanes)-1]
}

func (x *mp4Index) box(h *amp4.ReadHandle) (any, error) {
	kind := h.BoxInfo.Type.String()
	switch kind {
	case "mdia", "minf", "edts", "moov", "mvex", "stsd", "mp4a", "Opus", "avc1", "avc3", "hvc1", "hev1", "wave":
		return h.Expand()
	case "trak":
		if len(x.lanes) == 32 {
			return nil, errors.New("more than 32 tracks")
		}
		x.lanes, x.table = append(x.lanes, &lane{scale: 1}), table{}
		return h.Expand()
	case "stbl":
		if _, err := h.Expand(); err != nil {
			return nil, err
		}
		return nil, x.fill(x.lane())
	case "moof":
		x.moof = int64(h.BoxInfo.Offset)
		return h.Expand()
	case "traf":
		x.frag, x.base, x.end = nil, x.moof, x.moof
		return h.Expand()
	case "tkhd", "mdhd", "elst", "avcC", "hvcC", "esds", "dOps", "stts", "ctts", "stsc", "stsz", "stco", "co64", "stss", "trex", "tfhd", "tfdt", "trun":
		if h.BoxInfo.Size > 256<<20 {
			return nil, fmt.Errorf("box %s of %d bytes", kind, h.BoxInfo.Size)
		}
		box, _, err := h.ReadPayload()
		if err != nil {
			return nil, fmt.Errorf("box %s: %w", kind, err)
		}
		return nil, x.read(box)
	}
	return nil, nil
}

func (x *mp4Index) read(box any) error {
	l, t := x.lane(), &x.table
	switch b := box.(type) {
	case *amp4.Tkhd:
		l.id = b.TrackID
	case *amp4.Mdhd:
		l.scale = int64(max(b.Timescale, 1))
	case *amp4.Elst:
		for i := range b.Entries {
			if at := b.GetMediaTime(i); at > 0 {
				l.start = at
				break
			}
		}
	case *amp4.AVCDecoderConfiguration:
		l.track, l.lengths = media.Track{Codec: media.H264, ClockRate: 90000}, int(b.LengthSizeMinusOne)+1
		for _, sets := range [][]amp4.AVCParameterSet{b.SequenceParameterSets, b.PictureParameterSets} {
			for _, s := range sets {
				l.head = h264.Append(l.head, s.NALUnit)
			}
		}
	case *amp4.HvcC:
		l.track, l.lengths = media.Track{Codec: media.H265, ClockRate: 90000}, int(b.LengthSizeMinusOne)+1
		for _, a := range b.NaluArrays {
			for _, n := range a.Nalus {
				l.head = h264.Append(l.head, n.NALUnit)
			}
		}
	case *amp4.Esds:
		for _, d := range b.Descriptors {
			var c mpeg4audio.AudioSpecificConfig
			if d.Tag == amp4.DecSpecificInfoTag && c.Unmarshal(d.Data) == nil && c.Type == mpeg4audio.ObjectTypeAACLC {
				l.track = media.Track{Codec: media.AAC, ClockRate: c.SampleRate, Channels: c.ChannelCount, Profile: hex.EncodeToString(d.Data)}
			}
		}
	case *amp4.DOps:
		l.track = media.Track{Codec: media.Opus, ClockRate: 48000, Channels: int(b.OutputChannelCount)}
	case *amp4.Stts:
		t.stts = b.Entries
	case *amp4.Ctts:
		t.ctts = b
	case *amp4.Stsc:
		t.stsc = b.Entries
	case *amp4.Stsz:
		t.sizes, t.same, t.count = b.EntrySize, b.SampleSize, b.SampleCount
	case *amp4.Stco:
		for _, o := range b.ChunkOffset {
			t.chunks = append(t.chunks, uint64(o))
		}
	case *amp4.Co64:
		t.chunks = b.ChunkOffset
	case *amp4.Stss:
		t.keys, t.haveKey = b.SampleNumber, true
	case *amp4.Trex:
		for _, l := range x.lanes {
			if l.id == b.TrackID {
				l.duration, l.size, l.flags = b.DefaultSampleDuration, b.DefaultSampleSize, b.DefaultSampleFlags
			}
		}
	case *amp4.Tfhd:
		x.fragment(b)
	case *amp4.Tfdt:
		if x.frag != nil {
			x.frag.next = int64(b.GetBaseMediaDecodeTime())
		}
	case *amp4.Trun:
		return x.run(b)
	}
	return nil
}

// fill makes the samples of a track's table.
func (x *mp4Index) fill(l *lane) error {
	t := &x.table
	n := int(t.count)
	if x.count += n; x.count > maxSamples {
		return errTooMany
	}
	if t.same == 0 && len(t.sizes) != n {
		return errors.New("box stsz: sizes are missing")
	}
	samples := make([]sample, n)
	for i := range samples {
		samples[i].size, samples[i].key = t.same, !t.haveKey
		if t.same == 0 {
			samples[i].size = t.sizes[i]
		}
	}
	for _, k := range t.keys {
		if k >= 1 && int(k) <= n {
			samples[k-1].key = true
		}
	}
	i, at := 0, int64(0)
	for _, e := range t.stts {
		for range e.SampleCount {
			if i == n {
				break
			}
			samples[i].dts, samples[i].pts = at, at
			at += int64(e.SampleDelta)
			i++
		}
	}
	if i = 0; t.ctts != nil {
		for e, entry := range t.ctts.Entries {
			for range entry.SampleCount {
				if i == n {
					break
				}
				samples[i].pts += t.ctts.GetSampleOffset(e)
				i++
			}
		}
	}
	i = 0
	for e, entry := range t.stsc {
		last := len(t.chunks)
		if e+1 < len(t.stsc) {
			last = min(last, int(t.stsc[e+1].FirstChunk)-1)
		}
		for c := int(entry.FirstChunk) - 1; c >= 0 && c < last; c++ {
			at := int64(t.chunks[c])
			for range entry.SamplesPerChunk {
				if i == n {
					break
				}
				samples[i].offset = at
				at += int64(samples[i].size)
				i++
			}
		}
	}
	l.samples = samples[:i]
	return nil
}

var errTooMany = fmt.Errorf("more than %d samples", maxSamples)

// fragment begins a track fragment (ISO/IEC 14496-12 §8.8.7).
func (x *mp4Index) fragment(b *amp4.Tfhd) {
	for _, l := range x.lanes {
		if l.id != b.TrackID {
			continue
		}
		if b.CheckFlag(amp4.TfhdBaseDataOffsetPresent) {
			x.base = int64(b.BaseDataOffset)
		}
		if b.CheckFlag(amp4.TfhdDefaultSampleDurationPresent) {
			l.duration = b.DefaultSampleDuration
		}
		if b.CheckFlag(amp4.TfhdDefaultSampleSizePresent) {
			l.size = b.DefaultSampleSize
		}
		if b.CheckFlag(amp4.TfhdDefaultSampleFlagsPresent) {
			l.flags = b.DefaultSampleFlags
		}
		x.frag, x.end = l, x.base
	}
}

// run adds the samples of one run (ISO/IEC 14496-12 §8.8.8).
func (x *mp4Index) run(b *amp4.Trun) error {
	l := x.frag
	if l == nil {
		return nil
	}
	if x.count += int(b.SampleCount); x.count > maxSamples || int(b.SampleCount) > maxSamples {
		return errTooMany
	}
	at := x.end
	if b.CheckFlag(0x1) {
		at = x.base + int64(b.DataOffset)
	}
	for i := range int(b.SampleCount) {
		s := sample{offset: at, size: l.size, dts: l.next}
		duration, flags := l.duration, l.flags
		if i < len(b.Entries) {
			e := &b.Entries[i]
			if b.CheckFlag(0x100) {
				duration = e.SampleDuration
			}
			if b.CheckFlag(0x200) {
				s.size = e.SampleSize
			}
			if b.CheckFlag(0x400) {
				flags = e.SampleFlags
			}
			if b.CheckFlag(0x800) {
				s.pts = b.GetSampleCompositionTimeOffset(i)
			}
		}
		if i == 0 && b.CheckFlag(0x4) {
			flags = b.FirstSampleFlags
		}
		s.pts += s.dts
		s.key = flags&(1<<16) == 0 // sample_is_non_sync_sample
		l.samples = append(l.samples, s)
		l.next += int64(duration)
		at += int64(s.size)
	}
	x.end = at
	return nil
}

// unit returns a sample's access unit as Gantry has them: Annex B with parameter sets at key frames, or one audio frame.
func (l *lane) unit(r io.ReaderAt, s sample) ([]byte, error) {
	if s.size == 0 || s.size > maxSample || s.offset < 0 {
		return nil, fmt.Errorf("sample of %d bytes at %d", s.size, s.offset)
	}
	raw := make([]byte, s.size)
	if _, err := r.ReadAt(raw, s.offset); err != nil {
		return nil, fmt.Errorf("sample at %d: %w", s.offset, err)
	}
	if l.lengths == 0 {
		return raw, nil
	}
	var au []byte
	if s.key {
		au = append(au, l.head...)
	}
	for len(raw) > l.lengths {
		n := 0
		for _, b := range raw[:l.lengths] {
			n = n<<8 | int(b)
		}
		if raw = raw[l.lengths:]; n > len(raw) {
			return nil, fmt.Errorf("sample at %d: a NAL unit is longer than it", s.offset)
		}
		if n > 0 {
			au = h264.Append(au, raw[:n])
		}
		raw = raw[n:]
	}
	return au, nil
}
