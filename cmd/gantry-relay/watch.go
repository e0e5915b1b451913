package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/pion/interceptor"
	"github.com/pion/webrtc/v4"

	"gantry/internal/secret"
)

const watchUsage = `usage: gantry-relay watch [flags] URL

Receives a stream over WHEP, as a player does, and says what comes, without decoding it. URL is the stream's WHEP address,
such as http://127.0.0.1:8080/whep/demo.

    --frames N         end with status 0 after N access units that a decoder can take, from a key frame on (H.264)
    --out FILE         write those access units to FILE as H.264 Annex B; - is standard output
    --timeout DURATION end after so long: with status 0, or 1 when --frames were not reached            (30s; 0: never)
    --wait             when the relay does not answer or the stream is not live yet, ask again
    --reconnect        the same, and again when the session is lost or the relay ends it
    --token TOKEN      the play token; rather use GANTRY_PLAY_TOKEN
    --json             one JSON object at the end instead of lines
`

type watchOptions struct {
	url     string
	token   secret.String
	frames  int
	out     string
	timeout time.Duration
	wait    bool
	again   bool // a new session when one is lost
	json    bool
}

// watchCommand runs `gantry-relay watch`.
func watchCommand(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	var o watchOptions
	flags := flag.NewFlagSet("watch", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.Usage = func() { fmt.Fprint(stderr, "gantry-relay watch --help explains the flags\n") }
	flags.IntVar(&o.frames, "frames", 0, "")
	flags.StringVar(&o.out, "out", "", "")
	flags.DurationVar(&o.timeout, "timeout", 30*time.Second, "")
	flags.BoolVar(&o.wait, "wait", false, "")
	flags.BoolVar(&o.again, "reconnect", false, "")
	flags.BoolVar(&o.json, "json", false, "")
	help := flags.Bool("help", false, "")
	token := flags.String("token", os.Getenv("GANTRY_PLAY_TOKEN"), "")
	var urls []string
	for rest := args; ; { // flags may follow the URL
		if err := flags.Parse(rest); errors.Is(err, flag.ErrHelp) || *help {
			fmt.Fprint(stdout, watchUsage)
			return nil
		} else if err != nil {
			return errUsage
		}
		if flags.NArg() == 0 {
			break
		}
		urls, rest = append(urls, flags.Arg(0)), flags.Args()[1:]
	}
	if len(urls) != 1 || o.frames < 0 || o.timeout < 0 {
		fmt.Fprint(stderr, watchUsage)
		return errUsage
	}
	o.wait = o.wait || o.again
	o.url, o.token = urls[0], secret.String(strings.Join(strings.Fields(*token), " "))
	if o.timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, o.timeout)
		defer cancel()
	}
	return watch(ctx, o, stdout)
}

// watch plays one session, or several one after the other, from the offer to the last frame asked for.
func watch(ctx context.Context, o watchOptions, stdout io.Writer) (err error) {
	out := io.WriteCloser(nopCloser{io.Discard})
	switch o.out {
	case "":
	case "-":
		out = nopCloser{stdout}
		stdout = io.Discard
	default:
		if out, err = os.Create(o.out); err != nil {
			return err
		}
	}
	defer func() { err = errors.Join(err, out.Close()) }()

	begun := time.Now()
	v := newViewing(o.frames, out, begun)
	for {
		var lost bool
		lost, err = watchOnce(ctx, o, v, stdout)
		if !lost || !o.again || ctx.Err() != nil {
			break
		}
		if !o.json {
			fmt.Fprintf(stdout, "%v; connecting again\n", err)
		}
	}
	r := v.report()
	if o.again && o.frames == 0 && r.Sessions > 0 && ctx.Err() != nil {
		err = nil // stopped while it waited for the relay
	}
	if r.Sessions == 0 {
		return err
	}
	if o.json {
		encoder := json.NewEncoder(stdout)
		encoder.SetIndent("", "  ")
		return errors.Join(err, encoder.Encode(r))
	}
	fmt.Fprintln(stdout, r)
	return err
}

// watchOnce plays one session. lost tells that it ended before all was received.
func watchOnce(ctx context.Context, o watchOptions, v *viewing, stdout io.Writer) (lost bool, err error) {
	ended := v.open()
	pc, err := connect(v, o.again)
	if err != nil {
		return false, err
	}
	defer func() { _ = pc.GracefulClose() }()
	session, err := offer(ctx, pc, o)
	if err != nil {
		return false, err
	}
	defer session.end()
	v.opened()

	lines := time.NewTicker(time.Second)
	defer lines.Stop()
	for {
		select {
		case <-lines.C:
			if !o.json {
				fmt.Fprintln(stdout, v.report())
			}
		case err := <-ended:
			return err != nil, err
		case <-ctx.Done():
			if r := v.report(); o.frames > 0 || r.Packets == 0 && errors.Is(ctx.Err(), context.DeadlineExceeded) {
				return false, fmt.Errorf("%v after %v: %v", context.Cause(ctx), time.Since(v.begun).Round(time.Millisecond), r)
			}
			return false, nil
		}
	}
}

type nopCloser struct{ io.Writer }

func (nopCloser) Close() error { return nil }

