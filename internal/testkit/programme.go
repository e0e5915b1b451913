package testkit

import (
	"context"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"gantry/device"
	"gantry/internal/clock"
	"gantry/media"
	"gantry/uplink"
)

// A Programme is what the tests of Senders send: a moving picture of 320x180 in H.264, thirty a second with a key frame each
// half, and silence.
type Programme struct {
	Tracks []media.Track // video, sound
	units  [][]byte
	sound  []byte
}

// NewProgramme has ffmpeg make one, with sound in Opus or AAC.
func NewProgramme(tb testing.TB, sound media.Codec) *Programme {
	tb.Helper()
	raw, err := exec.Command("ffmpeg", "-hide_banner", "-loglevel", "error", "-f", "lavfi", "-i", "testsrc2=size=320x180:rate=30", "-t", "4", "-c:v", "libx264",
		"-preset", "ultrafast", "-tune", "zerolatency", "-g", "15", "-x264-params", "aud=1", "-f", "h264", "-").Output()
	if err != nil {
		tb.Fatal(err)
	}
	p := &Programme{Tracks: ProgrammeTracks(sound), sound: []byte{0xfc, 0xff, 0xfe}}
	if sound == media.AAC {
		p.sound = []byte{0x21, 0x10, 0x04, 0x60, 0x8c, 0x1c}
	}
	const delimiter = "\x00\x00\x00\x01\x09"
	for i, unit := range strings.Split(string(raw), delimiter) {
		if i > 0 {
			p.units = append(p.units, []byte(delimiter+unit))
		}
	}
	return p
}

// ProgrammeTracks returns the tracks of a Programme with sound in Opus or AAC.
func ProgrammeTracks(sound media.Codec) []media.Track {
	t := []media.Track{{Codec: media.H264, ClockRate: 90000}, {Codec: sound, ClockRate: 48000, Channels: 2}}
	if sound == media.AAC {
		t[1].Profile = "1190"
	}
	return t
}

// Push pushes picture i, over and over the same 120, and its sound, of a timeline on which picture 0 is at from.
func (p *Programme) Push(q *media.Queue, from time.Duration, i int) {
	at := from + time.Duration(i)*time.Second/30
	n := i % len(p.units)
	q.Push(&media.Packet{PTS: at, DTS: at, Start: true, End: true, Key: n%15 == 0, Data: p.units[n]})
	q.Push(&media.Packet{Track: 1, PTS: at, DTS: at, Start: true, End: true, Key: true, Data: p.sound})
}

// Send has s send the programme at its own pace until the test ends. It returns what Run returns if that ends by itself.
func (p *Programme) Send(tb testing.TB, s uplink.Sender) <-chan error {
	tb.Helper()
	_, ended := send(tb, s, p.Tracks, func(ctx context.Context, q *media.Queue) {
		tick := time.NewTicker(time.Second / 30)
		defer tick.Stop()
		for i := 0; ; i++ {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
				p.Push(q, 0, i)
			}
		}
	})
	return ended
}

// SendFrom has s send what a source gives until the test ends, and fails the test if s then does not end well. Connected is closed
// when media flows.
func SendFrom(tb testing.TB, s uplink.Sender, source device.PacketSource) (connected <-chan struct{}) {
	tb.Helper()
	tb.Cleanup(func() { _ = source.Close() })
	tracks, err := source.Start(tb.Context())
	if err != nil {
		tb.Fatal(err)
	}
	var ended <-chan error
	tb.Cleanup(func() { // after send's
		if err := <-ended; err != nil {
			tb.Error(err)
		}
	})
	connected, ended = send(tb, s, tracks, func(ctx context.Context, q *media.Queue) {
		for {
			p, err := source.Read(ctx)
			if err != nil {
				return
			}
			q.Push(p)
		}
	})
	return connected
}

// send runs s, and feed beside it, until the test ends.
func send(tb testing.TB, s uplink.Sender, tracks []media.Track, feed func(context.Context, *media.Queue)) (connected <-chan struct{}, ended <-chan error) {
	ctx, cancel := context.WithCancel(context.Background())
	q := media.NewQueue(time.Second, tracks)
	live, done := make(chan struct{}), make(chan error, 1)
	var work sync.WaitGroup
	work.Go(func() { feed(ctx, q) })
	work.Go(func() {
		done <- s.Run(ctx, uplink.Program{Tracks: tracks, Packets: q, Wall: clock.Wall, Feedback: func(media.Feedback) {}, Connected: func() { close(live) }})
	})
	tb.Cleanup(func() { cancel(); work.Wait() })
	return live, done
}
