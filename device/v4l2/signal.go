package v4l2

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"gantry/device"
	kernel "gantry/internal/v4l2"
	"gantry/internal/v4l2/uapi"
)

// A signal is what an input receives.
type signal struct {
	digital  bool // HDMI, SDI: timings hold
	timings  uapi.DVTimings
	standard uapi.Std // analogue
}

func (a signal) same(b signal) bool {
	return a.digital == b.digital && a.standard == b.standard && (!a.digital || kernel.SameTimings(a.timings, b.timings))
}

func (a signal) String() string {
	if a.digital {
		return kernel.DescribeTimings(a.timings)
	}
	return "analogue or camera"
}

// selectInput switches to the configured connector, and asks for news about it.
func (s *Source) selectInput() error {
	selected, err := s.dev.SelectedInput()
	switch {
	case errors.Is(err, unix.ENOTTY): // a bridge of the media controller: its one source is wired
		selected = -1
		if s.cfg.Input > 0 {
			return fmt.Errorf("%s has no inputs to choose from: %w", s.dev.Path(), device.ErrUnsupported)
		}
	case err != nil:
		return err
	case s.cfg.Input >= 0 && s.cfg.Input != selected:
		if err := s.dev.SelectInput(s.cfg.Input); errors.Is(err, unix.EINVAL) {
			return fmt.Errorf("%s has no input %d: %w; it has %s", s.dev.Path(), s.cfg.Input, device.ErrUnsupported, s.inputNames())
		} else if err != nil {
			return err
		}
		selected = s.cfg.Input
	}
	s.input = selected
	if err := s.setEDID(); err != nil {
		return err
	}
	// Not every driver tells; those without are asked now and then while there is no signal. The event's id is the input's
	// number with some drivers, 0 with most.
	for _, id := range []int{0, selected} {
		if id >= 0 {
			_ = s.dev.Subscribe(uapi.EventSourceChange, uint32(id))
		}
	}
	return nil
}

func (s *Source) inputNames() string {
	inputs, _ := s.dev.Inputs()
	var names []string
	for _, in := range inputs {
		names = append(names, fmt.Sprintf("%d (%s)", in.Index, in.Name))
	}
	return strings.Join(names, ", ")
}

const (
	settle = 60 * time.Millisecond  // a signal is stable when it is the same after this
	retry  = 250 * time.Millisecond // drivers without events are asked this often
)

// awaitSignal returns when the input has a stable signal, or none for another reason than was told before.
func (s *Source) awaitSignal(ctx context.Context) (signal, error) {
	for {
		if _, err := s.drainEvents(); err != nil {
			return signal{}, err
		}
		sig, err := s.look()
		pause := settle
		switch {
		case err == nil && !sig.digital:
			return sig, nil
		case err == nil:
		case errors.Is(err, device.ErrNoSignal):
			if reason := err.Error(); reason != s.told {
				s.told = reason
				st := *s.status.Load()
				st.Streaming, st.Reason = false, reason
				s.status.Store(&st)
				return signal{}, err
			}
			pause = retry
		default:
			return signal{}, err
		}
		changed, cause := s.waiter.Wait(ctx, kernel.Urgent, pause)
		switch {
		case cause != nil && err != nil:
			return signal{}, fmt.Errorf("%w (%w)", err, cause)
		case cause != nil:
			return signal{}, cause
		case err == nil && changed&kernel.Urgent == 0:
			if again, err := s.look(); err == nil && again.same(sig) {
				return again, nil
			}
		}
		if changed == kernel.Failed&changed && changed != 0 { // a driver whose poll complains while nothing streams
			select {
			case <-ctx.Done():
			case <-time.After(retry):
			}
		}
	}
}

