// Package secret holds values that must not be seen: tokens, passwords, stream keys. It knows nothing of where they come from
// or what they open.
package secret

import (
	"fmt"
	"io"
	"log/slog"
)

// Redacted is what a String that is not empty shows everywhere.
const Redacted = "(secret)"

// A String is a text that shows itself as Redacted in every print verb, in logs, JSON, YAML and text encodings, whatever
// structure it is a field of. It decodes like any string and is comparable. Reveal is the one way out.
type String string

// Reveal returns the text itself, for the wire that needs it.
func (s String) Reveal() string { return string(s) }

// String returns Redacted, or nothing for an empty value: whether there is a secret is no secret.
func (s String) String() string {
	if s == "" {
		return ""
	}
	return Redacted
}

// Format prints String() for every verb: without it %d would print the text.
func (s String) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, s.String()) }

// LogValue is what log/slog records.
func (s String) LogValue() slog.Value { return slog.StringValue(s.String()) }

// MarshalText is what encoding/json, yaml and their like write.
func (s String) MarshalText() ([]byte, error) { return []byte(s.String()), nil }
