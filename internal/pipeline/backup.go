package pipeline

import (
	"errors"
	"fmt"
	"slices"
	"time"
)

const (
	judgeEvery = 200 * time.Millisecond // how often backups are looked at
	takeOver   = 2 * time.Second        // a destination is down for this long: its backup starts
	handBack   = 5 * time.Second        // it has been connected again for this long: its backup stops
)

// ErrNoUplink: there is no destination of this name.
var ErrNoUplink = errors.New("no such destination")

// StartUplink has a destination connected, which it is already unless it was stopped. The order holds until the next one or the
// end of the process, over a change of configuration too.
func (s *Session) StartUplink(name string) error { return s.uplinks.order(name, true) }

// StopUplink ends a destination's connection until StartUplink. A backup of it does not take over: nothing is wrong.
func (s *Session) StopUplink(name string) error { return s.uplinks.order(name, false) }

func (u *uplinks) order(name string, run bool) error {
	u.mu.Lock()
	i := slices.IndexFunc(u.links, func(l *link) bool { return l.spec.Name == name })
	if i < 0 {
		u.mu.Unlock()
		return fmt.Errorf("%q: %w", name, ErrNoUplink)
	}
	u.orders[name] = run
	u.mu.Unlock()
	u.judge(time.Now())
	return nil
}

func (u *uplinks) stopped(spec Uplink) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.stops(spec)
}

// stops is stopped for who holds u.mu.
func (u *uplinks) stops(spec Uplink) bool {
	run, said := u.orders[spec.Name]
	return said && !run || !said && spec.Manual
}

// judge opens and closes the gates of the links: people's orders first, then whether a backup is needed.
func (u *uplinks) judge(now time.Time) {
	u.mu.Lock()
	defer u.mu.Unlock()
	for _, l := range u.links {
		was, _ := l.gate.get()
		gate := State("")
		switch {
		case u.stops(l.spec):
			gate = Stopped
		case l.spec.BackupOf != "" && !u.needed(l.spec.BackupOf, was == "", now):
			gate = Standby
		}
		if gate != was {
			if l.spec.BackupOf != "" && (gate == "" || was == "") && gate != Stopped {
				l.log.Info("backup", "running", gate == "", "of", l.spec.BackupOf)
			}
			l.gate.set(gate)
		}
	}
}

// needed tells whether the backup of a destination shall run, which it does already or not. A destination that was stopped, or
// is a backup that is not needed itself, is not down.
func (u *uplinks) needed(name string, running bool, now time.Time) bool {
	i := slices.IndexFunc(u.links, func(l *link) bool { return l.spec.Name == name })
	if i < 0 {
		return false
	}
	l := u.links[i]
	if gate, _ := l.gate.get(); gate != "" {
		return false
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	lasted := now.Sub(l.turned)
	if running {
		return l.state != Connected || lasted < handBack
	}
	return l.state != Connected && lasted >= takeOver
}