// look asks the driver for the signal. It returns an error that wraps device.ErrNoSignal and tells why there is none.
func (s *Source) look() (signal, error) {
	if s.input < 0 || s.bridged() {
		t, err := s.receiver().QueryTimings()
		switch {
		case errors.Is(err, unix.ENOTTY), errors.Is(err, unix.ENODATA):
			return signal{}, nil
		case err != nil:
			return signal{}, s.missing(kernel.Input{}, err)
		}
		return signal{digital: true, timings: t}, nil
	}
	in, err := s.dev.Input(s.input)
	if err != nil {
		return signal{}, err
	}
	var sig signal
	if in.DVTimings {
		t, err := s.dev.QueryTimings()
		if err != nil && !errors.Is(err, unix.ENOTTY) && !errors.Is(err, unix.ENODATA) {
			return signal{}, s.missing(in, err)
		}
		sig.digital, sig.timings = err == nil, t
	}
	if in.Standards != 0 {
		sig.standard = s.standard(in.Standards)
	}
	if in.Status&^(uapi.InStNoColor|uapi.InStMacrovis) != 0 {
		return signal{}, s.missing(in, nil)
	}
	return sig, nil
}

// standard returns the analogue standard that the configuration or the signal asks for, which is the one that is set where it
// is among them.
func (s *Source) standard(offered uapi.Std) uapi.Std {
	set, _ := s.dev.Standard()
	want := standards[s.cfg.Standard] & offered
	if s.cfg.Standard == auto {
		found, err := s.dev.QueryStandard() // some drivers cannot while they stream, some never
		if want = found & offered; err != nil {
			want = 0
		}
	}
	if want == 0 || want&set != 0 {
		return set
	}
	return want
}

// missing puts the driver's answer into words.
func (s *Source) missing(in kernel.Input, err error) error {
	kind, reason := device.ErrNoSignal, ""
	switch {
	case in.Status&uapi.InStNoAccess != 0: // drivers that know of HDCP say so, whatever they make of the timings
		kind, reason = device.ErrEncrypted, "the content is protected (HDCP); switch protection off at the sender, or play something else"
	case errors.Is(err, unix.ENOLINK), err == nil && in.Status&uapi.InStNoSignal != 0:
		reason = s.nothing(in.Index)
	case errors.Is(err, unix.ENOLCK):
		kind, reason = device.ErrNoLock, "the receiver cannot lock on to what is sent; try a shorter cable or another mode"
	case errors.Is(err, unix.ERANGE):
		kind, reason = device.ErrOutOfRange, "what is sent is beyond the receiver; choose a lower resolution or rate at the sender"
	case err != nil:
		return err
	case in.Status&uapi.InStNoPower != 0:
		reason = "the input has no power"
	default:
		kind = device.ErrNoLock
		reason = fmt.Sprintf("the receiver cannot lock on to what is sent (status %#x); try a shorter cable or another mode", in.Status)
	}
	where := s.dev.Path()
	if in.Name != "" {
		where = fmt.Sprintf("%s input %d (%s)", where, in.Index, in.Name)
	}
	return fmt.Errorf("%s: %w: %s", where, kind, reason)
}

// nothing says why nothing is sent: receivers that see the 5 V of the sender can tell a loose cable from a silent sender.
func (s *Source) nothing(input int) string {
	if power, err := s.receiver().GetControl(uapi.CIDDVRxPowerPresent); err == nil && input < 32 {
		if power>>s.power(input)&1 == 0 {
			return "nothing is connected; check the cable, and that the sender is switched on"
		}
		return "nothing is sent, though a sender is connected; wake it up, or let it send again by unplugging the cable for a moment"
	}
	return "nothing is sent; check the cable, and that the sender is switched on"
}

// power returns the bit of V4L2_CID_DV_RX_POWER_PRESENT that is an input's: digital inputs are counted alone.
func (s *Source) power(input int) (bit int) {
	inputs, _ := s.dev.Inputs()
	for _, in := range inputs {
		if in.Index < input && in.DVTimings {
			bit++
		}
	}
	return bit
}
