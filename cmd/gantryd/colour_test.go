package main

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"gantry/device"
	"gantry/encoder"
	"gantry/internal/clock"
	"gantry/internal/health"
	"gantry/internal/pipeline"
	"gantry/internal/testkit"
	"gantry/internal/testkit/encodertest"
	"gantry/media"
)

// A palette is a source whose signal changes from one format to the next; the first lasts until begin is set.
type palette struct {
	formats []media.VideoFormat
	begin   *atomic.Bool
	at, n   int
	pool    *media.Pool
	next    time.Duration
}

const eachColour = 5 // pictures

func (p *palette) Start(ctx context.Context) (media.VideoFormat, error) {
	if p.at == len(p.formats) {
		<-ctx.Done()
		return media.VideoFormat{}, ctx.Err()
	}
	f := p.formats[p.at]
	p.at++
	p.n, p.pool = 0, media.NewPool(f, 4)
	return f, nil
}

func (p *palette) Read(ctx context.Context) (*media.Frame, error) {
	if p.n >= eachColour && p.begin.Load() {
		return nil, device.ErrFormatChanged
	}
	now := clock.Now()
	p.next = max(p.next+p.formats[0].Rate.Interval(), now)
	select {
	case <-time.After(p.next - now):
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	f := p.pool.Get()
	if f == nil {
		return nil, device.ErrGone
	}
	p.n++
	f.PTS, f.Seq = clock.Now(), uint32(p.n)
	return f, encoder.DrawPattern(f, p.n, 0)
}

func (p *palette) Close() error { return nil }

// What a destination gets says of its colours what the source said, whichever encoder there is between, also when the signal changes
// while it is connected: libsrt's own tool receives, ffprobe reads.
func TestColoursReachTheDestination(t *testing.T) {
	t.Parallel()
	var formats []media.VideoFormat
	for _, m := range []media.ColourMatrix{media.MatrixBT601, media.MatrixBT709, media.MatrixBT2020} {
		for _, r := range []media.ColourRange{media.RangeLimited, media.RangeFull} {
			f := encodertest.Format(320, 240, media.NV12)
			f.Matrix, f.Range = m, r
			formats = append(formats, f)
		}
	}
	for _, transfer := range []media.ColourTransfer{media.TransferPQ, media.TransferHLG} {
		f := encodertest.Format(320, 240, media.P010)
		f.Matrix, f.Transfer = media.MatrixBT2020, transfer
		formats = append(formats, f)
	}
	tried := 0
	for _, b := range backends() {
		if b.Hardware || b.Codec != media.H264 && b.Codec != media.H265 {
			continue
		}
		tried++
		t.Run(b.Name, func(t *testing.T) {
			t.Parallel() // it waits most of the time
			got := received(t, b, formats)
			var want []encodertest.Label
			for _, f := range formats {
				want = append(want, encodertest.Labelled(f, b.Codec == media.H265))
			}
			if !slices.Equal(got, want) {
				t.Errorf("received\n%v, sent\n%v", got, want)
			}
		})
	}
	if tried == 0 {
		t.Skip("this build has no encoder in software")
	}
}

// received sends pictures of those formats to an SRT listener and returns what they say there, each change once.
func received(t *testing.T, b encoder.Backend, formats []media.VideoFormat) (labels []encodertest.Label) {
	addr, file := testkit.FreeTCP(t), filepath.Join(t.TempDir(), "received.ts")
	out, err := os.Create(file)
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	peer := exec.Command("srt-live-transmit", "-q", "-a:no", "srt://"+addr+"?mode=listener", "file://con")
	peer.Stdout = out
	if err := peer.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = peer.Process.Kill(); _ = peer.Wait() }()
	c, err := load(writeConfig(t, fmt.Sprintf("encoder: {backend: %s, codec: %s}\nuplinks:\n- {name: srt, srt: {addr: %q, stream: x}}\n",
		b.Name, map[media.Codec]string{media.H264: "h264", media.H265: "h265"}[b.Codec], addr)))
	if err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.DiscardHandler)
	s := spec(c, log)
	var all atomic.Bool
	source := &palette{formats: formats, begin: &all}
	s.Video.Open = func(context.Context) (device.Source, error) { return source, nil }
	session := pipeline.New(s, slate, new(health.Set), log)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- session.Run(ctx) }()
	testkit.Eventually(t, 20*time.Second, "the destination receives", func() bool { return size(file) > 4_000 })
	all.Store(true)
	testkit.Eventually(t, 20*time.Second, "all formats were coded", func() bool {
		return session.Status().Encoder.Opened == uint64(len(formats)) && session.Status().Video.Slates > 5
	})
	if st := session.Status(); st.Uplinks[0].Connects != 1 {
		t.Errorf("%d connections", st.Uplinks[0].Connects)
	}
	before := size(file)
	testkit.Eventually(t, 10*time.Second, "the rest arrives", func() bool { return size(file) > before })
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	text, err := exec.Command("ffprobe", "-v", "error", "-of", "json", "-select_streams", "v", "-show_entries",
		"frame=color_space,color_range,color_transfer,color_primaries,pix_fmt", file).Output()
	if err != nil {
		t.Fatalf("ffprobe: %v", err)
	}
	var said struct{ Frames []encodertest.Label }
	if err := json.Unmarshal(text, &said); err != nil {
		t.Fatal(err)
	}
	for i, l := range said.Frames {
		said.Frames[i] = l.Plain()
	}
	return slices.Compact(said.Frames)
}
