package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/pion/rtp/codecs"
	"github.com/pion/webrtc/v4"
	"golang.org/x/sys/unix"

	"gantry/internal/proto/mpegts"
	"gantry/internal/testkit"
	"gantry/internal/testkit/netns"
	"gantry/media"
	"gantry/media/h264"
)

// stampMark begins what an exact encoder writes into each picture: when it was made, its number, and how long it is. All bytes
// have their highest bit set, so that no start code arises.
const stampMark = "\xe7\xe1\xee\xf4\xf2\xf9"

const stampSize = len(stampMark) + 8 + 4 + 4

func appendStamp(b []byte, at time.Time, number, size int) []byte {
	b = append(b, stampMark...)
	for _, v := range []struct {
		value uint64
		bytes int
	}{{uint64(at.UnixNano()), 8}, {uint64(number), 4}, {uint64(size), 4}} {
		for i := v.bytes - 1; i >= 0; i-- {
			b = append(b, byte(v.value>>(7*i))|0x80)
		}
	}
	return b
}

// A glimpse is a picture that came whole.
type glimpse struct {
	Number int
	Key    bool
	Late   time.Duration // from its being made until it was here
}

// look reads the stamp of an access unit. false: there is none, or the picture is not whole.
func look(au []byte) (g glimpse, ok bool) {
	for n := range h264.NALUs(au) {
		t := h264.TypeOf(n)
		if t != h264.IDR && t != h264.NonIDR || len(n) < 2+stampSize || string(n[2:2+len(stampMark)]) != stampMark {
			continue
		}
		var values [3]uint64
		at := 2 + len(stampMark)
		for i, size := range []int{8, 4, 4} {
			for range size {
				values[i] = values[i]<<7 | uint64(n[at]&0x7f)
				at++
			}
		}
		now := uint64(time.Now().UnixNano())
		made := now&^(1<<56-1) | values[0]
		return glimpse{int(values[1]), t == h264.IDR, time.Duration(now - made)}, len(n) == int(values[2])
	}
	return g, false
}

// judge counts the pictures between two numbers that a player shows which waits no longer than patience for any: whole, in
// time, and so all before them since a key frame, whole at least.
func judge(all []glimpse, from, to int, patience time.Duration) (share float64, late []time.Duration) {
	here := map[int]glimpse{}
	for _, g := range all {
		here[g.Number] = g
	}
	shown, decodable := 0, true
	for n := from; n < to; n++ {
		g, ok := here[n]
		decodable = ok && (decodable || g.Key)
		if ok {
			late = append(late, g.Late)
		}
		if decodable && g.Late <= patience {
			shown++
		}
	}
	slices.Sort(late)
	return float64(shown) / float64(max(1, to-from)), late
}

func TestStamp(t *testing.T) {
	body := appendStamp([]byte{0x65, 0x88}, time.Now().Add(-time.Second), 300, 2+stampSize+5)
	au := h264.Append(nil, append(body, "noise"...))
	g, ok := look(au)
	if !ok || g.Number != 300 || !g.Key || g.Late < time.Second || g.Late > 2*time.Second {
		t.Errorf("%+v %v", g, ok)
	}
	if _, ok := look(au[:len(au)-1]); ok {
		t.Error("a torn picture is whole")
	}
	all := []glimpse{{Number: 1, Key: true}, {Number: 2}, {Number: 4}, {Number: 5, Key: true}, {Number: 6, Late: time.Second}, {Number: 7}}
	if share, late := judge(all, 1, 9, time.Second/2); share != 4.0/8 || len(late) != 6 {
		t.Errorf("%v, %d", share, len(late))
	}
}

const viewerURL = "GANTRY_TEST_LINK_VIEWER"

