package ingest

import (
	"fmt"
	"log/slog"
	"runtime/debug"
)

// Guard calls read, which parses what one publisher sends, and makes an error of a parser's panic: one publisher's bytes must
// not end all streams. It is logged with its place, since it is a fault to be mended.
func Guard(log *slog.Logger, read func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("a parser failed: %v", p)
			log.Error("parser failed on what a publisher sent", "err", err, "stack", string(debug.Stack()))
		}
	}()
	return read()
}
