package e2e

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"gantry/internal/testkit"
	"gantry/internal/testkit/chromium"
	"gantry/internal/testkit/netns"
)

// coturn starts a STUN and TURN server in a namespace; its secret is turn-secret-1.
func coturn(t *testing.T, n *netns.Namespace) *testkit.Process {
	t.Helper()
	host := n.Addr.String()
	p := testkit.StartCmd(t, n.Command("turnserver", "-n", "--listening-ip="+host, "--relay-ip="+host, "--listening-port=3478",
		"--use-auth-secret", "--static-auth-secret=turn-secret-1", "--realm=gantry", "--no-tls", "--no-dtls", "--no-cli", "--allow-loopback-peers",
		"--min-port=50000", "--max-port=50099", "--log-file=stdout", "--simple-log", "--verbose",
		"--pidfile="+filepath.Join(t.TempDir(), "pid"), "--userdb="+filepath.Join(t.TempDir(), "db")))
	t.Cleanup(p.Kill) // it takes SIGTERM for a crash
	return p
}

// A relay stands behind a NAT, as in a cloud or at home, and so do its publisher and its viewers.
func TestRelayBehindNAT(t *testing.T) {
	t.Parallel()
	internet := netns.NewInternet(t)
	turn := coturn(t, internet.Host("203.0.113.9", access))
	homeNAT := internet.NAT(netns.Symmetric, "198.51.100.2")
	home := internet.Behind(homeNAT, "192.168.2.2", access)
	page := chromium.Launch(t, chromium.Options{Prefix: home.Prefix()})
	const (
		stun  = "stun-server: 203.0.113.9:3478\n"
		hands = "ice-servers:\n  - {url: \"stun:203.0.113.9:3478\"}\n"
	)
	for i, c := range []struct {
		name    string
		kind    netns.NATKind
		forward []uint16
		config  string
		others  netns.NATKind // the publisher's and the viewers'
		relayed bool          // by the TURN server
	}{
		{"a cloud's public address", netns.OneToOne, nil, "public-address: [203.0.113.10]\n", netns.Symmetric, false},
		{"ports forwarded, STUN", netns.PortRestricted, []uint16{8080, 8189}, stun, netns.Symmetric, false},
		// Pages come in, media do not. Two NATs can be punched, unless one is symmetric.
		{"no way in, STUN", netns.PortRestricted, []uint16{8080}, stun + hands, netns.PortRestricted, false},
		{"no way in, TURN", netns.PortRestricted, []uint16{8080}, stun + hands + "  - {url: \"turn:203.0.113.9:3478?transport=udp\", secret: turn-secret-1}\n", netns.Symmetric, true},
	} {
		t.Run(strings.ReplaceAll(c.name, " ", "-"), func(t *testing.T) {
			page, public := page.For(t), fmt.Sprintf("203.0.113.%d", 10+i)
			nat := internet.NAT(c.kind, public)
			host := internet.Behind(nat, "10.0.0.2", access)
			for _, port := range c.forward {
				nat.Forward(port, host.Addr)
			}
			relay := relayIn(t, host, public, c.config)
			box := internet.Behind(internet.NAT(c.others, fmt.Sprintf("198.51.100.%d", 10+i)), "192.168.1.2", access)
			homeNAT.Rebind(c.others, "198.51.100.2")
			begun, allocated := time.Now(), strings.Count(turn.Log(), "ALLOCATE processed, success")
			publisher := relay.publisher(t, box, "demo")
			line := publisher.WaitLine(60*time.Second, `msg=publishing .*`)[0]
			page.Navigate("http://" + relay.at + "/play/demo")
			page.Wait(40*time.Second, player+`.state === "playing"`, player+".status")
			shows(page, 10*time.Second)
			t.Logf("%s; a second of pictures after %v", line, time.Since(begun).Round(100*time.Millisecond))
			if used := strings.Count(turn.Log(), "ALLOCATE processed, success") > allocated; used != c.relayed {
				t.Errorf("the TURN server was used: %v", used)
			}
		})
	}
}

// Relay, publisher and viewers have no IPv4 at all, not even 127.0.0.1.
func TestIPv6Only(t *testing.T) {
	t.Parallel()
	internet := netns.NewInternet(t)
	relay := relayIn(t, internet.Host("2001:db8::1", access), "2001:db8::1", "")
	box, home := internet.Host("2001:db8::2", access), internet.Host("2001:db8::3", access)
	line := relay.publisher(t, box, "demo").WaitLine(20*time.Second, `msg=publishing .*`)[0]
	if !strings.Contains(line, "remote=[2001:db8::1]:8189 transport=udp") {
		t.Error(line)
	}
	watching := relay.watcher(t, home, "demo")
	page := chromium.Open(t, chromium.Options{Prefix: home.Prefix()}, "http://"+relay.at+"/play/demo")
	page.Wait(20*time.Second, player+`.state === "playing"`, player+".status")
	shows(page, 10*time.Second)
	watching.WaitLine(10*time.Second, picture.String())
}
