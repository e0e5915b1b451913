package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"gantry/encoder/libav/sound"
	"gantry/internal/metrics"
	"gantry/internal/rtc"
	"gantry/media"
	"gantry/media/packing"
	"gantry/relay"
	"gantry/relay/access"
	"gantry/relay/egress/hls"
	whepegress "gantry/relay/egress/whep"
	whipingest "gantry/relay/ingest/whip"
	"gantry/relay/slate"
	"gantry/relay/web"
	"gantry/systemd"
)

// drain is how long requests that are being answered get at the end.
const drain = 5 * time.Second

// serve runs the relay until ctx ends.
func serve(ctx context.Context, cfg Config, log *slog.Logger) (err error) {
	policy := access.New(cfg.access())
	if err := policy.CheckListen(cfg.HTTP); err != nil {
		return err
	}
	secure, err := loadTLS(cfg, log)
	if err != nil {
		return err
	}
	listener, err := listen(cfg, secure)
	if err != nil {
		return err
	}
	server := &http.Server{
		ReadHeaderTimeout: 10 * time.Second, ReadTimeout: 30 * time.Second, IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 64 << 10,
		ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug), // clients' doings
	}
	defer server.Close() // closes the listener where it was not served
	port, err := rtc.Listen(cfg.rtc(), log)
	if err != nil {
		return errors.Join(err, listener.Close())
	}
	defer port.Close()
	hub := relay.NewHub(cfg.hub(), log)
	hub.SetTranscoder(transcode)
	if cfg.Offline.show == offlineSlate {
		hub.SetSlate(slate.New(cfg.Offline.words))
	}
	defer hub.Close()
	publish, err := whipingest.New(whipingest.Default(), hub, port, whipingest.Access{Authorize: policy.Publish, ICEServers: cfg.links}, log)
	if err != nil {
		return errors.Join(err, listener.Close())
	}
	others, err := openPorts(cfg, secure, hub, policy, log)
	if err != nil {
		return errors.Join(err, listener.Close(), publish.Close())
	}
	play := whepegress.New(cfg.whep(), hub, port, whepegress.Access{Authorize: policy.Play, ICEServers: cfg.links}, log)

	segments := hls.New(hub, policy.Play, log)

	onward, err := startRestream(cfg, hub, log)
	if err != nil {
		return errors.Join(err, listener.Close(), publish.Close(), others.Close())
	}

	keep := startRecording(cfg, hub, policy.Publish, log)
	defer keep.Close()

	registry := metrics.New()
	collect(registry, publish, play)
	collectProcess(registry)
	keep.collect(registry)
	others.collect(registry)
	var stopping atomic.Bool
	mux := http.NewServeMux()
	mux.Handle(whipingest.Prefix, publish)
	mux.Handle("/whep/", play)
	mux.Handle(hls.Prefix, segments)
	mux.Handle("/", web.New(web.Options{Hub: hub, Policy: policy, Metrics: registry, Version: version, Publish: others.addresses(cfg), Log: log, Health: func() error {
		if stopping.Load() {
			return errors.New("stopping")
		}
		return nil
	}}))
	server.Handler = behind(cfg.TrustedProxies, web.Count(registry, keep.handler(onward.Handler(policy.Publish, mux))))

	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	base := baseURL(cfg, listener.Addr())
	others.start()
	log.Info("serving", append([]any{"http", base, "rtc", port.Addr().String()}, others.listing()...)...)
	if err := systemd.Ready("serving at " + base); err != nil {
		log.Warn("service manager cannot be told", "err", err)
	}
	watched := make(chan error, 1)
	watchdog, stopWatchdog := context.WithCancel(ctx)
	go func() { watched <- systemd.Watchdog(watchdog, alive(hub)) }()
	reflected := make(chan error, 1)
	go func() { reflected <- learnAddress(watchdog, port, cfg.STUNServer) }()

	select {
	case err = <-served:
		served <- err
		err = fmt.Errorf("serve %s: %w", base, err)
	case err = <-others.failed:
	case <-ctx.Done():
		log.Info("stopping")
	}
	stopping.Store(true)
	stopWatchdog()
	err = errors.Join(err, systemd.Stopping(), <-watched, <-reflected)

	// Nobody new comes in; then the publishers leave, and what they sent last reaches the viewers, who leave next.
	shut := make(chan error, 1)
	deadline, cancel := context.WithTimeout(context.Background(), drain)
	defer cancel()
	go func() { shut <- server.Shutdown(deadline) }()
	err = errors.Join(err, publish.Close(), others.Close(), onward.Close(), play.Close(), segments.Close(), keep.Close())
	if e := <-shut; e != nil {
		log.Warn("requests were cut off", "err", e)
		_ = server.Close()
	}
	<-served
	return err
}

