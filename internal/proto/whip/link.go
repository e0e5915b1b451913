package whip

import (
	"maps"
	"slices"
	"strings"
)

// What ParseLinks takes at most: longer fields and further links are ignored.
const (
	maxLinkField  = 16 << 10 // bytes of one header field
	maxLinks      = 64
	maxLinkParams = 16
)

// RelICEServer is the relation of a Link to a STUN or TURN server (RFC 9725 §4.6).
const RelICEServer = "ice-server"

// A Link is one link of an HTTP Link header field (RFC 8288).
type Link struct {
	URL    string            // as written: it may be relative
	Rel    string            // relation types, separated by spaces
	Params map[string]string // the others, names in lower case, the first of each name; nil when there are none
}

// Is tells whether rel is among the link's relation types. They compare without regard to case (RFC 8288 §2.1).
func (l Link) Is(rel string) bool {
	return slices.ContainsFunc(strings.Fields(l.Rel), func(r string) bool { return strings.EqualFold(r, rel) })
}

// ParseLinks reads the values of all Link header fields of a message, as http.Header.Values gives them. It follows the
// tolerant algorithm of RFC 8288 appendix B.2: of what cannot be read, as much as can be is returned.
func ParseLinks(headers []string) []Link {
	var links []Link
	for _, h := range headers {
		if len(h) > maxLinkField || strings.ContainsFunc(h, func(r rune) bool { return control(r) && r != '\t' }) {
			continue
		}
		for len(links) < maxLinks {
			var l Link
			var ok bool
			if l, h, ok = nextLink(h); !ok {
				break
			}
			links = append(links, l)
		}
	}
	return links
}

// nextLink reads the first link of s and returns what follows it.
func nextLink(s string) (l Link, rest string, ok bool) {
	s = strings.TrimLeft(s, ", \t")
	if !strings.HasPrefix(s, "<") {
		return l, "", false
	}
	url, s, closed := strings.Cut(s[1:], ">")
	if !closed {
		return l, "", false
	}
	l.URL = strings.TrimSpace(url)
	rel := false
	for {
		s = strings.TrimLeft(s, " \t")
		if !strings.HasPrefix(s, ";") {
			break
		}
		var name, value string
		name, value, s = nextParam(s[1:])
		switch {
		case name == "":
		case name == "rel":
			if !rel {
				l.Rel, rel = value, true
			}
		case len(l.Params) < maxLinkParams:
			if l.Params == nil {
				l.Params = map[string]string{}
			}
			if _, have := l.Params[name]; !have {
				l.Params[name] = value
			}
		}
	}
	if i := strings.IndexByte(s, ','); i >= 0 {
		return l, s[i+1:], true
	}
	return l, "", true
}

// nextParam reads "name=value" at the beginning of s. A name that is no token is returned as empty.
func nextParam(s string) (name, value, rest string) {
	end := strings.IndexAny(s, "=;,")
	if end < 0 {
		end = len(s)
	}
	name = strings.ToLower(strings.Trim(s[:end], " \t"))
	if !token(name) {
		name = ""
	}
	s = s[end:]
	if !strings.HasPrefix(s, "=") {
		return name, "", s
	}
	s = strings.TrimLeft(s[1:], " \t")
	if !strings.HasPrefix(s, `"`) {
		end = strings.IndexAny(s, ";,")
		if end < 0 {
			end = len(s)
		}
		return name, strings.Trim(s[:end], " \t"), s[end:]
	}
	var b strings.Builder
	for i := 1; i < len(s); i++ { // quoted-string (RFC 9110 §5.6.4)
		switch s[i] {
		case '"':
			return name, b.String(), s[i+1:]
		case '\\':
			if i++; i == len(s) {
				return name, b.String(), ""
			}
		}
		b.WriteByte(s[i])
	}
	return name, b.String(), ""
}

// String writes l as the value of a Link header field, parameters sorted by name. Control characters, which would end the
// field, are left out.
func (l Link) String() string {
	var b strings.Builder
	b.WriteByte('<')
	b.WriteString(strings.ReplaceAll(printable(l.URL), ">", "%3E"))
	b.WriteByte('>')
	param := func(name, value string) {
		b.WriteString("; ")
		b.WriteString(name)
		b.WriteString(`="`)
		b.WriteString(strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(printable(value)))
		b.WriteByte('"')
	}
	if l.Rel != "" {
		param("rel", l.Rel)
	}
	for _, name := range slices.Sorted(maps.Keys(l.Params)) {
		if token(name) {
			param(name, l.Params[name])
		}
	}
	return b.String()
}

// printable works on bytes: a field may hold what is not UTF-8 (RFC 9110 §5.5).
func printable(s string) string {
	if !strings.ContainsFunc(s, func(r rune) bool { return control(r) && r != '\t' }) {
		return s
	}
	b := make([]byte, 0, len(s))
	for _, c := range []byte(s) {
		if !control(rune(c)) || c == '\t' {
			b = append(b, c)
		}
	}
	return string(b)
}
