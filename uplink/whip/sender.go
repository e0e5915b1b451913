package whip

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	nethttp "net/http"
	"strings"
	"sync"
	"sync/atomic"

	"gantry/internal/proto/whip"
	"gantry/uplink"
)

// A Sender publishes to one WHIP endpoint. It implements uplink.Sender and uplink.Reporter.
type Sender struct {
	config Config
	log    *slog.Logger
	count  counters
	route  *route      // nil: any
	full   atomic.Bool // the server does not take trickled candidates

	mu    sync.Mutex
	links []whip.Link // ICE servers that the last answer named
}

var (
	_ uplink.Sender   = (*Sender)(nil)
	_ uplink.Reporter = (*Sender)(nil)
)

// New returns a Sender for c, which must be valid. It starts nothing. Of several Interfaces it uses the first: see Open.
func New(c Config, log *slog.Logger) (*Sender, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	s := &Sender{config: c, log: log}
	if names := strings.Fields(c.Interfaces); len(names) > 0 {
		s.route = &route{device: names[0]}
	}
	return s, nil
}

// Open returns a Sender, or a Bond where c names several Interfaces. It starts nothing.
func Open(c Config, log *slog.Logger) (uplink.Sender, error) {
	if len(strings.Fields(c.Interfaces)) > 1 {
		return NewBond(c, log)
	}
	return New(c, log)
}

// Stats implements uplink.Reporter.
func (s *Sender) Stats() uplink.Stats { return s.count.snapshot().Stats }

// Detail returns what was sent and how it arrived. It may be called at any time.
func (s *Sender) Detail() Detail { return s.count.snapshot() }

// errTrickle: the session cannot come up because the server does not take our candidates one by one.
var errTrickle = errors.New("server takes no trickled candidates")

// Run publishes p as one session: it negotiates, sends, restarts ICE when the path breaks, and deletes the session when ctx
// or the programme ends, which is nil. Its errors wrap uplink.ErrRefused where the server will go on refusing, and are an uplink.RetryAfter
// where it says when to come back. Where the server turns out to take no trickled candidates, Run starts again with full
// gathering, once. Until media flows, and while the path is broken, packets are dropped; video then begins with a key frame.
func (s *Sender) Run(ctx context.Context, p uplink.Program) error {
	err := s.session(ctx, p)
	if errors.Is(err, errTrickle) && ctx.Err() == nil {
		s.full.Store(true)
		s.log.Info("offering again with all candidates gathered first", "reason", err)
		err = s.session(ctx, p)
	}
	if ctx.Err() != nil || errors.Is(err, errEnded) {
		return nil
	}
	return err
}

func (s *Sender) session(ctx context.Context, p uplink.Program) error {
	if p.Packets == nil || p.Wall == nil {
		return errors.New("programme lacks Packets or Wall")
	}
	http, err := newClient(s.route.endpoint(s.config.URL), s.config.Token)
	if err != nil {
		return err
	}
	s.route.transport(http.http.Transport.(*nethttp.Transport))
	defer http.close()
	if s.config.Discover {
		links, err := http.discover(ctx)
		if err != nil {
			return err
		}
		s.remember(links)
	}
	session, err := newSession(s, http, p)
	if err != nil {
		return fmt.Errorf("prepare session: %w", err)
	}
	err = session.run(ctx)
	s.count.update(func(now *Detail) { *now = Detail{} })
	return err
}

// remember keeps the ICE servers of an answer for sessions to come, unless it names none.
func (s *Sender) remember(links []whip.Link) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var named []whip.Link
	for _, l := range links {
		if l.Is(whip.RelICEServer) {
			named = append(named, l)
		}
	}
	if len(named) > 0 {
		s.links = named
	}
}

func (s *Sender) remembered() []whip.Link {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.links
}
