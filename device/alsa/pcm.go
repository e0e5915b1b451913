package alsa

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	kernel "github.com/gen2brain/alsa"
	"golang.org/x/sys/unix"

	"gantry/device"
	"gantry/internal/clock"
)

const (
	period  = 10 * time.Millisecond // between the card's interrupts
	periods = 32                    // that its memory holds: so late a reader may be
)

// A pcm is a card's open capture stream. A frame is one sample of each channel.
type pcm interface {
	// avail returns how many frames can be read, and when the last of them was captured.
	avail() (frames int, at time.Duration, err error)
	// read fills buf, whole frames that are there.
	read(buf []byte) error
	// restart begins anew after an overrun.
	restart() error
	Close() error
}

// stream describes what a pcm delivers.
type stream struct {
	layout   *layout
	rate     int
	channels int
	said     int // channels by the card's word; other than channels where that is wrong
}

// errOverrun: samples were not fetched in time and are lost.
var errOverrun = errors.New("overrun")

// A hardware is a pcm of the kernel.
type hardware struct {
	*kernel.PCM
}

// openPCM opens a card as c asks, or as suits it best.
func openPCM(c Config, card Card) (pcm, stream, error) {
	p, s, err := openHardware(c, card)
	if err != nil {
		return nil, stream{}, explain(card, err)
	}
	return &hardware{p}, s, nil
}

func openHardware(c Config, card Card) (*kernel.PCM, stream, error) {
	caps, err := kernel.PcmParamsGet(uint(card.Number), uint(card.Device), kernel.PCM_IN)
	if err != nil {
		return nil, stream{}, err
	}
	s := stream{layout: choose(c, caps)}
	if s.layout == nil {
		return nil, stream{}, fmt.Errorf("sample format: %w", device.ErrUnsupported)
	}
	channels, err := within(caps, kernel.SNDRV_PCM_HW_PARAM_CHANNELS, c.Channels, 2)
	if err != nil {
		return nil, stream{}, fmt.Errorf("channels: %w", err)
	}
	rates := []int{c.Rate}
	if c.Rate == 0 {
		rates = []int{outRate, 44100, 96000, 32000, 16000, 8000}
	}
	for _, rate := range rates {
		if rate, err = within(caps, kernel.SNDRV_PCM_HW_PARAM_RATE, c.Rate, rate); err != nil {
			err = fmt.Errorf("rate: %w", err)
			continue
		}
		for n := uint32(periods); n >= 2; n /= 2 {
			size := uint32(rate * int(period/time.Millisecond) / 1000)
			config := kernel.Config{Channels: uint32(channels), Rate: uint32(rate), PeriodSize: size, PeriodCount: n, Format: s.layout.format,
				StopThreshold: size * n}
			var p *kernel.PCM
			p, err = kernel.PcmOpen(uint(card.Number), uint(card.Device), kernel.PCM_IN|kernel.PCM_MONOTONIC|kernel.PCM_NONBLOCK|kernel.PCM_NORESTART, &config)
			if err == nil {
				s.rate, s.channels = int(p.Rate()), int(p.Channels())
				return p, s, nil
			}
			if !errors.Is(err, unix.EINVAL) {
				return nil, stream{}, err
			}
		}
	}
	return nil, stream{}, err
}

// choose returns the layout that c names, or the best that the card has.
func choose(c Config, caps *kernel.PcmParams) *layout {
	for i := range layouts {
		if l := &layouts[i]; (c.Format == "" || c.Format == l.name) && caps.FormatIsSupported(l.format) {
			return l
		}
	}
	return nil
}

// within returns what is asked for, or else what comes nearest to like, of what the card can.
func within(caps *kernel.PcmParams, param kernel.PcmParam, asked, like int) (int, error) {
	low, err1 := caps.Min(param)
	high, err2 := caps.Max(param)
	if err := errors.Join(err1, err2); err != nil {
		return 0, err
	}
	if asked != 0 && (asked < int(low) || asked > int(high)) {
		return 0, fmt.Errorf("%d is not from %d to %d: %w", asked, low, high, device.ErrUnsupported)
	}
	if asked != 0 {
		return asked, nil
	}
	return min(max(like, int(low)), int(high)), nil
}

// avail asks the driver where it is now. Where the kernel's time cannot be used (32-bit kernels count differently, old ones
// have no monotonic time), that of asking stands in: it is later by the time that asking takes.
func (h *hardware) avail() (int, time.Duration, error) {
	frames, t, err := h.Timestamp()
	if err != nil {
		return 0, 0, h.state(err)
	}
	now := clock.Now()
	at := time.Duration(t.UnixNano())
	if age := now - at; age < -time.Millisecond || age > period*periods {
		at = now
	}
	return int(frames), at, nil
}

// state says what an error means, by what the stream says of itself.
func (h *hardware) state(err error) error {
	switch {
	case errors.Is(err, unix.EPIPE), errors.Is(err, unix.ESTRPIPE), h.State() == kernel.SNDRV_PCM_STATE_XRUN:
		return errOverrun
	}
	return err
}

func (h *hardware) read(buf []byte) error {
	n, err := h.Read(buf)
	if err != nil {
		return h.state(err)
	}
	if n*int(h.FrameSize()) != len(buf) {
		return fmt.Errorf("%d of %d bytes: %w", n*int(h.FrameSize()), len(buf), unix.EIO)
	}
	return nil
}

func (h *hardware) restart() error {
	if err := h.Prepare(); err != nil {
		return err
	}
	return h.Start()
}

// explain turns the kernel's error into the contract's, with what to do about it.
func explain(card Card, err error) error {
	switch {
	case slices.ContainsFunc([]error{os.ErrNotExist, unix.ENODEV, unix.ENXIO}, func(e error) bool { return errors.Is(err, e) }):
		return fmt.Errorf("sound card %s: %w: unplugged, or its driver was unloaded", card.Name, device.ErrGone)
	case errors.Is(err, unix.EBUSY), errors.Is(err, unix.EAGAIN):
		return fmt.Errorf("sound card %s: %w: another program captures from it; \"fuser -v /dev/snd/*\" names it", card.Name, device.ErrBusy)
	case errors.Is(err, os.ErrPermission):
		return fmt.Errorf("sound card %s: %w; the user that runs gantryd must belong to the group audio", card.Name, err)
	case errors.Is(err, unix.EBADFD), errors.Is(err, unix.EIO):
		return fmt.Errorf("sound card %s: %w: %w", card.Name, device.ErrGone, err)
	}
	return fmt.Errorf("sound card %s: %w", card.Name, err)
}
