package whep_test

import (
	"encoding/binary"
	"math"
	"net"
	"net/http"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pion/dtls/v3"
	"github.com/pion/rtcp"
	"github.com/pion/webrtc/v4"

	"gantry/internal/testkit"
	"gantry/media"
	"gantry/relay"
)

// A late viewer gets a key frame at once, whether the publisher makes one when asked or not, and is live soon.
func TestLateViewerStartsAtOnce(t *testing.T) {
	t.Parallel()
	for name, obeys := range map[string]bool{"publisher obeys": true, "publisher does not": false} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t, nil)
			p := publish(t, b.hub, "demo", func(p *publisher) { p.Obeys = obeys })
			testkit.Eventually(t, 5*time.Second, "the key frame is old", func() bool {
				p.mu.Lock()
				defer p.mu.Unlock()
				return len(p.frames) > 45
			})
			c := b.play(t, "demo", clientOptions{videoOnly: true})
			packets := c.pictures(80, p)
			if !obeys {
				squeezed := packets[200].Timestamp - packets[0].Timestamp
				if step := squeezed / uint32(frames(packets[:201])); step > 3000*2/3 {
					t.Errorf("pictures of the past are %d apart in RTP time: the player would stay behind", step)
				}
			}
			// Live: the newest picture's RTP time is that of its PTS.
			last := packets[len(packets)-1]
			now := p.now()
			first := packets[0]
			if got := time.Duration(last.Timestamp-first.Timestamp) * time.Second / 90000; got > now {
				t.Errorf("video has come %v far, the stream %v", got, now)
			}
		})
	}
}

func frames[P interface{ comparable }](p []P) int { return len(p)/4 + 1 } // four slices a picture, mostly one packet each

// Sender reports and abs-capture-time tell when a picture was captured.
func TestCaptureTime(t *testing.T) {
	t.Parallel()
	b := newBench(t, nil)
	p := publish(t, b.hub, "demo", nil)
	c := b.play(t, "demo", clientOptions{})
	testkit.Eventually(t, 8*time.Second, "sender reports", func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		n := len(c.video)
		return len(c.reports) >= 6 && n > 0 && c.video[n-1].Timestamp-c.video[0].Timestamp > 90000*5/4
	})
	packets := c.packets()
	var id uint8
	for _, line := range strings.Split(c.pc.RemoteDescription().SDP, "\n") {
		if m := regexp.MustCompile(`extmap:(\d+) .*abs-capture-time`).FindStringSubmatch(line); m != nil {
			id = m[1][0] - '0'
		}
	}
	stamps := 0
	var capture time.Time
	var at uint32
	for _, q := range packets {
		if ext := q.GetExtension(id); len(ext) == 8 {
			stamps++
			capture, at = fromNTP(binary.BigEndian.Uint64(ext)), q.Timestamp
			pts := capture.Sub(p.start).Round(time.Microsecond)
			if off := pts - pts.Round(time.Second/30); off.Abs() > time.Microsecond || pts < 0 || pts > p.now() {
				t.Errorf("captured %v into the stream: no picture's time", pts)
			}
		}
	}
	if stamps < 2 || len(packets[0].GetExtension(id)) != 8 {
		t.Errorf("%d packets with abs-capture-time, the first %v: want the first and one each second", stamps, packets[0].Extension)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, r := range c.reports[2:] {
		if r.SSRC != packets[0].SSRC {
			continue
		}
		d := fromNTP(r.NTPTime).Sub(capture)
		media := time.Duration(int32(r.RTPTime-at)) * time.Second / 90000
		if math.Abs(float64(d-media)) > float64(2*time.Millisecond) {
			t.Errorf("the report is %v after the stamp by NTP, %v by RTP", d, media)
		}
		if r.PacketCount == 0 || r.OctetCount == 0 {
			t.Errorf("report without counts: %+v", r)
		}
	}
}

