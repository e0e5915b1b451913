package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync"
	"time"

	"gantry/internal/metrics"
	"gantry/internal/secret"
	"gantry/internal/supervise"
	"gantry/relay"
	"gantry/relay/access"
	srtegress "gantry/relay/egress/srt"
	"gantry/relay/ingest/pull"
	"gantry/relay/ingest/rtmp"
	"gantry/relay/ingest/srt"
	"gantry/relay/web"
)

// ports are the ingest servers beside HTTP's. Each is nil where it is off.
type ports struct {
	srt         *srt.Server
	rtmp, rtmps *rtmp.Server

	pull []func(context.Context) error

	cancel context.CancelFunc
	work   sync.WaitGroup
	failed chan error // one that ended by itself
}

// openPorts opens those that are configured, under the same rule as HTTP: reachable from elsewhere only with a publish token.
func openPorts(cfg Config, secure *tls.Config, hub *relay.Hub, policy *access.Policy, log *slog.Logger) (_ *ports, err error) {
	p := &ports{failed: make(chan error, 3)}
	defer func() {
		if err != nil {
			err = errors.Join(err, p.Close())
		}
	}()
	var errs []error
	open := func(key, addr string, on bool, listen func(addr string) error) {
		if addr = cfg.beside(addr); addr == "" || !on {
			return
		}
		if err := policy.CheckListen(addr); err != nil {
			errs = append(errs, err)
		} else if err := listen(addr); err != nil {
			errs = append(errs, fmt.Errorf("%w (another program has the port? --%s chooses one, --%s= none)", err, key, key))
		}
	}
	open("srt", cfg.SRT, true, func(string) (err error) {
		own := func(stream string) secret.String { return cfg.SRTPassphrases[stream] }
		p.srt, err = srt.Listen(cfg.srt(), hub, srt.Access{Publish: policy.Publish, Play: policy.Play, Passphrase: own,
			Player: func(ctx context.Context, w io.Writer, stream string) error {
				return srtegress.Play(ctx, hub, stream, w)
			}}, log)
		return err
	})
	open("rtmp", cfg.RTMP, true, func(addr string) (err error) {
		p.rtmp, err = rtmp.Listen(addr, nil, hub, policy.Publish, log)
		return err
	})
	open("rtmps", cfg.RTMPS, secure != nil, func(addr string) (err error) {
		p.rtmps, err = rtmp.Listen(addr, secure, hub, policy.Publish, log)
		return err
	})
	for _, c := range cfg.Pull {
		p.pull = append(p.pull, func(ctx context.Context) error {
			return supervise.Keep(ctx, log, supervise.Backoff{Max: 30 * time.Second, Jitter: 0.2}, strings.TrimSpace("pull "+c.Name+" "+c.Layer), func(ctx context.Context) error {
				return pull.Run(ctx, c, hub, log)
			})
		})
	}
	return p, errors.Join(errs...)
}

// start serves until Close.
func (p *ports) start() {
	ctx, cancel := context.WithCancel(context.Background())
	p.cancel = cancel
	serve := func(name string, run func(context.Context) error) {
		p.work.Go(func() {
			if err := run(ctx); err != nil {
				p.failed <- fmt.Errorf("serve %s: %w", name, err)
			}
		})
	}
	if p.srt != nil {
		serve("SRT", p.srt.Run)
	}
	if p.rtmp != nil {
		serve("RTMP", p.rtmp.Run)
	}
	if p.rtmps != nil {
		serve("RTMPS", p.rtmps.Run)
	}
	for _, run := range p.pull {
		serve("pulled stream", run)
	}
}

// Close ends all connections and waits for them.
func (p *ports) Close() error {
	if p.cancel == nil {
		p.start() // Run closes what was opened
	}
	p.cancel()
	p.work.Wait()
	return nil
}