// transcode is the Hub's Transcoder: by FFmpeg, or why this build has none.
func transcode(from media.Track, to media.Codec) (media.Track, packing.Converter, error) {
	t, err := sound.New(from, to)
	if err != nil {
		return media.Track{}, nil, err
	}
	return t.Track(), t, nil
}

// loadTLS returns what the configuration's certificate makes; nil when there is none.
func loadTLS(cfg Config, log *slog.Logger) (*tls.Config, error) {
	if cfg.TLSCert == "" {
		return nil, nil
	}
	c, err := loadCertificate(cfg.TLSCert, cfg.TLSKey, log)
	if err != nil {
		return nil, err
	}
	return &tls.Config{GetCertificate: c.get, MinVersion: tls.VersionTLS12}, nil
}

// listen opens the HTTP port, with TLS where there is a certificate.
func listen(cfg Config, secure *tls.Config) (net.Listener, error) {
	l, err := net.Listen("tcp", cfg.HTTP)
	if err != nil {
		return nil, fmt.Errorf("listen for HTTP: %w (another program has the port? --http chooses one, :0 a free one)", err)
	}
	if secure != nil {
		secure = secure.Clone()
		secure.NextProtos = []string{"h2", "http/1.1"}
		return tls.NewListener(l, secure), nil
	}
	return l, nil
}

// baseURL returns what a browser on this machine can open.
func baseURL(cfg Config, addr net.Addr) string {
	scheme := "http"
	if cfg.TLSCert != "" {
		scheme = "https"
	}
	host := addr.String()
	if a, ok := addr.(*net.TCPAddr); ok && a.IP.IsUnspecified() {
		host = fmt.Sprintf("localhost:%d", a.Port)
	}
	return scheme + "://" + strings.TrimSuffix(host, "/")
}

// alive is the watchdog's measure: a Hub that still answers. With nothing on the air a relay has no other progress.
func alive(hub *relay.Hub) func() uint64 {
	var turns uint64
	return func() uint64 {
		hub.Streams() // takes every lock that media passes
		turns++
		return turns
	}
}

// The protocols' totals since the start.
var (
	ingestPackets = metrics.Figure{Name: "gantry_ingest_received_packets_total", Help: "RTP packets from WHIP publishers.", Counter: true}
	ingestMended  = metrics.Figure{Name: "gantry_ingest_recovered_packets_total", Help: "RTP packets that came late or again, and in time.", Counter: true}
	ingestLost    = metrics.Figure{Name: "gantry_ingest_lost_packets_total", Help: "RTP packets that were given up.", Counter: true}
	ingestNACKs   = metrics.Figure{Name: "gantry_ingest_asked_again_packets_total", Help: "RTP packets that publishers were asked to send again.", Counter: true}
	ingestKeys    = metrics.Figure{Name: "gantry_ingest_key_frame_requests_total", Help: "Key frames asked of publishers.", Counter: true}
	egressPackets = metrics.Figure{Name: "gantry_egress_sent_packets_total", Help: "RTP packets to WHEP viewers.", Counter: true}
	egressBytes   = metrics.Figure{Name: "gantry_egress_sent_bytes_total", Help: "The same with headers and authentication tags.", Counter: true}
	egressAgain   = metrics.Figure{Name: "gantry_egress_retransmitted_packets_total", Help: "RTP packets sent to viewers again.", Counter: true}
	egressRefused = metrics.Figure{Name: "gantry_egress_refused_packets_total", Help: "RTP packets that the socket had no room for.", Counter: true}
	egressKeys    = metrics.Figure{Name: "gantry_egress_key_frame_requests_total", Help: "Key frames that viewers asked for.", Counter: true}
)

func collect(r *metrics.Registry, publish *whipingest.Server, play *whepegress.Server) {
	r.Collect(func() []metrics.Sample {
		in, out := publish.Counters(), play.Stats()
		return []metrics.Sample{
			{Figure: &ingestPackets, Value: float64(in.Packets.Load())},
			{Figure: &ingestMended, Value: float64(in.Recovered.Load())},
			{Figure: &ingestLost, Value: float64(in.Lost.Load())},
			{Figure: &ingestNACKs, Value: float64(in.NACKs.Load())},
			{Figure: &ingestKeys, Value: float64(in.KeyRequests.Load())},
			{Figure: &egressPackets, Value: float64(out.Packets)},
			{Figure: &egressBytes, Value: float64(out.Bytes)},
			{Figure: &egressAgain, Value: float64(out.Retransmitted)},
			{Figure: &egressRefused, Value: float64(out.Refused)},
			{Figure: &egressKeys, Value: float64(out.PLIs)},
		}
	}, &ingestPackets, &ingestMended, &ingestLost, &ingestNACKs, &ingestKeys, &egressPackets, &egressBytes, &egressAgain, &egressRefused, &egressKeys)
}