func fromNTP(n uint64) time.Time {
	return time.Unix(int64(n>>32)-2208988800, int64(n&0xffffffff)*int64(time.Second)>>32)
}

// Which SRTP profile is used is the server's choice, among what the client has.
func TestAESCMOnlyClient(t *testing.T) {
	t.Parallel()
	b := newBench(t, nil)
	p := publish(t, b.hub, "demo", nil)
	c := b.play(t, "demo", clientOptions{setting: func(e *webrtc.SettingEngine) {
		e.SetSRTPProtectionProfiles(dtls.SRTP_AES128_CM_HMAC_SHA1_80)
	}})
	c.pictures(10, p)
}

// Where UDP is shut, media goes over ICE-TCP.
func TestTCPOnly(t *testing.T) {
	t.Parallel()
	b := newBench(t, nil)
	p := publish(t, b.hub, "demo", nil)
	c := b.play(t, "demo", clientOptions{setting: func(e *webrtc.SettingEngine) {
		e.SetNetworkTypes([]webrtc.NetworkType{webrtc.NetworkTypeTCP4})
	}})
	c.pictures(30, p)
}

// The client's new credentials are taken, and media goes on by the new pair.
func TestICERestart(t *testing.T) {
	t.Parallel()
	b := newBench(t, nil)
	p := publish(t, b.hub, "demo", nil)
	c := b.play(t, "demo", clientOptions{})
	c.pictures(10, p)
	before := c.pc.RemoteDescription().SDP
	offer := c.offer(&webrtc.OfferOptions{ICERestart: true})
	status, header, body := b.do(t, http.MethodPatch, c.location, "application/trickle-ice-sdpfrag", fragment(offer), http.Header{"If-Match": {`"*"`}})
	if status != http.StatusOK {
		status, header, body = b.do(t, http.MethodPatch, c.location, "application/trickle-ice-sdpfrag", fragment(offer), http.Header{"If-Match": {"*"}})
	}
	if status != http.StatusOK || header.Get("ETag") == c.etag {
		t.Fatalf("PATCH: %d %q %s", status, header.Get("ETag"), body)
	}
	ufrag := regexp.MustCompile(`ice-ufrag:(\S+)`)
	pwd := regexp.MustCompile(`ice-pwd:(\S+)`)
	answer := ufrag.ReplaceAllString(before, "ice-ufrag:"+ufrag.FindStringSubmatch(body)[1])
	answer = pwd.ReplaceAllString(answer, "ice-pwd:"+pwd.FindStringSubmatch(body)[1])
	if answer == before {
		t.Fatalf("the same credentials:\n%s", body)
	}
	if err := c.pc.SetRemoteDescription(webrtc.SessionDescription{Type: webrtc.SDPTypeAnswer, SDP: answer}); err != nil {
		t.Fatal(err)
	}
	// This client gives its old sockets up before it has new ones: what is sent meanwhile is lost, but no more.
	n := len(c.packets())
	testkit.Eventually(t, 5*time.Second, "media flows by the new pair", func() bool {
		return c.pc.ICEConnectionState() == webrtc.ICEConnectionStateConnected && len(c.packets()) > n+200
	})
	packets := c.packets()
	if lost := int(packets[len(packets)-1].SequenceNumber-packets[0].SequenceNumber) + 1 - len(packets); lost > 100 {
		t.Errorf("%d packets were lost", lost)
	}
}

// fragment takes ICE out of an offer.
func fragment(offer string) string {
	var b strings.Builder
	seen := map[string]bool{}
	for line := range strings.SplitSeq(offer, "\r\n") {
		switch {
		case strings.HasPrefix(line, "a=ice-ufrag"), strings.HasPrefix(line, "a=ice-pwd"):
			if !seen[line] {
				b.WriteString(line + "\r\n")
			}
			seen[line] = true
		}
	}
	b.WriteString("m=video 9 UDP/TLS/RTP/SAVPF 0\r\na=mid:0\r\n")
	for line := range strings.SplitSeq(offer, "\r\n") {
		if strings.HasPrefix(line, "a=candidate") && !seen[line] {
			b.WriteString(line + "\r\n")
			seen[line] = true
		}
	}
	return b.String()
}

