package pipeline

import (
	"context"
	"log/slog"
	"time"

	"gantry/device"
	"gantry/encoder"
	"gantry/media"
	"gantry/media/sei"
	"gantry/media/sound"
	"gantry/uplink"
)

// A Spec says what a Session works with. Each part has a Key, a comparable value (the configuration that the part was made
// from): where a new Spec's Key equals the old one's, the part is left running as it is.
type Spec struct {
	Video   Video
	Audio   Audio
	Encoder Encoder
	// Renditions are further encodes of the same pictures, for destinations that choose one. Names are unique.
	Renditions []Rendition
	Uplinks    []Uplink // names are unique
}

// Video is the input for pictures.
type Video struct {
	Name string // for people: "/dev/video0"
	Key  any
	Open func(ctx context.Context) (device.Source, error)
	// Coded, if set, is used instead of Open.
	Coded *Coded
	// Wake, if set, delivers a value when a device has come that may be the one which could not be opened. It is no part of Key.
	Wake <-chan struct{}
	// Format is what the slate is drawn in until the source has delivered a picture.
	Format media.VideoFormat
}

// Audio is the input for sound and how it can be coded.
type Audio struct {
	Name string
	Key  any
	// Open opens the source, whose sound is at 48 kHz with any number of channels; nil: there is no sound but perhaps that of
	// Video.Coded.
	Open func(ctx context.Context) (device.AudioSource, error)
	// Coded: the sound is that of Video.Coded; nothing else here counts.
	Coded bool
	Wake  <-chan struct{} // as Video.Wake
	Mix   sound.Mix       // the channels that stereo is made of
	Gain  float64         // dB
	Delay time.Duration   // by which the sound is put later than the pictures; below zero: earlier
	// Codings are what destinations choose from, each of another codec. Sound is coded in those that one has chosen.
	Codings []AudioCoding
}

// An AudioCoding is one way to code sound.
type AudioCoding struct {
	Track media.Track // what Encode's encoders make; needed before one is open
	// Encode opens an encoder for sound of the given format.
	Encode func(in media.AudioFormat) (encoder.AudioEncoder, error)
}

// Encoder is what pictures are coded with.
type Encoder struct {
	Key      any               // of Backends
	Backends []encoder.Backend // that may be used, the best first
	Params   encoder.Params    // Bitrate is the most that is ever used
	Floor    int               // bit/s that the video is never asked to go below
	Timecode sei.Kind          // each picture says when it was captured
}

// A Rendition is a further encode. Its encoder makes the size that Params say of the source's pictures, in one step.
type Rendition struct {
	Name    string // the RID of its track
	Encoder Encoder
}

// An Uplink is one destination.
type Uplink struct {
	Name string
	Key  any
	// Open makes the Sender; it does not connect. The Sender is used for one connection after the other. Where it is an
	// uplink.Reporter too, its statistics are part of the Status.
	Open func(log *slog.Logger) (uplink.Sender, error)
	// Carries are the codecs that the destination takes; of several for sound, the first that there is. nil: all.
	Carries []media.Codec
	// Rendition names the pictures that it gets; empty: the main encoder's.
	Rendition string
	// Layers name further renditions that it gets beside it, as layers of one picture (simulcast). What its path carries is divided
	// among them, the smallest first. Its tracks have the renditions' names as RIDs, the main encode's MainLayer.
	Layers []string
	// BackupOf names the destination that this one stands in for: it runs only while that one is down.
	BackupOf string
	Manual   bool // it is stopped until Start
	Aside    bool // the bitrate does not follow what its path carries
	// InOrder: it takes pictures in display order only, no B-frames.
	InOrder bool
}

// MainLayer is the RID of the main encode where it is one of several layers.
const MainLayer = "main"

// A Still is a picture that can be sent again and again.
type Still interface {
	// Frame returns a Frame that shows the picture; the caller owns it.
	Frame(pts time.Duration, seq uint32) *media.Frame
}

// A Slate draws a Still that shows a title and a reason.
type Slate func(format media.VideoFormat, title, reason string) (Still, error)
