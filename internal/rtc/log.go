package rtc

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/pion/logging"
)

// pionLogs passes what pion's packages log on to slog. What they warn of is a peer's trouble, not the operator's: Debug.
type pionLogs struct{ log *slog.Logger }

// NewLogger returns the logger of one pion package.
func (l pionLogs) NewLogger(scope string) logging.LeveledLogger { return pionLog{l.log, scope} }

type pionLog struct {
	log   *slog.Logger
	scope string
}

func (l pionLog) put(level slog.Level, format string, args ...any) {
	if !l.log.Enabled(context.Background(), level) {
		return
	}
	if len(args) > 0 {
		format = fmt.Sprintf(format, args...)
	}
	l.log.Log(context.Background(), level, "transport", "layer", l.scope, "reason", format)
}

const trace = slog.LevelDebug - 4

func (l pionLog) Trace(msg string)             { l.put(trace, msg) }
func (l pionLog) Tracef(f string, args ...any) { l.put(trace, f, args...) }
func (l pionLog) Debug(msg string)             { l.put(trace, msg) }
func (l pionLog) Debugf(f string, args ...any) { l.put(trace, f, args...) }
func (l pionLog) Info(msg string)              { l.put(trace, msg) }
func (l pionLog) Infof(f string, args ...any)  { l.put(trace, f, args...) }
func (l pionLog) Warn(msg string)              { l.put(slog.LevelDebug, msg) }
func (l pionLog) Warnf(f string, args ...any)  { l.put(slog.LevelDebug, f, args...) }
func (l pionLog) Error(msg string)             { l.put(slog.LevelDebug, msg) }
func (l pionLog) Errorf(f string, args ...any) { l.put(slog.LevelDebug, f, args...) }
