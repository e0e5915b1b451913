package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"os"
	"os/signal"
	"runtime"
	"strings"
	"syscall"
	"time"

	"gantry/internal/health"
	"gantry/internal/metrics"
	"gantry/internal/pipeline"
	"gantry/internal/supervise"
	"gantry/internal/uevent"
	"gantry/media"
	"gantry/media/sound"
	"gantry/systemd"
	"gantry/webui"
)

// How long the parts may take to stop. The service manager waits longer than all together.
const (
	sessionStop = 12 * time.Second
	serverStop  = 2 * time.Second
)

var configBad = health.Warnable{Code: "config-bad", Severity: health.Broken}

// A box is the running daemon.
type box struct {
	log     *slog.Logger
	level   *slog.LevelVar
	file    string
	config  boxConfig
	session *pipeline.Session
	health  *health.Set
	began   time.Time
	load    busy
	ranking *ranking
	reloads reloads
	again   chan struct{}    // the page wrote the file
	plugged *uevent.Listener // nil: devices are looked for now and then
}

// serve runs the box until ctx ends.
func serve(ctx context.Context, file, pprofAddr string, level *slog.LevelVar, log *slog.Logger) error {
	c, err := load(file)
	if err != nil {
		return err
	}
	b := &box{log: log, level: level, file: file, config: c, health: new(health.Set), began: time.Now(), ranking: newRanking(stateMemory(), log),
		load: busy{at: time.Now(), used: cpuTime()}, again: make(chan struct{}, 1)}
	b.setLevel(c.Log)
	first := spec(c, log)
	b.ranking.first(ctx, &first)
	if b.plugged, err = uevent.Listen(); err != nil {
		log.Warn("devices that are plugged in are found later", "err", err)
	}
	b.wake(&first)
	b.session = pipeline.New(first, slate, b.health, log)

	// In the order in which they stop: the media first, while the page and the watchdog still work.
	g := supervise.NewGroup(log)
	g.Add("session", sessionStop, b.session.Run)
	if b.plugged != nil {
		g.Add("devices", time.Second, b.plugged.Run)
	}
	g.Add("reload", time.Second, b.watchReload)
	if err := b.addServers(g, c.HTTP, pprofAddr); err != nil {
		return err
	}
	g.Add("service manager", time.Second, b.tellManager)
	log.Info("started", "config", file, "version", version)
	err = g.Run(ctx)
	log.Info("stopped")
	return err
}

func (b *box) addServers(g *supervise.Group, page, pprofAddr string) error {
	if page != "" {
		registry := metrics.New()
		b.declare(registry)
		if err := b.addServer(g, "page", page, webui.Handler(b, registry.Handler())); err != nil {
			return err
		}
	}
	if pprofAddr == "" {
		return nil
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/debug/pprof/", pprof.Index)
	mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
	return b.addServer(g, "pprof", pprofAddr, mux)
}

// addServer listens at once, so that an address in use is an error at the start, and serves as a member of the group.
func (b *box) addServer(g *supervise.Group, name, addr string, h http.Handler) error {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return fmt.Errorf("serve the %s: %w", name, err)
	}
	b.log.Info("serving", "what", name, "address", l.Addr().String())
	g.Add(name, serverStop+time.Second, func(ctx context.Context) error {
		requests, end := context.WithCancel(context.Background())
		defer end()
		s := &http.Server{Handler: h, ReadHeaderTimeout: 5 * time.Second, IdleTimeout: time.Minute, MaxHeaderBytes: 16 << 10,
			ErrorLog:    slog.NewLogLogger(b.log.Handler(), slog.LevelDebug),
			BaseContext: func(net.Listener) context.Context { return requests }}
		served := make(chan error, 1)
		go func() { served <- s.Serve(l) }()
		select {
		case err := <-served:
			return err
		case <-ctx.Done():
		}
		end() // the event streams
		limit, cancel := context.WithTimeout(context.Background(), serverStop)
		defer cancel()
		err := s.Shutdown(limit)
		if err != nil {
			err = s.Close()
		}
		<-served
		return err
	})
	return nil
}

func (b *box) setLevel(name string) {
	var level slog.Level
	if err := level.UnmarshalText([]byte(name)); err == nil { // Validate has seen it
		b.level.Set(level)
	}
}

// watchReload reads the file again at each SIGHUP.
func (b *box) watchReload(ctx context.Context) error {
	hup := make(chan os.Signal, 1)
	signal.Notify(hup, syscall.SIGHUP)
	defer signal.Stop(hup)
	b.tryRest(ctx) // here, as a reload changes the same
	for {
		select {
		case <-hup:
			b.reload()
		case <-b.again:
			b.reload()
		case <-ctx.Done():
			return nil
		}
	}
}

// reload applies the file if it is good; a bad one changes nothing.
func (b *box) reload() {
	c, err := load(b.file)
	b.reloads.note(err == nil)
	b.health.Set(configBad, b.file, err)
	if err != nil {
		b.log.Error("configuration not reloaded", "config", b.file, "err", err)
		return
	}
	if c.HTTP != b.config.HTTP {
		b.log.Warn("the address of the page changes at the next start", "address", c.HTTP)
	}
	b.setLevel(c.Log)
	b.applyConfig(c)
	b.log.Info("configuration reloaded", "config", b.file)
}

