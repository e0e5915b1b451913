package testkit

import (
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"gantry/media"
)

func TestMain(m *testing.M) { Main(m) }

// A leak check that finds nothing proves nothing: each kind of leak is made here and must be named.
func TestLeaksAreFound(t *testing.T) {
	before := takeInventory()
	if err := before.leaks(grace); err != nil {
		t.Fatalf("nothing leaked, yet: %v", err)
	}
	started, stop := make(chan struct{}), make(chan struct{})
	go leakyWorker(started, stop)
	<-started // before that its stack does not name it
	file, err := os.Open("/dev/null")
	if err != nil {
		t.Fatal(err)
	}
	child := exec.Command("/bin/sleep", "60")
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	frame := media.NewPool(media.VideoFormat{Width: 16, Height: 16, FourCC: media.NV12}, 1).Get()

	err = before.leaks(0)
	if err == nil {
		t.Fatal("four leaks, none found")
	}
	for _, want := range []string{"leakyWorker", "still open: /dev/null", "sleep", "1 media.Frames not released"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("not named: %q in\n%v", want, err)
		}
	}

	close(stop)
	_ = file.Close()
	_ = child.Process.Kill()
	_ = child.Wait()
	frame.Release()
	if err := before.leaks(grace); err != nil {
		t.Errorf("all is given back, yet: %v", err)
	}
}

func leakyWorker(started, stop chan struct{}) {
	close(started)
	<-stop
}

func TestProcess(t *testing.T) {
	p := Start(t, "/bin/sh", "-c", `trap 'echo bye; exit 0' TERM; echo "listening on 127.0.0.1:7"; while :; do sleep 0.02; done`)
	if m := p.WaitLine(5*time.Second, `^listening on (\S+)$`); m[1] != "127.0.0.1:7" {
		t.Errorf("got %q", m[1])
	}
	if err := p.Stop(); err != nil {
		t.Error(err)
	}
	if !strings.HasSuffix(p.Log(), "bye\n") {
		t.Errorf("log %q", p.Log())
	}
}

func TestProcessFailures(t *testing.T) {
	p := Start(t, "/bin/sh", "-c", "exit 3")
	if got := p.Exits(5 * time.Second); got != 3 {
		t.Errorf("exit status %d", got)
	}
	p = Start(t, "/bin/sh", "-c", `trap 'exit 4' TERM; echo up; while :; do sleep 0.02; done`)
	p.WaitLine(5*time.Second, "^up$")
	if err := p.Stop(); err == nil || err.Error() != "exit status 4" {
		t.Errorf("a daemon that stops with status 4 gave %v", err)
	}
	p = Start(t, "/bin/sh", "-c", "exit 0")
	<-p.Done()
	if err := p.Stop(); err == nil {
		t.Error("a daemon that ended by itself was not noticed")
	}
}

func TestEventually(t *testing.T) {
	n := 0
	Eventually(t, time.Second, "three calls", func() bool { n++; return n == 3 })
}

func TestRoot(t *testing.T) {
	if _, err := os.Stat(Root(t) + "/go.mod"); err != nil {
		t.Error(err)
	}
}
