package e2e

import (
	"encoding/binary"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pion/ice/v4"
	"github.com/pion/rtp/codecs"
	"github.com/pion/webrtc/v4"

	"gantry/internal/testkit"
	"gantry/media"
	"gantry/media/sei"
)

// A seen is an access unit that a viewer got whole, with its abs-capture-time if it has one.
type seen struct {
	au      []byte
	capture time.Time
}

// watchPictures plays a stream as a WHEP viewer, on pion/webrtc, and returns whole access units.
func watchPictures(t *testing.T, url string) <-chan seen {
	t.Helper()
	var m webrtc.MediaEngine
	if err := m.RegisterDefaultCodecs(); err != nil {
		t.Fatal(err)
	}
	const uri = "http://www.webrtc.org/experiments/rtp-hdrext/abs-capture-time"
	if err := m.RegisterHeaderExtension(webrtc.RTPHeaderExtensionCapability{URI: uri}, webrtc.RTPCodecTypeVideo); err != nil {
		t.Fatal(err)
	}
	var e webrtc.SettingEngine
	e.SetIncludeLoopbackCandidate(true)
	e.SetICEMulticastDNSMode(ice.MulticastDNSModeDisabled)
	pc, err := webrtc.NewAPI(webrtc.WithMediaEngine(&m), webrtc.WithSettingEngine(e)).NewPeerConnection(webrtc.Configuration{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = pc.Close() })
	if _, err := pc.AddTransceiverFromKind(webrtc.RTPCodecTypeVideo, webrtc.RTPTransceiverInit{Direction: webrtc.RTPTransceiverDirectionRecvonly}); err != nil {
		t.Fatal(err)
	}
	out := make(chan seen, 256)
	pc.OnTrack(func(track *webrtc.TrackRemote, receiver *webrtc.RTPReceiver) {
		id := uint8(0)
		for _, x := range receiver.GetParameters().HeaderExtensions {
			if x.URI == uri {
				id = uint8(x.ID)
			}
		}
		var d codecs.H264Packet
		var now seen
		for {
			p, _, err := track.ReadRTP()
			if err != nil {
				return
			}
			if x := p.GetExtension(id); len(x) >= 8 { // seconds since 1900 in 32.32 bits
				ntp := binary.BigEndian.Uint64(x)
				now.capture = time.Unix(int64(ntp>>32)-2_208_988_800, int64(ntp&0xffffffff)*1e9>>32)
			}
			b, err := d.Unmarshal(p.Payload)
			if err != nil {
				return
			}
			if now.au = append(now.au, b...); p.Marker {
				select {
				case out <- now:
				default:
				}
				now = seen{}
			}
		}
	})
	offer, err := pc.CreateOffer(nil)
	if err != nil {
		t.Fatal(err)
	}
	gathered := webrtc.GatheringCompletePromise(pc)
	if err := pc.SetLocalDescription(offer); err != nil {
		t.Fatal(err)
	}
	<-gathered
	res, err := http.Post(url, "application/sdp", strings.NewReader(pc.LocalDescription().SDP))
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	defer http.DefaultClient.CloseIdleConnections()
	answer, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode != http.StatusCreated {
		t.Fatalf("%s: %s, %v", url, res.Status, err)
	}
	if err := pc.SetRemoteDescription(webrtc.SessionDescription{Type: webrtc.SDPTypeAnswer, SDP: string(answer)}); err != nil {
		t.Fatal(err)
	}
	return out
}

// The time of capture that a picture carries in the stream, and the one that RTP carries beside it, are the same when a viewer gets
// both, from the box through the relay.
func TestCaptureTimeReachesTheViewer(t *testing.T) {
	base := startRelay(t)
	config := filepath.Join(t.TempDir(), "gantryd.yaml")
	if err := os.WriteFile(config, []byte(fmt.Sprintf(`http: ""
video: {testsrc: {width: 320, height: 180, rate: 29.97}}
encoder: {timecode: utc}
uplinks:
- {name: relay, whip: {url: "%s/whip/demo"}}
`, base)), 0o600); err != nil {
		t.Fatal(err)
	}
	testkit.Start(t, testkit.Bin(t, "gantryd"), "--config", config)
	firstPicture(t, base)
	pictures := watchPictures(t, base+"/whep/demo")
	limit := time.After(30 * time.Second)
	for both, worst := 0, time.Duration(0); both < 3; {
		select {
		case p := <-pictures:
			at, ok := sei.UTCOf(media.H264, p.au)
			if !ok {
				t.Fatalf("a picture of %d bytes without its time", len(p.au))
			}
			if p.capture.IsZero() {
				continue // it comes once a second
			}
			off := p.capture.Sub(at) // whole milliseconds, cut off
			worst = max(worst, off.Abs())
			if off < -time.Millisecond || off > 3*time.Millisecond {
				t.Errorf("captured at %v by the stream, at %v by RTP", at, p.capture)
			}
			if age := time.Since(at); age < 0 || age > 10*time.Second {
				t.Errorf("captured %v ago", age)
			}
			if both++; both == 3 {
				t.Logf("at most %v between the two", worst)
			}
		case <-limit:
			t.Fatal("no three pictures with both times in 30 s")
		}
	}
}