// listing is what the log says of them.
func (p *ports) listing() (keys []any) {
	if p.srt != nil {
		keys = append(keys, "srt", p.srt.Addr().String())
	}
	if p.rtmp != nil {
		keys = append(keys, "rtmp", p.rtmp.Addr().String())
	}
	if p.rtmps != nil {
		keys = append(keys, "rtmps", p.rtmps.Addr().String())
	}
	return keys
}

// addresses is what the page says of them.
func (p *ports) addresses(cfg Config) (a web.Publish) {
	port := func(addr net.Addr) int {
		switch a := addr.(type) {
		case *net.UDPAddr:
			return a.Port
		case *net.TCPAddr:
			return a.Port
		}
		return 0
	}
	if p.srt != nil {
		a.SRT, a.SRTPassphraseNeeded = port(p.srt.Addr()), cfg.SRTPassphrase != ""
	}
	if p.rtmp != nil {
		a.RTMP = port(p.rtmp.Addr())
	}
	if p.rtmps != nil {
		a.RTMPS = port(p.rtmps.Addr())
	}
	return a
}

var (
	srtCallers   = metrics.Figure{Name: "gantry_ingest_srt_caller_sessions", Help: "SRT connections."}
	srtRefused   = metrics.Figure{Name: "gantry_ingest_srt_refused_sessions_total", Help: "SRT callers refused: name, token or passphrase.", Counter: true}
	srtPackets   = metrics.Figure{Name: "gantry_ingest_srt_received_packets_total", Help: "SRT data packets received, those sent again included.", Counter: true}
	srtRecovered = metrics.Figure{Name: "gantry_ingest_srt_recovered_packets_total", Help: "SRT data packets that were lost and came again.", Counter: true}
	srtMissing   = metrics.Figure{Name: "gantry_ingest_srt_missing_packets_total", Help: "SRT data packets that did not come the first time.", Counter: true}
	srtSent      = metrics.Figure{Name: "gantry_egress_srt_sent_packets_total", Help: "SRT data packets sent to callers that receive.", Counter: true}
	rtmpClients  = metrics.Figure{Name: "gantry_ingest_rtmp_publisher_sessions", Help: "RTMP and RTMPS publishers."}
	rtmpRefused  = metrics.Figure{Name: "gantry_ingest_rtmp_refused_sessions_total", Help: "RTMP and RTMPS clients refused: name, token or no RTMP.", Counter: true}
	rtmpBytes    = metrics.Figure{Name: "gantry_ingest_rtmp_received_bytes_total", Help: "Received over RTMP and RTMPS.", Counter: true}
)

// collect adds the servers' totals to the registry.
func (p *ports) collect(r *metrics.Registry) {
	r.Collect(func() []metrics.Sample {
		var s srt.Stats
		if p.srt != nil {
			s = p.srt.Stats()
		}
		var m rtmp.Stats
		for _, server := range []*rtmp.Server{p.rtmp, p.rtmps} {
			if server != nil {
				n := server.Stats()
				m.Publishers, m.Refused, m.Bytes = m.Publishers+n.Publishers, m.Refused+n.Refused, m.Bytes+n.Bytes
			}
		}
		return []metrics.Sample{
			{Figure: &srtCallers, Value: float64(s.Callers)}, {Figure: &srtRefused, Value: float64(s.Refused)},
			{Figure: &srtPackets, Value: float64(s.Packets)}, {Figure: &srtRecovered, Value: float64(s.Recovered)},
			{Figure: &srtMissing, Value: float64(s.Missing)}, {Figure: &srtSent, Value: float64(s.Sent)},
			{Figure: &rtmpClients, Value: float64(m.Publishers)}, {Figure: &rtmpRefused, Value: float64(m.Refused)},
			{Figure: &rtmpBytes, Value: float64(m.Bytes)},
		}
	}, &srtCallers, &srtRefused, &srtPackets, &srtRecovered, &srtMissing, &srtSent, &rtmpClients, &rtmpRefused, &rtmpBytes)
}
