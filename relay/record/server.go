package record

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"gantry/internal/recording"
	"gantry/media"
	"gantry/relay"
)

const (
	lookEvery = 250 * time.Millisecond // for new streams: the Hub keeps what a late subscriber has missed, since the last key frame
	idleAfter = 5 * time.Second        // without a packet, a file is complete
	restAfter = 5 * time.Second        // a disk that fails is tried again
)

// A Server records the streams of a Hub, and is the http.Handler below Prefix and Page.
type Server struct {
	config    Config
	hub       *relay.Hub
	authorize func(token, stream string) error
	log       *slog.Logger
	disk      *recording.Disk
	count     counters
	uploads   chan struct{} // one element for each that is under way

	mu      sync.Mutex
	folders map[string]*recording.Folder // by stream
	running map[string]bool
}

type counters struct{ bytes, failures, healed, refused atomic.Uint64 }

// Stats counts since the start.
type Stats struct {
	Recording int    // streams
	Used      int64  // bytes of all recordings
	Bytes     uint64 // written
	Failures  uint64 // of the disk
	Healed    uint64 // pictures that boxes have sent later
	Warning   string // what a person should know of the room that is left
}

// New returns a Server for a valid Config that is On. authorize tells who may see and heal a stream's recordings: who may
// publish it. It starts nothing.
func New(c Config, hub *relay.Hub, authorize func(token, stream string) error, log *slog.Logger) *Server {
	return &Server{config: c, hub: hub, authorize: authorize, log: log, disk: recording.NewDisk(c.Config), uploads: make(chan struct{}, maxUploads),
		folders: map[string]*recording.Folder{}, running: map[string]bool{}}
}

// Stats returns what the Server has done so far.
func (s *Server) Stats() Stats {
	s.mu.Lock()
	n := len(s.running)
	s.mu.Unlock()
	return Stats{Recording: n, Used: s.disk.Used(), Bytes: s.count.bytes.Load(), Failures: s.count.failures.Load(), Healed: s.count.healed.Load(),
		Warning: s.disk.Warning()}
}

// Run records what is live until ctx ends, and returns when the last file is closed.
func (s *Server) Run(ctx context.Context) error {
	var all sync.WaitGroup
	defer all.Wait()
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	warned := ""
	for {
		for _, i := range s.hub.Streams() {
			if i.Live && s.config.wants(i.Name) && s.begin(i.Name) {
				all.Go(func() { s.keep(ctx, i.Name) })
			}
		}
		if w := s.disk.Warning(); w != "" && warned == "" {
			s.log.Warn("room for recordings gets short", "reason", w)
			warned = w
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// begin notes that a stream is recorded; false when it is already.
func (s *Server) begin(stream string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.running[stream] {
		return false
	}
	s.running[stream] = true
	return true
}

// keep records a stream to its end.
func (s *Server) keep(ctx context.Context, stream string) {
	log := s.log.With("stream", stream)
	defer func() {
		s.mu.Lock()
		delete(s.running, stream)
		s.mu.Unlock()
	}()
	err := s.record(ctx, stream, log)
	switch {
	case ctx.Err() != nil, errors.Is(err, relay.ErrEnded), errors.Is(err, relay.ErrTracksChanged), errors.Is(err, relay.ErrNoStream):
		return
	case errors.Is(err, recording.ErrNoPictures), errors.Is(err, relay.ErrPacking):
		log.Debug("stream is not recorded", "reason", err)
	default:
		s.count.failures.Add(1)
		log.Error("recording stopped; it is tried again", "err", err)
	}
	rest := time.NewTimer(restAfter)
	defer rest.Stop()
	select {
	case <-rest.C:
	case <-ctx.Done():
	}
}

// record writes what one Subscription brings.
func (s *Server) record(ctx context.Context, stream string, log *slog.Logger) (err error) {
	sub, err := s.hub.Subscribe(stream, relay.Want{Packing: media.AccessUnits, NoSlate: true})
	if err != nil {
		return err
	}
	defer sub.Close()
	tracks, order := largestFirst(sub.Tracks())
	w, err := recording.NewWriter(s.disk, folderName(stream), recording.Source{
		Tracks:   tracks,
		Wall:     func(track uint8, pts time.Duration) (time.Time, bool) { return sub.Wall(order[track], pts) },
		KeyFrame: func() { sub.Feedback(media.Feedback{KeyFrame: true}) },
	}, log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.Close()) }()
	place := make([]uint8, len(order))
	for to, from := range order {
		place[from] = uint8(to)
	}
	idle := time.NewTimer(idleAfter)
	defer idle.Stop()
	var packets []*media.Packet
	for ending := false; ; {
		if packets, err = sub.Take(packets[:0]); err != nil {
			return err
		}
		for _, p := range packets {
			own := *p
			own.Track = place[p.Track]
			n, err := w.Write(&own)
			s.count.bytes.Add(uint64(n))
			if err != nil {
				return err
			}
		}
		if ending {
			return nil
		}
		if len(packets) > 0 {
			idle.Reset(idleAfter)
		}
		select {
		case <-sub.Ready():
		case <-idle.C:
			if err := w.Close(); err != nil {
				return err
			}
		case <-ctx.Done():
			ending = true // what has come already is kept
		}
	}
}

// largestFirst returns tracks with the largest of several layers first, which is the one that is recorded; order says which
// each was.
func largestFirst(tracks []media.Track) (sorted []media.Track, order []uint8) {
	for i := range tracks {
		order = append(order, uint8(i))
	}
	slices.SortStableFunc(order, func(a, b uint8) int { return cmp.Compare(tracks[b].Width, tracks[a].Width) })
	for _, i := range order {
		sorted = append(sorted, tracks[i])
	}
	return sorted, order
}

// folderName is a stream's folder: its name, without the paths that it may have.
func folderName(stream string) string { return strings.ReplaceAll(stream, "/", "%2F") }

func streamName(folder string) string { return strings.ReplaceAll(folder, "%2F", "/") }

// folder returns a stream's recordings.
func (s *Server) folder(stream string) *recording.Folder {
	s.mu.Lock()
	defer s.mu.Unlock()
	f := s.folders[stream]
	if f == nil {
		f = recording.NewFolder(s.dir(stream))
		if _, err := os.Stat(s.dir(stream)); err == nil { // not for whatever name somebody asks for
			s.folders[stream] = f
		}
	}
	return f
}

func (s *Server) dir(stream string) string { return filepath.Join(s.config.Dir, folderName(stream)) }

// streams returns of which there are recordings.
func (s *Server) streams() (names []string, err error) {
	entries, err := os.ReadDir(s.config.Dir)
	if err != nil && !os.IsNotExist(err) {
		return nil, err
	}
	for _, e := range entries {
		if name := streamName(e.Name()); e.IsDir() && relay.ValidName(name) {
			names = append(names, name)
		}
	}
	return names, nil
}
