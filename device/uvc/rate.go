package uvc

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/blackjack/webcam"
)

// MeasureRate captures from a node, with the format that it is set to, and returns how many pictures a second it gives. That is often
// less than what it is set to: webcams expose longer in the dark. It fails where somebody else captures, and on multi-planar nodes.
//
// It takes about the time given, at most that and 3 seconds. Times are those at which pictures were taken from the driver, good to
// one picture in the whole; device/v4l2 has the driver's own.
func MeasureRate(ctx context.Context, node string, d time.Duration) (rate float64, err error) {
	w, err := webcam.Open(node)
	if err != nil {
		return 0, fmt.Errorf("open %s: %w", node, err)
	}
	defer func() { err = errors.Join(err, w.Close()) }()
	if err := w.SetBufferCount(4); err != nil { // else 256
		return 0, fmt.Errorf("set buffers of %s: %w", node, err)
	}
	if err := w.StartStreaming(); err != nil {
		return 0, fmt.Errorf("capture from %s: %w", node, err)
	}
	var first, last time.Time
	periods := 0
	for first.IsZero() || last.Sub(first) < d {
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		const patience = 2 // seconds
		if err := w.WaitForFrame(patience); err != nil {
			return 0, fmt.Errorf("wait %d s for a picture of %s: %w", patience, node, err)
		}
		_, index, err := w.GetFrame()
		if err != nil {
			return 0, fmt.Errorf("take a picture of %s: %w", node, err)
		}
		if err := w.ReleaseFrame(index); err != nil {
			return 0, fmt.Errorf("give a buffer back to %s: %w", node, err)
		}
		last = time.Now()
		if first.IsZero() {
			first = last // what came before it is the time to start
			continue
		}
		periods++
	}
	return float64(periods) / last.Sub(first).Seconds(), nil
}