// A lossy path: NACKs are answered by RTX, and every picture is whole in the end.
func TestRetransmission(t *testing.T) {
	t.Parallel()
	for name, rtx := range map[string]bool{"rtx": true, "plain": false} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t, nil)
			publish(t, b.hub, "demo", nil)
			proxy := newLossyProxy(t, b.port.Addr().Port(), 20)
			o := clientOptions{interceptor: true}
			if !rtx {
				o.codecs = func(m *webrtc.MediaEngine) error {
					if err := m.RegisterCodec(webrtc.RTPCodecParameters{PayloadType: 96, RTPCodecCapability: webrtc.RTPCodecCapability{
						MimeType: webrtc.MimeTypeH264, ClockRate: 90000, SDPFmtpLine: "level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f"}},
						webrtc.RTPCodecTypeVideo); err != nil {
						return err
					}
					return m.RegisterCodec(webrtc.RTPCodecParameters{PayloadType: 111, RTPCodecCapability: webrtc.RTPCodecCapability{
						MimeType: webrtc.MimeTypeOpus, ClockRate: 48000, Channels: 2}}, webrtc.RTPCodecTypeAudio)
				}
			}
			c := newClient(t, o)
			status, header, answer := b.do(t, http.MethodPost, b.url+"/whep/demo", "application/sdp", c.offer(nil), nil)
			if status != http.StatusCreated {
				t.Fatalf("POST: %d %s", status, answer)
			}
			c.location = header.Get("Location")
			answer = proxy.rewrite(answer, b.port.Addr().Port())
			if err := c.pc.SetRemoteDescription(webrtc.SessionDescription{Type: webrtc.SDPTypeAnswer, SDP: answer}); err != nil {
				t.Fatal(err)
			}
			testkit.Eventually(t, 15*time.Second, "300 packets arrive", func() bool { return len(c.packets()) >= 300 })
			testkit.Eventually(t, 5*time.Second, "all gaps are filled", func() bool {
				have := map[uint16]bool{}
				packets := c.packets()[:300]
				low, high := packets[0].SequenceNumber, packets[0].SequenceNumber
				for _, q := range c.packets() {
					have[q.SequenceNumber] = true
				}
				for _, q := range packets {
					if int16(q.SequenceNumber-high) > 0 {
						high = q.SequenceNumber
					}
				}
				missing := 0
				for s := low; s != high; s++ {
					if !have[s] {
						missing++
					}
				}
				return missing == 0
			})
			if proxy.dropped.Load() == 0 {
				t.Error("the proxy dropped nothing: nothing was tested")
			}
			if s := b.server.Stats(); s.NACKs == 0 || s.Retransmitted == 0 {
				t.Errorf("no retransmission: %+v", s)
			}
		})
	}
}

// A lossyProxy is a UDP path that drops each nth packet of media towards the client.
type lossyProxy struct {
	front   *net.UDPConn // for the client
	dropped atomic.Int64
}

func newLossyProxy(t testing.TB, port uint16, nth int) *lossyProxy {
	t.Helper()
	front, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	back, err := net.DialUDP("udp4", nil, &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: int(port)})
	if err != nil {
		t.Fatal(err)
	}
	p := &lossyProxy{front: front}
	var client atomic.Pointer[net.UDPAddr]
	done := make(chan struct{}, 2)
	go func() {
		defer func() { done <- struct{}{} }()
		b := make([]byte, 2048)
		for {
			n, from, err := front.ReadFromUDP(b)
			if err != nil {
				return
			}
			client.Store(from)
			_, _ = back.Write(b[:n])
		}
	}()
	go func() {
		defer func() { done <- struct{}{} }()
		b := make([]byte, 2048)
		count := 0
		for {
			n, err := back.Read(b)
			if err != nil {
				return
			}
			if n > 500 && b[0] >= 128 && b[0] < 192 {
				if count++; count%nth == 0 {
					p.dropped.Add(1)
					continue
				}
			}
			if to := client.Load(); to != nil {
				_, _ = front.WriteToUDP(b[:n], to)
			}
		}
	}()
	t.Cleanup(func() { _ = front.Close(); _ = back.Close(); <-done; <-done })
	return p
}

