package systemd

import (
	"context"
	"log/slog"
	"strings"

	"github.com/coreos/go-systemd/v22/journal"
)

// LogHandler returns a handler that writes to the journal where standard error is connected to it, as under systemd, and
// otherwise returns fallback. A record that the journal does not take goes to fallback too. Levels are fallback's.
func LogHandler(fallback slog.Handler) slog.Handler {
	if ours, err := journal.StderrIsJournalStream(); err != nil || !ours {
		return fallback
	}
	return &handler{fallback: fallback, send: journal.Send}
}

// A handler writes records as journal entries: the message with its keys and values for people who read, and each key as
// a field for those who search (journalctl STREAM=demo).
type handler struct {
	fallback slog.Handler // has the same attributes and groups
	send     func(message string, p journal.Priority, fields map[string]string) error
	group    string // of the attributes to come: "a.b."
	attrs    []slog.Attr
}

// Enabled asks the fallback handler.
func (h *handler) Enabled(ctx context.Context, level slog.Level) bool {
	return h.fallback.Enabled(ctx, level)
}

// Handle sends one record.
func (h *handler) Handle(ctx context.Context, r slog.Record) error {
	var message strings.Builder
	message.WriteString(r.Message)
	fields := map[string]string{}
	add := func(a slog.Attr) bool { appendAttr(&message, fields, "", a); return true }
	for _, a := range h.attrs {
		add(a)
	}
	r.Attrs(func(a slog.Attr) bool { appendAttr(&message, fields, h.group, a); return true })
	if err := h.send(message.String(), priority(r.Level), fields); err != nil {
		return h.fallback.Handle(ctx, r)
	}
	return nil
}

// WithAttrs returns a handler that adds the attributes to each record.
func (h *handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	with := *h
	with.fallback = h.fallback.WithAttrs(attrs)
	with.attrs = append([]slog.Attr(nil), h.attrs...)
	for _, a := range attrs {
		a.Key = h.group + a.Key
		with.attrs = append(with.attrs, a)
	}
	return &with
}

// WithGroup returns a handler that puts the name before the keys to come.
func (h *handler) WithGroup(name string) slog.Handler {
	if name == "" {
		return h
	}
	with := *h
	with.fallback = h.fallback.WithGroup(name)
	with.group = h.group + name + "."
	return &with
}

// appendAttr adds an attribute, or the members of a group, to the text and to the fields.
func appendAttr(message *strings.Builder, fields map[string]string, prefix string, a slog.Attr) {
	value := a.Value.Resolve() // a secret redacts itself here
	if value.Kind() == slog.KindGroup {
		if a.Key != "" {
			prefix += a.Key + "."
		}
		for _, member := range value.Group() {
			appendAttr(message, fields, prefix, member)
		}
		return
	}
	if a.Key == "" {
		return
	}
	text := value.String()
	message.WriteString(" " + prefix + a.Key + "=" + quote(text))
	if name := fieldName(prefix + a.Key); name != "" {
		fields[name] = text
	}
}

func quote(s string) string {
	if s == "" || strings.ContainsAny(s, " \t\n\"=") {
		return `"` + strings.NewReplacer(`"`, `\"`, "\n", `\n`).Replace(s) + `"`
	}
	return s
}

// fieldName returns a key as the journal allows it: capitals, digits and underscores, no underscore first, up to 64 bytes.
// Names that mean something to the journal itself are put out of its way. See systemd.journal-fields(7).
func fieldName(key string) string {
	name := strings.TrimLeft(strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z':
			return r - 'a' + 'A'
		case r >= 'A' && r <= 'Z' || r >= '0' && r <= '9':
			return r
		}
		return '_'
	}, key), "_0123456789")
	switch name {
	case "MESSAGE", "MESSAGE_ID", "PRIORITY", "ERRNO", "UNIT", "USER_UNIT", "INVOCATION_ID", "TID", "DOCUMENTATION":
		name = "GANTRY_" + name
	}
	if strings.HasPrefix(name, "CODE_") || strings.HasPrefix(name, "SYSLOG_") || strings.HasPrefix(name, "OBJECT_") {
		name = "GANTRY_" + name
	}
	return name[:min(len(name), 64)]
}

func priority(l slog.Level) journal.Priority {
	switch {
	case l >= slog.LevelError:
		return journal.PriErr
	case l >= slog.LevelWarn:
		return journal.PriWarning
	case l >= slog.LevelInfo:
		return journal.PriInfo
	}
	return journal.PriDebug
}
