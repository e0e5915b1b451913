// Package health holds the named conditions that a person should know about: what is wrong, why, how bad it is and since
// when. Who detects a condition raises and clears it; pages, metrics and the service manager read the list.
//
// It knows nothing of what is wrong with what, keeps no history and logs nothing.
package health

import (
	"cmp"
	"fmt"
	"slices"
	"sync"
	"time"
)

// Severity says what a condition asks of a person.
type Severity uint8

const (
	// Degraded: something works less well and recovers by itself.
	Degraded Severity = iota
	// Failing: something does not work; it is retried.
	Failing
	// Broken: it will not work until a person acts.
	Broken
)

// String returns "degraded", "failing" or "broken".
func (s Severity) String() string {
	return [...]string{"degraded", "failing", "broken"}[min(s, Broken)]
}

// MarshalText writes what String returns.
func (s Severity) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText reads what MarshalText writes.
func (s *Severity) UnmarshalText(text []byte) error {
	for v := Degraded; v <= Broken; v++ {
		if v.String() == string(text) {
			*s = v
			return nil
		}
	}
	return fmt.Errorf("%q is not degraded, failing or broken", text)
}

// A Code names one kind of condition for good, for scripts and alarms: "no-signal", "uplink-down".
type Code string

// A Condition is one thing that is wrong now.
type Condition struct {
	Code     Code      `json:"code"`
	Subject  string    `json:"subject,omitempty"` // what it is about, as the configuration names it
	Severity Severity  `json:"severity"`
	Reason   string    `json:"reason"` // for a person, in words
	Since    time.Time `json:"since"`
}

// A Warnable declares one kind of condition.
type Warnable struct {
	Code     Code
	Severity Severity
	// Visible is how long the condition must last before it is shown, so that what heals at once alarms nobody.
	Visible time.Duration
}

type key struct {
	code    Code
	subject string
}

type entry struct {
	Condition
	visible time.Time
}

// A Set holds the conditions of one process. The zero Set is healthy. Its methods may be called by any goroutine.
type Set struct {
	mu      sync.Mutex
	entries map[key]entry
}

// Raise says that a condition holds for a subject. Raised again it keeps its beginning and takes the new reason.
func (s *Set) Raise(w Warnable, subject, reason string) {
	now := time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.entries == nil {
		s.entries = map[key]entry{}
	}
	k := key{w.Code, subject}
	e, ok := s.entries[k]
	if !ok {
		e.Since, e.visible = now.UTC(), now.Add(w.Visible)
	}
	e.Code, e.Subject, e.Severity, e.Reason = w.Code, subject, w.Severity, reason
	s.entries[k] = e
}

// Clear says that a condition no longer holds.
func (s *Set) Clear(w Warnable, subject string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.entries, key{w.Code, subject})
}

// Set raises the condition when err is not nil and clears it otherwise.
func (s *Set) Set(w Warnable, subject string, err error) {
	if err == nil {
		s.Clear(w, subject)
		return
	}
	s.Raise(w, subject, err.Error())
}

// Conditions returns what has held for long enough to be shown, the worst first, then the oldest. It is never nil.
func (s *Set) Conditions() []Condition {
	now := time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	list := []Condition{}
	for _, e := range s.entries {
		if !e.visible.After(now) {
			list = append(list, e.Condition)
		}
	}
	slices.SortFunc(list, func(a, b Condition) int {
		return cmp.Or(cmp.Compare(b.Severity, a.Severity), a.Since.Compare(b.Since),
			cmp.Compare(a.Code, b.Code), cmp.Compare(a.Subject, b.Subject))
	})
	return list
}
