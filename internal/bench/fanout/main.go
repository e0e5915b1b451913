// Command fanout measures what it costs a relay to send one stream to many viewers: CPU time for each gigabit, losses,
// latency, the time to the first picture and memory. It runs the relay, the limit (a bare loop that encrypts and sends) and,
// where one is named, another relay, in turns, and prints the medians as a table. docs/fanout.md says how to read it.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"gantry/internal/bench/load"
)

// A load case: so many viewers of a stream of that bit rate, with so many slices a picture.
type loadCase struct {
	viewers, bitrate, slices int
}

func (c loadCase) String() string {
	return fmt.Sprintf("%d × %.3gM / %d", c.viewers, float64(c.bitrate)/1e6, c.slices)
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "fanout:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	relay := flag.String("relay", "bin/gantry-relay", "the relay's binary; empty: not run")
	peer := flag.String("peer", os.Getenv("PEER"), "another relay's binary (MediaMTX); empty: none")
	cases := flag.String("cases", "10x4,100x4,100x4/1,200x4,300x1.5", "viewers x Mbit/s / slices a picture, with commas between; a slice is a run of packets with an end of its own, and without a number there are four")
	runs := flag.Int("runs", 3, "runs of each, of those with 200 viewers and more one; the table has the medians")
	seconds := flag.Int("seconds", 6, "length of each measurement")
	gro := flag.Bool("gro", false, "receive with UDP_GRO, as a network card that segments takes packets")
	bare := flag.Bool("limit", true, "run the limit too")
	obeys := flag.Bool("obeys", true, "the publisher makes key frames when asked")
	joins := flag.Int("joins", 10, "viewers that join one by one in the end of the first run of each, to measure the first picture")
	storm := flag.Int("storm", 0, "viewers a second that join and leave during the measurement")
	rtt := flag.Duration("rtt", 0, "round trip to those that join and leave")
	cycles := flag.Int("cycles", 0, "let so many viewers join and leave beside the first case's, show what that leaves behind, and do nothing else")
	var c child
	flag.StringVar(&c.limit, "child-limit", "", "internal, as all that begin so")
	flag.StringVar(&c.publisher, "child-publisher", "", "")
	flag.StringVar(&c.picture, "child-picture", "", "")
	flag.StringVar(&c.crowd, "child-crowd", "", "")
	flag.IntVar(&c.perSecond, "child-rate", 0, "")
	flag.IntVar(&c.cycles, "child-cycles", 0, "")
	flag.DurationVar(&c.rtt, "child-rtt", 0, "")
	flag.Parse()
	c.obeys = *obeys
	if err := c.run(ctx); err != errNone {
		return err
	}
	list, err := parseCases(*cases)
	if err != nil {
		return err
	}
	var servers []server
	if *relay != "" {
		servers = append(servers, &gantry{binary: *relay})
	}
	if *bare {
		servers = append(servers, &bareLimit{})
	}
	if *peer != "" {
		servers = append(servers, &mediamtx{binary: *peer})
	}
	b := &bench{seconds: *seconds, gro: *gro, obeys: *obeys, joins: *joins, storm: *storm, rtt: *rtt}
	if b.dir, err = os.MkdirTemp("", "fanout"); err != nil {
		return err
	}
	defer os.RemoveAll(b.dir)
	if *cycles > 0 {
		return b.churn(ctx, &gantry{binary: *relay}, list[0], *cycles)
	}
	printHead()
	for _, c := range list {
		results := map[string][]result{}
		n := *runs
		if c.viewers >= 200 {
			n = 1 // they take long, and are steadier
		}
		for i := range n {
			for _, s := range servers {
				r, err := b.measure(ctx, s, c, i == 0)
				if ctx.Err() != nil {
					return nil
				}
				if err != nil {
					return fmt.Errorf("%s, %v: %w", s.name(), c, err)
				}
				results[s.name()] = append(results[s.name()], r)
			}
		}
		for _, s := range servers {
			printRow(c, s.name(), results[s.name()])
		}
	}
	return nil
}

func parseCases(s string) ([]loadCase, error) {
	var list []loadCase
	for part := range strings.SplitSeq(s, ",") {
		load, number, some := strings.Cut(part, "/")
		cut := 4
		if some {
			var err error
			if cut, err = strconv.Atoi(number); err != nil || cut < 1 || cut > 32 {
				return nil, fmt.Errorf("cases: %q: want 1 to 32 slices", part)
			}
		}
		n, mbit, ok := strings.Cut(load, "x")
		viewers, err := strconv.Atoi(n)
		rate, err2 := strconv.ParseFloat(mbit, 64)
		if !ok || err != nil || err2 != nil || viewers < 1 || rate <= 0 {
			return nil, fmt.Errorf("cases: %q: want viewers x Mbit/s, as 100x4", part)
		}
		list = append(list, loadCase{viewers, int(rate * 1e6), cut})
	}
	return list, nil
}

// A result is one run's.
type result struct {
	cpuPerGbit, perPacket    float64 // seconds; microseconds
	lost                     float64 // share
	p50, p99                 time.Duration
	keys, firstP50, firstP95 time.Duration
	rss, perViewer           float64 // MB; MB for each viewer
	profile                  string
}

