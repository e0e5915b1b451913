package whip

import (
	"errors"
	"fmt"
	"strings"
)

// FragmentType is the media type of a Fragment in an HTTP body (RFC 8840 §9).
const FragmentType = "application/trickle-ice-sdpfrag"

// What ParseFragment takes at most.
const (
	MaxFragment   = 32 << 10 // bytes
	MaxCandidates = 128

	maxCandidate  = 1024 // bytes of one candidate
	maxCredential = 256  // RFC 8839 §5.4
	minUfrag      = 4
	minPwd        = 22
	maxMID        = 64
)

// ErrFragment is wrapped by every error of ParseFragment.
var ErrFragment = errors.New("malformed ICE fragment")

// A Candidate is one ICE candidate and the media section that it belongs to.
type Candidate struct {
	MID   string // RFC 5888 identification tag; empty where the sender named none
	Value string // "candidate:…" (RFC 8839 §5.1), without "a="
}

// A Fragment is a piece of SDP that carries ICE parameters and nothing else: trickled candidates, or the credentials of an
// ICE restart (RFC 8840, RFC 9725 §4.3). All media share one transport (max-bundle), so it has one pair of credentials.
type Fragment struct {
	Ufrag, Pwd string // both or neither
	Lite       bool
	Candidates []Candidate
	End        bool // no more candidates will come for these credentials
}

// ParseFragment reads an application/trickle-ice-sdpfrag body. Lines that say nothing about ICE are ignored, as are the
// contents of candidates: whoever uses one decides whether it can. The error wraps ErrFragment.
func ParseFragment(b []byte) (Fragment, error) {
	var f Fragment
	if len(b) > MaxFragment {
		return f, fmt.Errorf("%w: more than %d bytes", ErrFragment, MaxFragment)
	}
	section := 0 // index of the first candidate of this media section
	mid := ""
	lines := 0
	for n, line := range strings.Split(string(b), "\n") {
		line = strings.TrimSuffix(line, "\r")
		if line == "" {
			continue
		}
		if len(line) < 2 || line[1] != '=' || strings.ContainsFunc(line, control) {
			return Fragment{}, fmt.Errorf("%w: line %d is not SDP", ErrFragment, n+1)
		}
		lines++
		if line[0] == 'm' {
			section, mid = len(f.Candidates), ""
			continue
		}
		if line[0] != 'a' {
			continue
		}
		var err error
		key, value, _ := strings.Cut(line[2:], ":")
		switch key {
		case "ice-ufrag":
			err = f.credential(&f.Ufrag, value, minUfrag)
		case "ice-pwd":
			err = f.credential(&f.Pwd, value, minPwd)
		case "ice-lite":
			f.Lite = true
		case "end-of-candidates":
			f.End = true
		case "mid":
			if !token(value) || len(value) > maxMID {
				err = errors.New("bad mid")
				break
			}
			mid = value
			for i := section; i < len(f.Candidates); i++ {
				f.Candidates[i].MID = mid
			}
		case "candidate":
			switch {
			case len(f.Candidates) == MaxCandidates:
				err = fmt.Errorf("more than %d candidates", MaxCandidates)
			case value == "" || len(line) > maxCandidate:
				err = errors.New("bad candidate")
			default:
				f.Candidates = append(f.Candidates, Candidate{MID: mid, Value: line[2:]})
			}
		}
		if err != nil {
			return Fragment{}, fmt.Errorf("%w: line %d: %v", ErrFragment, n+1, err)
		}
	}
	if lines == 0 {
		return Fragment{}, fmt.Errorf("%w: empty", ErrFragment)
	}
	if (f.Ufrag == "") != (f.Pwd == "") {
		return Fragment{}, fmt.Errorf("%w: ice-ufrag and ice-pwd come together", ErrFragment)
	}
	return f, nil
}

// credential stores value in *to. The same value may come once a media section; two different ones cannot be followed.
func (f *Fragment) credential(to *string, value string, least int) error {
	if len(value) < least || len(value) > maxCredential || strings.ContainsFunc(value, notICEChar) {
		return errors.New("bad ICE credential")
	}
	if *to != "" && *to != value {
		return errors.New("two different ICE credentials")
	}
	*to = value
	return nil
}

// Marshal writes f as an application/trickle-ice-sdpfrag body: one media section for each run of candidates of the same
// MID, headed by the pseudo m-line of RFC 8840 §4.4. Credentials stand in each section, where RFC 9725's examples have them,
// and at session level when there is none.
func (f Fragment) Marshal() []byte {
	var b strings.Builder
	line := func(parts ...string) {
		for _, p := range parts {
			b.WriteString(p)
		}
		b.WriteString("\r\n")
	}
	credentials := func() {
		if f.Ufrag != "" {
			line("a=ice-ufrag:", f.Ufrag)
			line("a=ice-pwd:", f.Pwd)
		}
	}
	if f.Lite {
		line("a=ice-lite")
	}
	if mids := f.mids(); len(mids) > 0 {
		line("a=group:BUNDLE ", strings.Join(mids, " "))
	}
	if len(f.Candidates) == 0 || f.Candidates[0].MID == "" {
		credentials()
	}
	mid := ""
	for _, c := range f.Candidates {
		if c.MID != mid {
			mid = c.MID
			line("m=audio 9 RTP/AVP 0")
			if mid != "" {
				line("a=mid:", mid)
			}
			credentials()
		}
		line("a=", c.Value)
	}
	if f.End {
		line("a=end-of-candidates")
	}
	return []byte(b.String())
}

// mids returns the media sections that f names, in order.
func (f Fragment) mids() []string {
	var mids []string
	seen := map[string]bool{"": true}
	for _, c := range f.Candidates {
		if !seen[c.MID] {
			seen[c.MID] = true
			mids = append(mids, c.MID)
		}
	}
	return mids
}

func control(r rune) bool { return r < ' ' || r == 0x7f }

// notICEChar is the complement of ice-char (RFC 8839 §5.4). Base64's '=' and URL-safe base64's '-' and '_' come from peers
// that draw their credentials so, and do no harm.
func notICEChar(r rune) bool {
	return !('a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' || strings.ContainsRune("+/=-_", r))
}

// token tells whether s is a token (RFC 8866 §9; the same characters as RFC 9110 §5.6.2).
func token(s string) bool {
	return s != "" && !strings.ContainsFunc(s, func(r rune) bool {
		return r <= ' ' || r >= 0x7f || strings.ContainsRune(`"(),/:;<=>?@[\]`, r)
	})
}