// connect makes a peer connection that receives one video and one sound track into v. impatient gives a silent relay up soon.
func connect(v *viewing, impatient bool) (*webrtc.PeerConnection, error) {
	var engine webrtc.MediaEngine
	if err := engine.RegisterDefaultCodecs(); err != nil {
		return nil, err
	}
	for _, kind := range []webrtc.RTPCodecType{webrtc.RTPCodecTypeVideo, webrtc.RTPCodecTypeAudio} {
		if err := engine.RegisterHeaderExtension(webrtc.RTPHeaderExtensionCapability{URI: captureTimeURI}, kind); err != nil {
			return nil, err
		}
	}
	var registry interceptor.Registry
	if err := webrtc.RegisterDefaultInterceptors(&engine, &registry); err != nil {
		return nil, err
	}
	var settings webrtc.SettingEngine
	settings.SetIncludeLoopbackCandidate(true)
	if impatient {
		settings.SetICETimeouts(2*time.Second, 4*time.Second, time.Second)
	}
	api := webrtc.NewAPI(webrtc.WithMediaEngine(&engine), webrtc.WithInterceptorRegistry(&registry), webrtc.WithSettingEngine(settings))
	pc, err := api.NewPeerConnection(webrtc.Configuration{BundlePolicy: webrtc.BundlePolicyMaxBundle})
	if err != nil {
		return nil, err
	}
	for _, kind := range []webrtc.RTPCodecType{webrtc.RTPCodecTypeVideo, webrtc.RTPCodecTypeAudio} {
		if _, err := pc.AddTransceiverFromKind(kind, webrtc.RTPTransceiverInit{Direction: webrtc.RTPTransceiverDirectionRecvonly}); err != nil {
			return nil, errors.Join(err, pc.Close())
		}
	}
	pc.OnTrack(func(track *webrtc.TrackRemote, _ *webrtc.RTPReceiver) { v.receive(pc, track) })
	session := v.session()
	pc.OnConnectionStateChange(func(s webrtc.PeerConnectionState) {
		switch s {
		case webrtc.PeerConnectionStateConnected:
			v.connected(time.Now())
		case webrtc.PeerConnectionStateFailed:
			v.endOf(session, errors.New("the connection was lost, or no media path to the relay was found"))
		case webrtc.PeerConnectionStateClosed:
			v.endOf(session, errors.New("the relay ended the session"))
		}
	})
	return pc, nil
}

// A remoteSession is the relay's end of a WHEP session.
type remoteSession struct {
	client *http.Client
	url    string
	token  secret.String
}

// end tells the relay that nobody watches any more.
func (s *remoteSession) end() {
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodDelete, s.url, nil)
	if err != nil {
		return
	}
	authorize(req, s.token)
	if res, err := s.client.Do(req); err == nil {
		_ = res.Body.Close()
	}
	s.client.CloseIdleConnections()
}

func authorize(req *http.Request, token secret.String) {
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token.Reveal())
	}
}

// offer opens a WHEP session with all candidates in the offer.
func offer(ctx context.Context, pc *webrtc.PeerConnection, o watchOptions) (*remoteSession, error) {
	local, err := pc.CreateOffer(nil)
	if err != nil {
		return nil, err
	}
	gathered := webrtc.GatheringCompletePromise(pc)
	if err := pc.SetLocalDescription(local); err != nil {
		return nil, err
	}
	select {
	case <-gathered:
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	client := &http.Client{Timeout: 10 * time.Second, Transport: http.DefaultTransport.(*http.Transport).Clone()}
	for pause := 200 * time.Millisecond; ; pause = min(2*pause, 3*time.Second) {
		session, answer, err := post(ctx, client, o, pc.LocalDescription().SDP)
		if err == nil {
			if err = pc.SetRemoteDescription(webrtc.SessionDescription{Type: webrtc.SDPTypeAnswer, SDP: answer}); err != nil {
				session.end()
				return nil, fmt.Errorf("%s: answer: %w", o.url, err)
			}
			return session, nil
		}
		if later := (*laterError)(nil); !o.wait || !errors.As(err, &later) {
			client.CloseIdleConnections()
			return nil, err
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			client.CloseIdleConnections()
			return nil, fmt.Errorf("%w: %w", context.Cause(ctx), err)
		}
	}
}

// laterError is one that may have gone when the request is made again.
type laterError struct{ error }

func post(ctx context.Context, client *http.Client, o watchOptions, sdp string) (*remoteSession, string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, o.url, strings.NewReader(sdp))
	if err != nil {
		return nil, "", err
	}
	req.Header.Set("Content-Type", "application/sdp")
	authorize(req, o.token)
	res, err := client.Do(req)
	if err != nil {
		return nil, "", &laterError{err}
	}
	defer res.Body.Close()
	body, err := io.ReadAll(io.LimitReader(res.Body, 1<<20))
	if err != nil {
		return nil, "", &laterError{err}
	}
	if res.StatusCode != http.StatusCreated {
		err := fmt.Errorf("%s: %s: %s", o.url, res.Status, reason(res, body))
		switch res.StatusCode {
		case http.StatusNotFound, http.StatusConflict, http.StatusTooManyRequests, http.StatusServiceUnavailable:
			return nil, "", &laterError{err}
		}
		return nil, "", err
	}
	location, err := url.Parse(res.Header.Get("Location"))
	if err != nil || location.String() == "" {
		return nil, "", fmt.Errorf("%s: the answer's Location %q is no address", o.url, res.Header.Get("Location"))
	}
	return &remoteSession{client: client, url: res.Request.URL.ResolveReference(location).String(), token: o.token}, string(body), nil
}

// reason returns what a refusal says, from RFC 9457's detail where there is one.
func reason(res *http.Response, body []byte) string {
	var problem struct{ Detail, Title string }
	if json.Unmarshal(body, &problem) == nil && problem.Detail+problem.Title != "" {
		if problem.Detail != "" {
			return problem.Detail
		}
		return problem.Title
	}
	if after := res.Header.Get("Retry-After"); after != "" {
		if _, err := strconv.Atoi(after); err == nil {
			return "try again in " + after + " s"
		}
	}
	return string(bytes.TrimSpace(body[:min(len(body), 200)]))
}