// rewrite makes an answer's UDP candidates lead to the proxy, and drops the others.
func (p *lossyProxy) rewrite(answer string, port uint16) string {
	var out []string
	for line := range strings.SplitSeq(answer, "\r\n") {
		if strings.HasPrefix(line, "a=candidate") {
			if !strings.Contains(line, " udp ") {
				continue
			}
			f := strings.Fields(line)
			_, f[5], _ = net.SplitHostPort(p.front.LocalAddr().String())
			line = strings.Join(f, " ")
		}
		out = append(out, line)
	}
	return strings.Join(out, "\r\n")
}

// A publisher that comes back goes on where the last one stopped; the viewers notice a pause at most.
func TestPublisherRestart(t *testing.T) {
	t.Parallel()
	b := newBench(t, nil)
	p := publish(t, b.hub, "demo", nil)
	c := b.play(t, "demo", clientOptions{})
	n := len(c.pictures(20, p))
	p.close()
	q := publish(t, b.hub, "demo", nil)
	p.mu.Lock()
	q.mu.Lock()
	q.frames = append(p.frames, q.frames...)
	q.mu.Unlock()
	p.mu.Unlock()
	c.pictures(n/4+40, q)
	if s := b.server.Stats(); s.Viewers != 1 {
		t.Errorf("%d viewers after the publisher's return", s.Viewers)
	}
}

// A stream that ends, or changes its codecs, closes its viewers' sessions: players come anew.
func TestStreamEnds(t *testing.T) {
	t.Parallel()
	b := newBench(t, nil)
	p := publish(t, b.hub, "demo", nil)
	c := b.play(t, "demo", clientOptions{})
	c.pictures(5, p)
	pub, err := b.hub.Publish("demo", relay.Publisher{Tracks: []media.Track{{Codec: media.VP8, Packing: media.RTP, ClockRate: 90000}}})
	if err != nil {
		t.Fatal(err)
	}
	defer pub.Close()
	pub.Write(&media.Packet{Start: true, End: true, Key: true, Data: []byte{0x10, 0}})
	testkit.Eventually(t, 5*time.Second, "the viewer is told", func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		return c.state >= webrtc.PeerConnectionStateDisconnected
	})
	testkit.Eventually(t, 5*time.Second, "its session is gone", func() bool {
		status, _, _ := b.do(t, http.MethodDelete, c.location, "", "", nil)
		return status == http.StatusNotFound
	})
}

// A viewer's requests for a key frame reach the publisher, all together not too often.
func TestPictureLossIsCoalesced(t *testing.T) {
	t.Parallel()
	b := newBench(t, nil)
	p := publish(t, b.hub, "demo", nil)
	c := b.play(t, "demo", clientOptions{})
	packets := c.pictures(20, p)
	asked := p.Asked.Load()
	for range 20 {
		if err := c.pc.WriteRTCP([]rtcp.Packet{&rtcp.PictureLossIndication{MediaSSRC: packets[0].SSRC}}); err != nil {
			t.Fatal(err)
		}
	}
	testkit.Eventually(t, 3*time.Second, "the requests arrive", func() bool { return b.server.Stats().PLIs >= 20 })
	testkit.Eventually(t, 3*time.Second, "the publisher is asked", func() bool { return p.Asked.Load() > asked })
	if n := p.Asked.Load() - asked; n > 2 {
		t.Errorf("the publisher was asked %d times", n)
	}
}
