package whep

import (
	"encoding/hex"
	"fmt"
	"strings"

	"gantry/media"
)

// parameters splits a=fmtp's value ("a=1;b=2") into keys, in lower case, and values.
func parameters(fmtp string) map[string]string {
	m := map[string]string{}
	for part := range strings.SplitSeq(fmtp, ";") {
		k, v, _ := strings.Cut(strings.TrimSpace(part), "=")
		if k != "" {
			m[strings.ToLower(k)] = strings.TrimSpace(v)
		}
	}
	return m
}

// rtpmap returns what a=rtpmap says of a track's codec, without the payload type; empty when WebRTC has no such codec.
func rtpmap(t media.Track) string {
	switch t.Codec {
	case media.H264, media.H265, media.AV1, media.VP8, media.VP9:
		return t.Codec.String() + "/90000"
	case media.Opus:
		return "opus/48000/2" // whatever the channels (RFC 7587 §4.1)
	}
	return ""
}

// efficiency ranks codecs by how good a picture they give for a bit rate; more is better.
func efficiency(c media.Codec) int {
	switch c {
	case media.AV1:
		return 4
	case media.H265:
		return 3
	case media.VP9:
		return 2
	case media.H264:
		return 1
	}
	return 0
}

// decodes ranks how well a format that a client offers suits a track: 0 not at all, more is better.
func decodes(offered map[string]string, t media.Track) int {
	switch t.Codec {
	case media.H264:
		if offered["packetization-mode"] != "1" { // fragmentation units need it (RFC 6184 §6.3)
			return 0
		}
		if t.Profile == "" {
			return 1
		}
		have, ok := h264Profile(t.Profile)
		if !ok {
			return 1
		}
		level := offered["profile-level-id"]
		if level == "" {
			level = "42000a" // RFC 6184 §8.1
		}
		can, ok := h264Profile(level)
		if !ok {
			return 0
		}
		if can == have {
			return 3
		}
		for _, p := range decodable[have] {
			if p == can {
				return 2
			}
		}
		return 0
	case media.VP9:
		if p := offered["profile-id"]; p != "" && p != "0" {
			return 0
		}
	}
	return 1
}

// profile is one of H.264's as RFC 6184 §8.1 (table 5) tells them apart.
type profile string

const (
	constrainedBaseline profile = "constrained baseline"
	baseline            profile = "baseline"
	mainProfile         profile = "main"
	extended            profile = "extended"
	constrainedHigh     profile = "constrained high"
	high                profile = "high"
)

// decodable says which other profiles' decoders can decode a profile. Baseline's own tools (FMO, ASO) are used by no encoder
// that publishes in practice, so that it counts as constrained.
var decodable = map[profile][]profile{
	constrainedBaseline: {baseline, mainProfile, constrainedHigh, high, extended},
	baseline:            {constrainedBaseline, mainProfile, high, extended},
	mainProfile:         {high, constrainedHigh},
	constrainedHigh:     {high},
	high:                {constrainedHigh},
}

// h264Profile reads the profile out of a profile-level-id.
func h264Profile(id string) (profile, bool) {
	b, err := hex.DecodeString(id)
	if err != nil || len(b) != 3 {
		return "", false
	}
	idc, iop := b[0], b[1]
	switch {
	case idc == 0x42 && iop&0x40 != 0, idc == 0x4d && iop&0x80 != 0, idc == 0x58 && iop&0xc0 == 0xc0:
		return constrainedBaseline, true
	case idc == 0x42, idc == 0x58 && iop&0x80 != 0:
		return baseline, true
	case idc == 0x4d:
		return mainProfile, true
	case idc == 0x58:
		return extended, true
	case idc == 0x64 && iop&0x0c == 0x0c:
		return constrainedHigh, true
	case idc == 0x64:
		return high, true
	}
	return profile(fmt.Sprintf("profile %#x", idc)), true
}

// fmtpOf returns a=fmtp's value for a track in an answer to offered, or in an offer when that is nil.
func fmtpOf(t media.Track, offered map[string]string) string {
	switch t.Codec {
	case media.H264:
		id := t.Profile
		if id == "" {
			id = offered["profile-level-id"]
		}
		if id == "" {
			id = "42e01f"
		}
		return "level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=" + strings.ToLower(id)
	case media.Opus:
		return "minptime=10;useinbandfec=1;stereo=1;sprop-stereo=1"
	case media.VP9:
		return "profile-id=0"
	case media.H265, media.AV1:
		var kept []string
		for _, k := range []string{"level-id", "profile-id", "tier-flag", "tx-mode", "level-idx", "profile", "tier"} {
			if v, ok := offered[k]; ok {
				kept = append(kept, k+"="+v)
			}
		}
		return strings.Join(kept, ";")
	}
	return ""
}

// describe names a track for a user.
func describe(t media.Track) string {
	if t.Codec == media.H264 && t.Profile != "" {
		if p, ok := h264Profile(t.Profile); ok {
			return fmt.Sprintf("H264 (%s, %s)", p, t.Profile)
		}
	}
	return t.Codec.String()
}
