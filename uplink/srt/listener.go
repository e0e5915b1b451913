package srt

import (
	"context"
	"fmt"
	"sync"

	gosrt "github.com/datarhei/gosrt"

	"gantry/uplink"
)

// maxPeers is how many callers a listener serves at once.
const maxPeers = 8

// listen serves whoever calls until ctx ends.
func (s *Sender) listen(ctx context.Context, p uplink.Program) error {
	l, err := gosrt.Listen("srt", s.cfg.Addr, s.cfg.gosrt())
	if err != nil {
		return fmt.Errorf("listen for SRT on %s: %w", s.cfg.Addr, err)
	}
	ctx, cancel := context.WithCancelCause(ctx)
	peers := &peers{}
	var accepting sync.WaitGroup
	accepting.Go(func() {
		if err := s.accept(l, p, peers); err != nil && ctx.Err() == nil {
			cancel(err)
		}
	})
	defer accepting.Wait()
	defer l.Close()
	defer peers.close()
	err = s.send(ctx, p, peers, nil)
	if cause := context.Cause(ctx); err == nil && cause != nil && cause != ctx.Err() {
		err = cause
	}
	cancel(nil)
	return err
}

// accept takes callers until the listener closes.
func (s *Sender) accept(l gosrt.Listener, p uplink.Program, peers *peers) error {
	var once sync.Once
	for {
		req, err := l.Accept2()
		if err != nil {
			return fmt.Errorf("accept SRT callers: %w", err)
		}
		log := s.log.With("remote", req.RemoteAddr().String())
		pass := s.cfg.Passphrase.Reveal()
		switch {
		case peers.count() >= maxPeers:
			log.Warn("SRT caller refused", "reason", "there are as many as are served at once")
			req.Reject(gosrt.REJX_OVERLOAD)
			continue
		case req.IsEncrypted() != (pass != ""):
			log.Warn("SRT caller refused", "reason", "one side encrypts and the other does not")
			req.Reject(gosrt.REJ_UNSECURE)
			continue
		case pass != "":
			if err := req.SetPassphrase(pass); err != nil {
				log.Warn("SRT caller refused", "reason", "wrong passphrase")
				req.Reject(gosrt.REJ_BADSECRET)
				continue
			}
		}
		conn, err := req.Accept()
		if err != nil {
			log.Warn("SRT caller lost", "err", err)
			continue
		}
		link, err := newPeer(conn, p, s.cfg.Latency)
		if err != nil {
			conn.Close()
			return err
		}
		log.Info("SRT caller receives")
		peers.add(link)
		once.Do(func() {
			if p.Connected != nil {
				p.Connected()
			}
		})
	}
}

func (ps *peers) count() int {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	return len(ps.list)
}
