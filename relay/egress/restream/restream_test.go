package restream

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"gantry/internal/testkit"
	"gantry/media"
	"gantry/relay"
	"gantry/uplink"
)

func TestMain(m *testing.M) { testkit.Main(m) }

// sender takes one packet and loses its connection, as often as it is told to, and then goes on.
type sender struct{ failures, taken atomic.Int64 }

func (s *sender) Run(ctx context.Context, p uplink.Program) error {
	p.Connected()
	for {
		if _, err := p.Packets.Pull(ctx); err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return err
		}
		s.taken.Add(1)
		if s.failures.Add(-1) >= 0 {
			return errors.New("connection lost")
		}
	}
}

// stuck never takes anything.
type stuck struct{}

func (stuck) Run(ctx context.Context, _ uplink.Program) error { <-ctx.Done(); return nil }

func TestDestinationsDoNotTouchEachOther(t *testing.T) {
	log := slog.New(slog.DiscardHandler)
	hub := relay.NewHub(relay.Default(), log)
	defer hub.Close()
	well, shaky := &sender{}, &sender{}
	shaky.failures.Store(1)
	s := New(hub, func(d Destination) (uplink.Sender, media.Codec, error) {
		if d.Token != "" {
			return nil, 0, errors.New("token: none is taken")
		}
		return map[string]uplink.Sender{"well": well, "shaky": shaky, "stuck": stuck{}}[d.Name], media.AAC, nil
	}, log)
	defer s.Close()
	for _, name := range []string{"well", "shaky", "stuck", "stuck"} { // the second replaces the first
		if err := s.Add(Destination{Stream: "a", Name: name, URL: "rtmp://host/live/secret-key"}); err != nil {
			t.Fatal(err)
		}
	}
	state := func(name string) (state State) {
		for _, s := range s.States("a") {
			if s.Name == name {
				state = s
			}
		}
		return state
	}
	testkit.Eventually(t, 3*time.Second, "they wait for the stream", func() bool {
		st := state("well")
		return st.State == "waiting" && strings.Contains(st.Reason, "not live") && st.To == "rtmp://host"
	})

	pub, err := hub.Publish("a", relay.Publisher{Tracks: []media.Track{{Codec: media.H264, ClockRate: 90000}}})
	if err != nil {
		t.Fatal(err)
	}
	var at time.Duration
	write := func() {
		pub.Write(&media.Packet{PTS: at, DTS: at, Start: true, End: true, Key: true, Data: []byte{0, 0, 0, 1, 0x65, 1}})
		at += 40 * time.Millisecond
	}
	testkit.Eventually(t, 15*time.Second, "two send in spite of the third", func() bool {
		write()
		return well.taken.Load() > 20 && shaky.taken.Load() > 20 && state("well").State == "sending" && state("shaky").State == "sending"
	})
	if st := state("stuck"); st.State != "connecting" || len(s.States("a")) != 3 {
		t.Errorf("%+v of %d", st, len(s.States("a")))
	}
	if err := s.Remove("a", "stuck"); err != nil {
		t.Fatal(err)
	}
	if err := s.Remove("a", "stuck"); !errors.Is(err, ErrUnknown) {
		t.Error(err)
	}
	testkit.Eventually(t, 5*time.Second, "two watch", func() bool { return hub.Streams()[0].Viewers == 2 })
	for _, d := range []Destination{{Stream: "a", Name: "x/y"}, {Stream: "../a", Name: "x"}, {Stream: "a", Name: "x", Token: "t"}} {
		if s.Add(d) == nil {
			t.Errorf("%+v is taken", d)
		}
	}
}

func TestLimit(t *testing.T) {
	hub := relay.NewHub(relay.Default(), slog.New(slog.DiscardHandler))
	defer hub.Close()
	s := New(hub, func(Destination) (uplink.Sender, media.Codec, error) { return stuck{}, media.AAC, nil }, slog.New(slog.DiscardHandler))
	defer s.Close()
	for i := range maxPerStream {
		if err := s.Add(Destination{Stream: "a", Name: fmt.Sprint(i)}); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Add(Destination{Stream: "a", Name: "more"}); !errors.Is(err, ErrTooMany) {
		t.Error(err)
	}
	if err := s.Add(Destination{Stream: "a", Name: "1"}); err != nil {
		t.Error("one is replaced:", err)
	}
}

func FuzzSplit(f *testing.F) {
	f.Add("/api/v1/streams/a/b/restream/c")
	f.Add("/api/v1/streams/restream")
	f.Fuzz(func(t *testing.T, path string) {
		stream, name, ok := split(path)
		if back := strings.TrimSuffix("/api/v1/streams/"+stream+"/restream/"+name, "/"); ok && name != "" && back != path {
			t.Errorf("%q is %q and %q", path, stream, name)
		}
	})
}
