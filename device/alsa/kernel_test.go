package alsa

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"os"
	"testing"
	"time"

	kernel "github.com/gen2brain/alsa"

	"gantry/device"
	"gantry/internal/clock"
	"gantry/internal/testkit"
	"gantry/internal/testkit/vm"
	"gantry/media"
)

// TestInVM runs the tests named TestKernel... on snd-aloop: what is played on device 0 is captured on device 1.
func TestInVM(t *testing.T) { vm.RunTests(t, vm.Options{TimeTravel: true}, "^TestKernel") }

// play plays a sine of 1 kHz on the loopback, half as loud on the right, until the test ends.
func play(t *testing.T, format kernel.PcmFormat, rate, channels int) {
	t.Helper()
	card, err := find(os.DirFS("/"), "hw:Loopback,0")
	if err != nil {
		t.Fatal(err)
	}
	config := kernel.Config{Channels: uint32(channels), Rate: uint32(rate), PeriodSize: uint32(rate / 100), PeriodCount: 8, Format: format}
	p, err := kernel.PcmOpen(uint(card.Number), 0, kernel.PCM_OUT|kernel.PCM_NONBLOCK, &config)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	t.Cleanup(func() {
		cancel()
		<-done
		_ = p.Close()
	})
	go func() {
		defer close(done)
		n := int64(0)
		size := int(p.FrameSize()) / channels
		buf := make([]byte, rate/100*channels*size)
		for ctx.Err() == nil {
			if free, err := p.AvailUpdate(); err == nil && free < rate/100 {
				pause(ctx)
				continue
			}
			for i := 0; i < len(buf); i += size {
				frame, ch := n+int64(i/size/channels), i/size%channels
				v := 0.5 / float64(ch+1) * math.Sin(2*math.Pi*1000*float64(frame)/float64(rate))
				switch format {
				case kernel.SNDRV_PCM_FORMAT_S16_LE:
					binary.LittleEndian.PutUint16(buf[i:], uint16(int16(v*(1<<15))))
				case kernel.SNDRV_PCM_FORMAT_S24_3LE:
					s := uint32(int32(v * (1 << 23)))
					buf[i], buf[i+1], buf[i+2] = byte(s), byte(s>>8), byte(s>>16)
				case kernel.SNDRV_PCM_FORMAT_S32_LE:
					binary.LittleEndian.PutUint32(buf[i:], uint32(int32(v*(1<<31))))
				}
			}
			n += int64(rate / 100)
			if _, err := p.Write(buf); err != nil && ctx.Err() == nil {
				pause(ctx)
				_ = p.Prepare()
			}
		}
	}()
}

func pause(ctx context.Context) {
	select {
	case <-time.After(2 * time.Millisecond):
	case <-ctx.Done():
	}
}

