package whip

import (
	"fmt"
	"log/slog"
	"strings"
	"sync"

	"github.com/pion/logging"
)

// A pionLog takes what pion wants to say: to an operator its warnings are details. After mute it says nothing.
type pionLog struct {
	mu    sync.Mutex
	log   *slog.Logger
	muted bool
}

func newPionLog(log *slog.Logger) *pionLog { return &pionLog{log: log} }

// NewLogger returns the logger of one part of pion.
func (l *pionLog) NewLogger(scope string) logging.LeveledLogger { return pionScope{l, scope} }

func (l *pionLog) mute() {
	l.mu.Lock()
	l.muted = true
	l.mu.Unlock()
}

func (l *pionLog) write(scope, text string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.muted {
		l.log.Debug("webrtc library warns", "scope", scope, "reason", strings.TrimSpace(text))
	}
}

type pionScope struct {
	*pionLog
	scope string
}

func (pionScope) Trace(string)          {}
func (pionScope) Tracef(string, ...any) {}
func (pionScope) Debug(string)          {}
func (pionScope) Debugf(string, ...any) {}
func (pionScope) Info(string)           {}
func (pionScope) Infof(string, ...any)  {}

func (s pionScope) Warn(text string)                  { s.write(s.scope, text) }
func (s pionScope) Warnf(format string, args ...any)  { s.write(s.scope, fmt.Sprintf(format, args...)) }
func (s pionScope) Error(text string)                 { s.write(s.scope, text) }
func (s pionScope) Errorf(format string, args ...any) { s.write(s.scope, fmt.Sprintf(format, args...)) }
