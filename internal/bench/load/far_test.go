package load

import (
	"testing"
	"testing/synctest"
	"time"
)

// What a client far away sends leaves later, and in order.
func TestFar(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		var sent []byte
		var at []time.Duration
		f := newFar(100*time.Millisecond, func(b []byte) {
			sent = append(sent, b...)
			at = append(at, time.Since(began))
		})
		stop := make(chan struct{})
		go f.run(stop)
		packet := []byte("a")
		f.put(packet)
		packet[0] = '!' // it was lent
		time.Sleep(30 * time.Millisecond)
		f.put([]byte("b"))
		f.put([]byte("c"))
		time.Sleep(time.Second)
		f.put([]byte("d"))
		close(stop)
		synctest.Wait()
		if string(sent) != "abc" || at[0] != 100*time.Millisecond || at[2] != 130*time.Millisecond {
			t.Errorf("%q left after %v", sent, at)
		}
	})
}