// TestLinkViewer is the viewer of TestLossMatrix, in a process of its own, as a namespace needs it: a WHEP player that prints
// each whole picture.
func TestLinkViewer(t *testing.T) {
	url := os.Getenv(viewerURL)
	if url == "" {
		t.Skip("part of TestLossMatrix")
	}
	stop, cancel := signal.NotifyContext(t.Context(), syscall.SIGTERM)
	defer cancel()
	// What waited for a packet comes at once: more than the kernel's default buffer holds, and there is no player to ask again.
	conn, err := net.ListenUDP("udp4", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	raw, err := conn.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	if err := raw.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 8<<20) }); err != nil {
		t.Fatal(err)
	}
	var settings webrtc.SettingEngine
	settings.SetICEUDPMux(webrtc.NewICEUDPMux(nil, conn))
	engine := &webrtc.MediaEngine{}
	if err := engine.RegisterDefaultCodecs(); err != nil {
		t.Fatal(err)
	}
	api := webrtc.NewAPI(webrtc.WithMediaEngine(engine), webrtc.WithSettingEngine(settings))
	pc, err := api.NewPeerConnection(webrtc.Configuration{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = pc.GracefulClose() }()
	if _, err := pc.AddTransceiverFromKind(webrtc.RTPCodecTypeVideo, webrtc.RTPTransceiverInit{Direction: webrtc.RTPTransceiverDirectionRecvonly}); err != nil {
		t.Fatal(err)
	}
	out := json.NewEncoder(os.Stdout)
	pc.OnTrack(func(track *webrtc.TrackRemote, _ *webrtc.RTPReceiver) {
		var d codecs.H264Packet
		var au []byte
		var ts uint32
		for {
			p, _, err := track.ReadRTP()
			if err != nil {
				return
			}
			if p.Timestamp != ts {
				au, ts, d = nil, p.Timestamp, codecs.H264Packet{}
			}
			b, err := d.Unmarshal(p.Payload)
			if err != nil {
				continue
			}
			if au = append(au, b...); p.Marker {
				if g, ok := look(au); ok {
					_ = out.Encode(g)
				}
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
	var res *http.Response
	testkit.Eventually(t, 20*time.Second, "the stream", func() bool {
		res, err = http.Post(url, "application/sdp", strings.NewReader(pc.LocalDescription().SDP))
		if err == nil && res.StatusCode == http.StatusCreated {
			return true
		}
		if err == nil {
			res.Body.Close()
		}
		return false
	})
	answer, err := io.ReadAll(res.Body)
	res.Body.Close()
	if err != nil {
		t.Fatal(err)
	}
	if err := pc.SetRemoteDescription(webrtc.SessionDescription{Type: webrtc.SDPTypeAnswer, SDP: string(answer)}); err != nil {
		t.Fatal(err)
	}
	<-stop.Done()
}

// A gallery collects what a viewer saw.
type gallery struct {
	mu  sync.Mutex
	all []glimpse
}

func (s *gallery) add(g glimpse) {
	s.mu.Lock()
	s.all = append(s.all, g)
	s.mu.Unlock()
}

func (s *gallery) seen() []glimpse {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.all)
}

// newest returns the highest number that has come.
func (s *gallery) newest() (n int) {
	for _, g := range s.seen() {
		n = max(n, g.Number)
	}
	return n
}

func startLinkViewer(t *testing.T, there *netns.Namespace, url string) *gallery {
	t.Helper()
	cmd := there.Command(os.Args[0], "-test.run=^TestLinkViewer$", "-test.timeout=5m")
	cmd.Env = append(os.Environ(), viewerURL+"="+url)
	s := &gallery{}
	startTold(t, cmd, func(g glimpse) {
		if g.Number > 0 {
			s.add(g)
		}
	})
	return s
}

// collect is the mpegts.Sink of the peer's receiving end.
type collect struct{ *gallery }

func (c collect) Programme([]media.Track) error { return nil }
func (c collect) Video(_ int, _, _ time.Duration, nalus [][]byte) {
	var au []byte
	for _, n := range nalus {
		au = h264.Append(au, n)
	}
	if g, ok := look(au); ok {
		c.add(g)
	}
}
func (c collect) Audio(int, time.Duration, []byte) {}
func (c collect) Lost(int)                         {}
func (c collect) Fault(string, string)             {}

// startPeers has libsrt's own tool send and receive what an exact encoder makes.
func startPeers(t *testing.T, here, there *netns.Namespace, latency time.Duration) *gallery {
	t.Helper()
	at := net.JoinHostPort(there.Addr.String(), "9000")
	far := there.Command("srt-live-transmit", "-q", "-a:no", fmt.Sprintf("srt://%s?mode=listener&latency=%d", at, latency.Milliseconds()), "file://con")
	near := here.Command("srt-live-transmit", "-q", "-a:no", "-chunk:1316", "file://con", fmt.Sprintf("srt://%s?mode=caller&latency=%d", at, latency.Milliseconds()))
	out, err := far.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	in, err := near.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	s := &gallery{}
	var work sync.WaitGroup
	if err := far.Start(); err != nil {
		t.Fatal(err)
	}
	work.Go(func() {
		for err := error(nil); err == nil; { // the reader ends where the programme changes
			err = mpegts.Read(out, collect{s}, slog.New(slog.DiscardHandler))
		}
	})
	time.Sleep(300 * time.Millisecond) // the listener listens
	if err := near.Start(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	work.Go(func() {
		ts, err := mpegts.NewWriter(in, []media.Track{{Codec: media.H264, ClockRate: 90000}})
		if err != nil {
			t.Error(err)
			return
		}
		tick := time.NewTicker(time.Second / 30)
		defer tick.Stop()
		e := newExact(linkCeiling, 30)
		begin := time.Now()
		for n := 0; ; n++ {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			pts := time.Second + time.Since(begin)
			if ts.Write(&media.Packet{PTS: pts, DTS: pts, Start: true, End: true, Key: n%30 == 0, Data: e.unit(n%30 == 0)}) != nil {
				return
			}
		}
	})
	t.Cleanup(func() {
		cancel()
		for _, c := range []*exec.Cmd{near, far} {
			_ = c.Process.Kill()
		}
		work.Wait()
		_, _ = near.Wait(), far.Wait()
	})
	return s
}

// TestLossMatrix prints which share of the pictures a viewer gets in time, from gantryd through a lossy network to gantry-relay
// and its viewer, by WHIP and by SRT, and by libsrt's own tool beside it. GANTRY_TEST_LINKS=matrix runs it (make bench-links).
func TestLossMatrix(t *testing.T) {
	if os.Getenv("GANTRY_TEST_LINKS") != "matrix" {
		t.Skip("GANTRY_TEST_LINKS=matrix")
	}
	const measured = 8 * time.Second
	table := map[string]map[string]string{}
	var columns []string
	for _, rtt := range []time.Duration{20, 100, 200} {
		for _, loss := range []float64{0, 0.01, 0.05, 0.1} {
			rtt := rtt * time.Millisecond
			column := fmt.Sprintf("%.0f %% × %v", 100*loss, rtt)
			columns = append(columns, column)
			for _, kind := range []string{"whip", "srt", "libsrt"} {
				t.Run(fmt.Sprintf("%s/%s", column, kind), func(t *testing.T) {
					clean := netns.Impairment{Delay: rtt / 2, Rate: 20_000_000}
					here, there, link := netns.Pair(t, clean, clean)
					latency := max(120*time.Millisecond, 4*rtt)
					var s *gallery
					if kind == "libsrt" {
						s = startPeers(t, here, there, latency)
					} else {
						addr := startRelay(t, there)
						uplink := relayUplink(kind, addr)
						if kind == "srt" {
							uplink = strings.Replace(uplink, "srt: {", fmt.Sprintf("srt: {latency: %v, ", latency), 1)
						}
						startLinkBox(t, here, uplink)
						s = startLinkViewer(t, there, "http://"+addr+":8080/whep/x")
					}
					testkit.Eventually(t, 30*time.Second, "pictures", func() bool { return len(s.seen()) > 30 })
					lossy := clean
					lossy.Loss = loss
					link.Set(lossy, lossy)
					time.Sleep(2 * time.Second)
					from := s.newest() + 1
					time.Sleep(measured)
					to := s.newest() + 1
					time.Sleep(2*rtt + time.Second)
					share, late := judge(s.seen(), from, to, latency+2*rtt+100*time.Millisecond)
					if len(late) == 0 {
						late = []time.Duration{0}
					}
					value := fmt.Sprintf("%.1f %% (%d of %d came; %v, %v)", 100*share, len(late), to-from,
						late[len(late)/2].Round(time.Millisecond), late[len(late)*99/100].Round(time.Millisecond))
					if table[kind] == nil {
						table[kind] = map[string]string{}
					}
					table[kind][column] = fmt.Sprintf("%.1f · %v", 100*share, late[len(late)/2].Round(time.Millisecond))
					t.Log(value)
					if share < 0.8 && loss < 0.06 && kind != "libsrt" {
						t.Errorf("%s: %.1f %% in time", kind, 100*share)
					}
				})
			}
		}
	}
	fmt.Printf("Pictures in time, in %%, and the delay of the median; 30 a second at %.0f Mbit/s for %v.\n", linkCeiling/1e6, measured)
	fmt.Println("In time: whole, as all since its key frame, and at the viewer within 4 RTT (120 ms at least) + 2 RTT + 100 ms of its being coded.")
	fmt.Println("SRT's latency is 4 RTT, 120 ms at least. Loss is in both directions.")
	fmt.Print("\n| loss × RTT | WHIP | SRT | libsrt to libsrt |\n|---|---|---|---|\n")
	for _, c := range columns {
		fmt.Printf("| %s | %s | %s | %s |\n", c, table["whip"][c], table["srt"][c], table["libsrt"][c])
	}
}