func open(t *testing.T, c Config) *Source {
	t.Helper()
	s, err := Open(c, quiet)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// A tone that is played at any rate and width is captured as the same tone, at 48 kHz, with its PTS true.
func TestKernelTone(t *testing.T) {
	vm.Guest(t)
	for _, c := range []struct {
		name           string
		format         kernel.PcmFormat
		rate, channels int
	}{
		{"S16", kernel.SNDRV_PCM_FORMAT_S16_LE, 48000, 2},
		{"S24_3", kernel.SNDRV_PCM_FORMAT_S24_3LE, 44100, 2},
		{"S32", kernel.SNDRV_PCM_FORMAT_S32_LE, 96000, 1},
		{"S16", kernel.SNDRV_PCM_FORMAT_S16_LE, 32000, 8},
	} {
		t.Run(fmt.Sprintf("%s %d Hz %d ch", c.name, c.rate, c.channels), func(t *testing.T) {
			play(t, c.format, c.rate, c.channels)
			s := open(t, Config{Card: "hw:Loopback,1", Rate: c.rate, Channels: c.channels, Format: c.name})
			if f := start(t, s); f != (media.AudioFormat{Rate: 48000, Channels: c.channels}) {
				t.Fatal(f)
			}
			collect(t, s, 10*time.Second)
			samples, _, next := collect(t, s, 500*time.Millisecond)
			for ch := range min(c.channels, 2) {
				hz, amplitude := pitch(samples, c.channels, ch)
				t.Logf("channel %d: %.2f Hz at %.4f", ch+1, hz, amplitude)
				if math.Abs(hz-1000) > 0.5 || math.Abs(amplitude-0.5/float64(ch+1)) > 0.005 {
					t.Errorf("want 1000 Hz at %.3f", 0.5/float64(ch+1))
				}
			}
			st := s.SoundStats()
			t.Logf("drift %.1f ppm, PTS off by %v, %v behind", st.Drift, st.Offset, clock.Now()-next)
			if math.Abs(st.Drift) > 100 || st.Offset.Abs() > 10*time.Millisecond || st.Overruns != 0 {
				t.Errorf("%+v", st)
			}
		})
	}
}

// A reader that comes too late loses samples, and goes on with the PTS where the clock is.
func TestKernelOverrun(t *testing.T) {
	vm.Guest(t)
	play(t, kernel.SNDRV_PCM_FORMAT_S16_LE, 48000, 2)
	s := open(t, Config{Card: "hw:Loopback,1", Format: "S16"})
	start(t, s)
	_, _, before := collect(t, s, time.Second)
	time.Sleep(600 * time.Millisecond) // the overrun is what is tested
	samples, after, _ := collect(t, s, 2*time.Second)
	if gap := after - before; gap < 580*time.Millisecond || gap > 700*time.Millisecond {
		t.Errorf("a gap of %v, want 600 ms and a little", gap)
	}
	if hz, amplitude := pitch(samples[96000:], 2, 0); math.Abs(hz-1000) > 0.5 || math.Abs(amplitude-0.5) > 0.02 {
		t.Errorf("%.2f Hz at %.3f after the overrun", hz, amplitude)
	}
	if st := s.SoundStats(); st.Overruns != 1 {
		t.Errorf("%+v", st)
	}
}

func TestKernelOpen(t *testing.T) {
	vm.Guest(t)
	cards := List()
	t.Log(cards)
	if len(cards) < 2 {
		t.Fatalf("%v", cards)
	}
	if _, err := Open(Config{Card: "hw:Nothing,0"}, quiet); !errors.Is(err, device.ErrNotFound) {
		t.Error(err)
	}
	if _, err := Open(Config{Card: "hw:Loopback,1", Channels: 33}, quiet); !errors.Is(err, device.ErrUnsupported) {
		t.Error(err)
	}
	s := open(t, Config{Card: "hw:Loopback,1"})
	if s.stream.layout.name != "S32" || s.stream.rate != 48000 || s.stream.channels != 2 {
		t.Errorf("%+v", s.stream)
	}
}

// A card that is taken away while it captures is gone, and is found again under another number when it comes back.
func TestKernelUnplugged(t *testing.T) {
	vm.Guest(t)
	const driver = "/sys/bus/platform/drivers/snd_dummy/"
	s := open(t, Config{Card: "hw:Dummy,0"})
	start(t, s)
	collect(t, s, 200*time.Millisecond)
	unbound := make(chan error, 1)
	go func() { unbound <- os.WriteFile(driver+"unbind", []byte("snd_dummy.0"), 0) }() // it waits for whoever has the card open
	var err error
	testkit.Eventually(t, 5*time.Second, "the card is gone", func() bool { _, err = s.Read(t.Context()); return err != nil })
	if !errors.Is(err, device.ErrGone) {
		t.Error(err)
	}
	t.Log(err)
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if err := <-unbound; err != nil {
		t.Fatal(err)
	}
	if _, err := Open(Config{Card: "hw:Dummy,0"}, quiet); !errors.Is(err, device.ErrNotFound) {
		t.Error(err)
	}
	if err := os.WriteFile(driver+"bind", []byte("snd_dummy.0"), 0); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, 5*time.Second, "the card is back", func() bool {
		_, err := find(os.DirFS("/"), "hw:Dummy,0")
		return err == nil
	})
	s = open(t, Config{Card: "hw:Dummy,0"})
	start(t, s)
	collect(t, s, 200*time.Millisecond)
}