func (b *box) applyConfig(c boxConfig) {
	next := spec(c, b.log)
	b.ranking.apply(&next)
	b.wake(&next)
	b.session.Apply(next)
	b.config = c
}

// wake lets the sources hear at once of devices that come.
func (b *box) wake(s *pipeline.Spec) {
	if b.plugged != nil {
		s.Video.Wake, s.Audio.Wake = b.plugged.Came("video4linux"), b.plugged.Came("sound")
	}
}

// tellManager says that the box is ready, what it does, and that it still makes progress.
func (b *box) tellManager(ctx context.Context) error {
	if err := systemd.Ready(b.summary()); err != nil {
		b.log.Warn("service manager not told", "err", err)
	}
	done := make(chan error, 1)
	go func() { done <- systemd.Watchdog(ctx, b.session.Progress) }()
	tick := time.NewTicker(10 * time.Second)
	defer tick.Stop()
	said := ""
	for {
		select {
		case <-tick.C:
			if now := b.summary(); now != said {
				said = now
				_ = systemd.Status(now) // Ready has said what there is to say about failures
			}
		case <-ctx.Done():
			_ = systemd.Stopping()
			err := <-done
			return err
		}
	}
}

func (b *box) summary() string {
	st := b.session.Status()
	parts := []string{"no signal"}
	if st.Video.Signal {
		parts[0] = st.Video.Format.String()
	}
	for _, u := range st.Uplinks {
		parts = append(parts, u.Name+" "+string(u.State))
	}
	return strings.Join(parts, ", ")
}

// Status implements webui.Box.
func (b *box) Status() webui.Status {
	st, now := b.session.Status(), time.Now()
	out := webui.Status{
		Version: version, Time: now.UTC(), Uptime: now.Sub(b.began).Seconds(), Health: b.health.Conditions(),
		Video: webui.Video{Name: st.Video.Name, Signal: st.Video.Signal, Reason: st.Video.Reason, Rate: st.Video.Rate,
			Frames: st.Video.Frames, Slates: st.Video.Slates, Dropped: st.Video.Lost + st.Video.Replaced + st.Video.Late},
		Encoder: showEncode(st.Encoder),
		Audio:   showAudio(st.Audio),
		Uplinks: []webui.Uplink{},
		CPU:     b.load.read(now), CPUs: runtime.NumCPU(),
	}
	for _, e := range st.Renditions {
		out.Renditions = append(out.Renditions, showEncode(e))
	}
	if st.Video.Signal {
		out.Video.Format = st.Video.Format.String()
	}
	if v := st.Video; v.Codec != media.NoCodec {
		out.Video.Codec, out.Video.BFrames, out.Video.Decoding = v.Codec.String(), v.BFrames, v.Decoding
	}
	for _, u := range st.Uplinks {
		w := webui.Uplink{Name: u.Name, State: string(u.State), Since: u.Since.UTC(), Reason: u.Reason, Carries: u.Carries, Dropped: u.Dropped,
			Backup: u.BackupOf, Layers: layers(u.Renditions), Paused: layers(u.Paused), Codecs: words(u.Codecs), Bitrate: u.Bitrate, Pictures: u.Pictures,
			Sent: webui.Sent{Remote: u.Sent.Remote, Peers: u.Sent.Peers, RTT: u.Sent.RTT.Seconds(), Loss: u.Sent.Loss, Buffered: u.Sent.Buffered.Seconds(),
				Packets: u.Sent.Packets, Bytes: u.Sent.Bytes, Retransmitted: u.Sent.Retransmitted, Dropped: u.Sent.Dropped}}
		for _, p := range u.Sent.Paths {
			w.Sent.Paths = append(w.Sent.Paths, webui.Path{Name: p.Name, Connected: p.Connected, Remote: p.Remote, RTT: p.RTT.Seconds(), Loss: p.Loss,
				Bytes: p.Bytes, Carries: p.Estimate})
		}
		if !u.Next.IsZero() {
			next := u.Next.UTC()
			w.Next = &next
		}
		out.Uplinks = append(out.Uplinks, w)
	}
	return out
}

func showAudio(a pipeline.AudioStatus) webui.Audio {
	out := webui.Audio{Name: a.Name, Reason: a.Reason, Codec: words(a.Codecs), Bitrate: a.Bitrate, Passed: a.Passed, Inputs: levels(a.Levels.In),
		Outputs: levels(a.Levels.Out), Clipped: a.Levels.Clipped, Silence: a.Levels.Silence.Seconds(), Drift: a.Clock.Drift,
		Offset: a.Clock.Offset.Seconds(), Overruns: a.Clock.Overruns}
	if a.Format.Rate != 0 {
		out.Format = a.Format.String()
	}
	return out
}

func levels(in []sound.Level) []webui.Level {
	out := make([]webui.Level, len(in))
	for i, l := range in {
		out[i] = webui.Level(l)
	}
	return out
}

func words(codecs []media.Codec) string {
	names := make([]string, len(codecs))
	for i, c := range codecs {
		names[i] = c.String()
	}
	return strings.Join(names, ", ")
}

// StartUplink implements webui.Box.
func (b *box) StartUplink(name string) error { return steered(b.session.StartUplink(name)) }

// StopUplink implements webui.Box.
func (b *box) StopUplink(name string) error { return steered(b.session.StopUplink(name)) }

func steered(err error) error {
	if errors.Is(err, pipeline.ErrNoUplink) {
		return webui.ErrNoUplink
	}
	return err
}
