package whip

import (
	"context"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"syscall"
	"testing"
	"time"

	"gantry/internal/rtc"
	"gantry/internal/testkit"
	"gantry/internal/testkit/netns"
)

const roamerURL = "GANTRY_TEST_ROAMER_URL"

// TestRoamer is no test but the program that TestRoaming runs in a network namespace: a Sender until SIGTERM.
func TestRoamer(t *testing.T) {
	url := os.Getenv(roamerURL)
	if url == "" {
		return
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	prog := newProgramme(1_000_000)
	prog.Tracks[0].Profile = "64001e"
	prog.replay(ctx, t)
	c := config(url)
	c.Token = token
	sender, err := New(c, slog.New(slog.NewTextHandler(os.Stdout, nil)))
	must(t, err)
	if err := sender.Run(ctx, prog.Program); err != nil {
		t.Error(err)
	}
}

// The box moves to another network: its address goes and another comes. The session goes on, in the relay too.
func TestRoaming(t *testing.T) {
	t.Parallel()
	box, far, _ := netns.Pair(t, netns.Impairment{Delay: 10 * time.Millisecond}, netns.Impairment{Delay: 10 * time.Millisecond})
	var port *rtc.Port
	must(t, far.Do(func() (err error) {
		port, err = rtc.Listen(rtc.Config{Addr: net.JoinHostPort(far.Addr.String(), "0")}, slog.New(slog.DiscardHandler))
		return err
	}))
	web, err := far.Listen("tcp", net.JoinHostPort(far.Addr.String(), "0"))
	must(t, err)
	s := newStationOn(t, port, web, nil)

	cmd := box.Command(os.Args[0], "-test.run=^TestRoamer$")
	cmd.Env = append(os.Environ(), roamerURL+"="+s.web.URL+"/whip/camera")
	p := testkit.StartCmd(t, cmd)
	p.WaitLine(20*time.Second, "msg=publishing remote=")
	s.watch(t, "camera", func(seenPicture) bool { return false })

	ip := func(n *netns.Namespace, args ...string) {
		if out, err := n.Command("ip", args...).CombinedOutput(); err != nil {
			t.Fatalf("ip %v: %v: %s", args, err, out)
		}
	}
	ip(far, "route", "add", "198.18.1.0/24", "dev", "link0")
	ip(box, "address", "add", "198.18.1.1/24", "dev", "link0")
	ip(box, "address", "del", box.Addr.String()+"/30", "dev", "link0")
	ip(box, "route", "add", far.Addr.String(), "dev", "link0", "src", "198.18.1.1")
	begin := time.Now()
	p.WaitLine(10*time.Second, `msg="path restored"`)
	t.Logf("path restored after %v", time.Since(begin).Round(10*time.Millisecond))
	count := 0
	s.watch(t, "camera", func(seenPicture) bool { count++; return count < 60 })
	if n := s.server.Counters().Sessions.Load(); n != 1 {
		t.Errorf("%d sessions", n)
	}
	must(t, p.Stop())
	testkit.Eventually(t, 5*time.Second, "the session to be deleted", func() bool { return s.server.Counters().Sessions.Load() == 0 })
}