func printHead() {
	fmt.Println("| viewers × rate / slices | server | CPU-s/Gbit | µs/packet | lost | latency p50 / p99 | keys p50, first frame p50 / p95 | RSS, a viewer | SRTP |")
	fmt.Println("|---|---|---|---|---|---|---|---|---|")
}

func printRow(c loadCase, name string, rs []result) {
	if len(rs) == 0 {
		return
	}
	med := func(f func(result) float64) float64 {
		var v []float64
		for _, r := range rs {
			v = append(v, f(r))
		}
		slices.Sort(v)
		return v[len(v)/2]
	}
	ms := func(f func(result) time.Duration) string {
		var v []time.Duration
		for _, r := range rs {
			if d := f(r); d != 0 { // else it was not measured
				v = append(v, d)
			}
		}
		slices.Sort(v)
		if len(v) == 0 {
			return "–"
		}
		return fmt.Sprintf("%.3g", float64(v[len(v)/2])/1e6)
	}
	fmt.Printf("| %v | %s | %.3f | %.2f | %.2g %% | %s / %s ms | %s, %s / %s ms | %.0f, %.2f MB | %s |\n", c, name,
		med(func(r result) float64 { return r.cpuPerGbit }), med(func(r result) float64 { return r.perPacket }),
		100*med(func(r result) float64 { return r.lost }),
		ms(func(r result) time.Duration { return r.p50 }), ms(func(r result) time.Duration { return r.p99 }),
		ms(func(r result) time.Duration { return r.keys }), ms(func(r result) time.Duration { return r.firstP50 }), ms(func(r result) time.Duration { return r.firstP95 }),
		med(func(r result) float64 { return r.rss }), med(func(r result) float64 { return r.perViewer }), rs[0].profile)
}

// percentile returns the p-th of sorted values.
func percentile(sorted []time.Duration, p float64) time.Duration {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[min(int(p*float64(len(sorted))), len(sorted)-1)]
}

// bench is what all measurements have in common.
type bench struct {
	seconds, joins, storm int
	rtt                   time.Duration
	gro, obeys            bool
	dir                   string
}

// measure starts a server, loads it, lets some join one by one if joins says so, and stops it.
func (b *bench) measure(ctx context.Context, s server, c loadCase, joins bool) (r result, err error) {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Minute)
	defer cancel()
	file, err := b.picture(ctx, c)
	if err != nil {
		return r, err
	}
	loop, err := load.NewLoop(b.gro)
	if err != nil {
		return r, err
	}
	defer loop.Close()
	if l, ok := s.(*bareLimit); ok {
		return b.measureLimit(ctx, l, loop, c, file)
	}
	process, err := s.start(ctx, b.dir)
	if err != nil {
		return r, err
	}
	defer process.stop()
	publisher, err := b.startPublisher(ctx, file, s.whip())
	if err != nil {
		return r, err
	}
	defer publisher.stop()
	before, err := process.rss()
	if err != nil {
		return r, err
	}
	viewers, err := dialMany(ctx, loop, s.whep(), c.viewers)
	defer closeMany(viewers)
	if err != nil {
		return r, err
	}
	if err := pause(ctx, 2*time.Second); err != nil {
		return r, err
	}
	for _, v := range viewers {
		v.Reset()
	}
	if b.storm > 0 {
		crowd, err := b.startCrowd(ctx, s.whep(), 0)
		if err != nil {
			return r, err
		}
		defer func() {
			crowd.stop()
			fmt.Fprint(os.Stderr, crowd.out)
		}()
	}
	from, err := process.cpu()
	if err == nil {
		err = pause(ctx, time.Duration(b.seconds)*time.Second)
	}
	to, err2 := process.cpu()
	sum := total(viewers)
	after, err3 := process.rss()
	if err := errors.Join(err, err2, err3); err != nil {
		return r, err
	}
	sum.fill(&r, to-from)
	r.rss = float64(after) / 1e6
	r.perViewer = float64(after-before) / 1e6 / float64(c.viewers)
	if joins {
		err = b.measureJoins(ctx, loop, s.whep(), &r)
	}
	return r, err
}

// measureJoins lets viewers join one by one, at uneven times, and notes when they have a picture.
func (b *bench) measureJoins(ctx context.Context, loop *load.Loop, whep string, r *result) error {
	var first, keys []time.Duration
	for i := range b.joins {
		v, err := load.Dial(ctx, loop, whep, load.Options{})
		if err != nil {
			return fmt.Errorf("join: %w", err)
		}
		deadline := time.Now().Add(5 * time.Second)
		for v.Measure().FirstFrame == 0 && time.Now().Before(deadline) {
			if err := pause(ctx, 5*time.Millisecond); err != nil {
				return err
			}
		}
		m := v.Measure()
		v.Close(ctx, load.Options{})
		if m.FirstFrame == 0 {
			m.FirstFrame = 5 * time.Second
		}
		first, keys = append(first, m.FirstFrame), append(keys, m.Keys)
		if err := pause(ctx, time.Duration(113*(i%7)+50)*time.Millisecond); err != nil {
			return err
		}
	}
	slices.Sort(first)
	slices.Sort(keys)
	r.keys, r.firstP50, r.firstP95 = percentile(keys, 0.5), percentile(first, 0.5), percentile(first, 0.95)
	return nil
}

func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
