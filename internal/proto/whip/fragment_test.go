package whip

import (
	"errors"
	"reflect"
	"strings"
	"testing"
)

const (
	ufrag = "EsAw"
	pwd   = "P2uYro0UCOQ4zxjKXaWCBui1"
	host  = "candidate:1387637174 1 udp 2122260223 192.0.2.1 61764 typ host generation 0 ufrag EsAw network-id 1"
)

func TestParseFragment(t *testing.T) {
	many := "m=audio 9 RTP/AVP 0\r\na=mid:0\r\n" + strings.Repeat("a="+host+"\r\n", MaxCandidates+1)
	tests := map[string]struct {
		body string
		want Fragment
		err  string
	}{
		"trickle, RFC 9725 §4.3.1": {
			body: "a=group:BUNDLE 0 1\r\nm=audio 9 UDP/TLS/RTP/SAVPF 111\r\na=mid:0\r\na=ice-ufrag:" + ufrag + "\r\na=ice-pwd:" + pwd +
				"\r\na=" + host + "\r\na=candidate:471382590 1 tcp 1518157567 192.0.2.1 9 typ host tcptype active\r\na=end-of-candidates\r\n",
			want: Fragment{Ufrag: ufrag, Pwd: pwd, End: true, Candidates: []Candidate{{"0", host},
				{"0", "candidate:471382590 1 tcp 1518157567 192.0.2.1 9 typ host tcptype active"}}},
		},
		"session level credentials, lite, RFC 8840 §9": {
			body: "a=ice-lite\na=ice-pwd:" + pwd + "\na=ice-ufrag:" + ufrag + "\nm=audio 9 RTP/AVP 0\na=mid:foo\na=" + host + "\n" +
				"m=audio 9 RTP/AVP 0\na=mid:bar\na=" + host + "\n",
			want: Fragment{Ufrag: ufrag, Pwd: pwd, Lite: true, Candidates: []Candidate{{"foo", host}, {"bar", host}}},
		},
		"credentials repeated":        {body: "a=ice-ufrag:EsAw\na=ice-pwd:" + pwd + "\nm=audio 9 RTP/AVP 0\na=ice-ufrag:EsAw\na=ice-pwd:" + pwd, want: Fragment{Ufrag: ufrag, Pwd: pwd}},
		"mid after the candidate":     {body: "m=audio 9 RTP/AVP 0\na=" + host + "\na=mid:1\n", want: Fragment{Candidates: []Candidate{{"1", host}}}},
		"candidate without a section": {body: "a=" + host, want: Fragment{Candidates: []Candidate{{"", host}}}},
		"only the end":                {body: "a=end-of-candidates\r\n", want: Fragment{End: true}},
		"other lines":                 {body: "v=0\r\ns=-\r\na=ice-options:trickle\r\na=end-of-candidates", want: Fragment{End: true}},

		"empty":             {err: "empty"},
		"blank lines":       {body: "\r\n\r\n", err: "empty"},
		"not SDP":           {body: `{"candidate":"x"}`, err: "line 1 is not SDP"},
		"control character": {body: "a=candidate:\x00", err: "line 1 is not SDP"},
		"bare return":       {body: "a=mid:0\ra=mid:1", err: "line 1 is not SDP"},
		"ufrag alone":       {body: "a=ice-ufrag:EsAw", err: "come together"},
		"short ufrag":       {body: "a=ice-ufrag:Es\na=ice-pwd:" + pwd, err: "line 1: bad ICE credential"},
		"short pwd":         {body: "a=ice-ufrag:EsAw\na=ice-pwd:short", err: "line 2: bad ICE credential"},
		"long pwd":          {body: "a=ice-ufrag:EsAw\na=ice-pwd:" + strings.Repeat("x", 257), err: "line 2: bad ICE credential"},
		"space in pwd":      {body: "a=ice-ufrag:EsAw\na=ice-pwd:P2uYro0UCOQ4 zxjKXaWCBui1", err: "line 2: bad ICE credential"},
		"two ufrags":        {body: "a=ice-ufrag:EsAw\na=ice-ufrag:EsAx\na=ice-pwd:" + pwd, err: "line 2: two different"},
		"bad mid":           {body: "m=audio 9 RTP/AVP 0\na=mid:a b", err: "line 2: bad mid"},
		"empty candidate":   {body: "a=candidate:", err: "line 1: bad candidate"},
		"long candidate":    {body: "a=candidate:" + strings.Repeat("x", maxCandidate), err: "line 1: bad candidate"},
		"many candidates":   {body: many, err: "more than 128 candidates"},
		"large":             {body: strings.Repeat("a=x\n", MaxFragment/4+1), err: "more than 32768 bytes"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			got, err := ParseFragment([]byte(tt.body))
			if tt.err != "" {
				if !errors.Is(err, ErrFragment) || !strings.Contains(err.Error(), tt.err) {
					t.Fatalf("error %v, want %q", err, tt.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(got, tt.want) {
				t.Errorf("got  %+v\nwant %+v", got, tt.want)
			}
		})
	}
}

func TestMarshalFragment(t *testing.T) {
	got := string(Fragment{Ufrag: ufrag, Pwd: pwd, End: true, Candidates: []Candidate{{"0", host}, {"1", host}}}.Marshal())
	section := func(mid string) string {
		return "m=audio 9 RTP/AVP 0\r\na=mid:" + mid + "\r\na=ice-ufrag:EsAw\r\na=ice-pwd:" + pwd + "\r\na=" + host + "\r\n"
	}
	if want := "a=group:BUNDLE 0 1\r\n" + section("0") + section("1") + "a=end-of-candidates\r\n"; got != want {
		t.Errorf("got  %q\nwant %q", got, want)
	}
	got = string(Fragment{Ufrag: ufrag, Pwd: pwd, Lite: true}.Marshal())
	if want := "a=ice-lite\r\na=ice-ufrag:EsAw\r\na=ice-pwd:" + pwd + "\r\n"; got != want {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}

func FuzzParseFragment(f *testing.F) {
	f.Add([]byte("a=ice-lite\r\nm=audio 9 RTP/AVP 0\r\na=mid:0\r\na=ice-ufrag:" + ufrag + "\r\na=ice-pwd:" + pwd + "\r\na=" + host + "\r\na=end-of-candidates\r\n"))
	f.Add([]byte("a=" + host + "\nm=x\na=mid:1\na=" + host + "\nm=x\na=" + host))
	f.Fuzz(func(t *testing.T, b []byte) {
		parsed, err := ParseFragment(b)
		if err != nil {
			return
		}
		written := parsed.Marshal()
		if len(written) == 0 { // it said nothing about ICE
			if !reflect.DeepEqual(parsed, Fragment{}) {
				t.Fatalf("%+v writes nothing", parsed)
			}
			return
		}
		if len(written) > MaxFragment { // credentials repeated in each section may pass the limit
			return
		}
		again, err := ParseFragment(written)
		if err != nil {
			t.Fatalf("%v in %q", err, written)
		}
		if !reflect.DeepEqual(again, parsed) {
			t.Fatalf("read %+v, after writing %+v\n%q", parsed, again, written)
		}
	})
}
