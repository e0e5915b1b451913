// Package systemd is what a daemon says to the service manager that runs it: that it is ready, that it stops, that it
// still makes progress; and its log records, as journal entries with their keys as fields. Outside systemd each of these
// does nothing, and the log goes where it did. The units beside it belong to it.
//
// It knows nothing of what a daemon does.
package systemd

import (
	"context"
	"fmt"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
)

// Ready tells the service manager that the daemon does its work now, with a line for `systemctl status`. A unit of
// Type=notify counts as started only then. See sd_notify(3).
func Ready(status string) error { return notify(daemon.SdNotifyReady + "\nSTATUS=" + status) }

// Status replaces the line that `systemctl status` shows.
func Status(status string) error { return notify("STATUS=" + status) }

// Stopping tells the service manager that the daemon has begun to stop.
func Stopping() error { return notify(daemon.SdNotifyStopping) }

func notify(state string) error {
	// The variable stays set: the watchdog needs it again, and the daemons start no other programs.
	if _, err := daemon.SdNotify(false, state); err != nil {
		return fmt.Errorf("notify systemd: %w", err)
	}
	return nil
}

// Watchdog feeds the service manager's watchdog until ctx ends, as often as the unit's WatchdogSec asks, and returns nil;
// at once when no watchdog is set. It feeds only when progress returns another value than last time, so a daemon that still
// runs but no longer works is restarted: progress counts turns of the work, also of work on an absent signal.
func Watchdog(ctx context.Context, progress func() uint64) error {
	limit, err := daemon.SdWatchdogEnabled(false)
	if err != nil {
		return fmt.Errorf("read the watchdog's interval: %w", err)
	}
	if limit == 0 {
		return nil
	}
	if err := notify(daemon.SdNotifyWatchdog); err != nil {
		return err
	}
	last := progress()
	tick := time.NewTicker(limit / 3) // one look may come late, and one look may come too early for progress
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		now := progress()
		if now == last {
			continue
		}
		last = now
		if err := notify(daemon.SdNotifyWatchdog); err != nil {
			return err
		}
	}
}
