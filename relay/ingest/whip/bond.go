package whip

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	proto "gantry/internal/proto/whip"
	"gantry/media"
	"gantry/relay"
)

const (
	maxPaths = 4
	// What is missing is given up when each path has brought something later, as each brings its packets in order, or is overdue.
	// Pictures may wait for room on a path; sound goes first everywhere.
	picturePatience = 3 * time.Second // however late a path is
	soundPatience   = 700 * time.Millisecond
	repairTime      = 800 * time.Millisecond // for which a path may hold back what follows a packet that it asks for again
	lagFade         = 64                     // access units in which a path is believed to have become faster
	maxWaiting      = 512                    // access units of a track
	maxRecent       = 1024                   // access units whose arrival is remembered; a power of two
	quietPath       = 2 * time.Second
	quietEvery      = time.Second // between looks for paths that are quiet
)

var (
	errPathReplaced = errors.New("replaced by a newer session on the same path")
	errOtherTracks  = errors.New("the paths of one bond have different tracks")
)

// A bonding says which of several sessions of one programme this is: both (or all) carry the same RTP packets, with the same
// sequence numbers and times, as SMPTE ST 2022-7 has it.
type bonding struct {
	id    string // chosen by the publisher; empty: this session stands alone
	path  int
	paths int
}

var bondID = regexp.MustCompile(`^[A-Za-z0-9]{8,64}$`)

// parseBonding reads ?bond=ID&path=0&paths=2.
func parseBonding(q url.Values) (b bonding, err error) {
	if b.id = q.Get("bond"); b.id == "" {
		return b, nil
	}
	b.path, err = strconv.Atoi(q.Get("path"))
	paths, err2 := strconv.Atoi(q.Get("paths"))
	if b.paths = paths; err != nil || err2 != nil || paths < 1 || paths > maxPaths || b.path < 0 || b.path >= paths || !bondID.MatchString(b.id) {
		return b, proto.Errorf(http.StatusBadRequest, "bond: want 8 to 64 letters and digits, path below paths, and paths of at most %d", maxPaths)
	}
	return b, nil
}

// A publication is where a session's packets go: the Hub, or a bond.
type publication interface {
	Write(p *media.Packet)
	Sync(track uint8, pts time.Duration, wall time.Time)
	Update(track uint8, t media.Track)
	Fault(code, reason string)
	Done() <-chan struct{}
	Err() error
	Close() error
}

// bonds are a Server's, by stream and id.
type bonds struct {
	mu  sync.Mutex
	all map[bondKey]*bond
}

type bondKey struct{ stream, id string }

// A bond makes one Publication of the sessions that carry the same programme: each access unit is taken from the path on which
// it comes whole first, in the order of their sequence numbers.
type bond struct {
	key   bondKey
	paths int
	now   func() time.Duration
	bonds *bonds

	mu      sync.Mutex
	pub     *relay.Publication
	tracks  []bondTrack
	members atomic.Pointer[[]*member] // replaced with mu held, never written to
	zero    time.Time                 // wall time of the bond's PTS 0; zero: not known
	looked  time.Duration
	fault   string
}

// A bondTrack is one track of a bond.
type bondTrack struct {
	media.Track
	begun   bool
	last    int64 // sequence number of the last packet written, unwrapped
	ts      uint32
	pts     time.Duration // of ts
	dts     time.Duration
	synced  time.Duration
	lost    bool // to be told with the next access unit
	needKey bool // something was lost since the last key frame
	asked   time.Duration
	waiting []*bondUnit
	recent  [maxRecent]arrival // by sequence number
}

// An arrival is when an access unit came whole first.
type arrival struct {
	last int64 // its last sequence number
	at   time.Duration
}

// A bondUnit is an access unit of one path.
type bondUnit struct {
	first, last int64 // sequence numbers
	ts          uint32
	from        *member
	packets     []*media.Packet
	came        time.Duration
}

// A member is one session of a bond. It is the session's publication.
type member struct {
	*relay.Publication // for what concerns all
	bond               *bond
	session            *session
	tracks             []memberTrack
	heard              atomic.Int64 // bond.now() of the last packet
}

// A memberTrack is one track of a member.
type memberTrack struct {
	under  bondUnit      // the access unit that is coming
	passed int64         // sequence number of which, and of all before it, nothing more comes here
	lag    time.Duration // behind the fastest path
	zero   time.Time     // wall time of the session's PTS 0
}

// join enters a session into its bond. The session is locked.
func (b *bonds) join(s *session, tracks []media.Track) (*member, error) {
	key := bondKey{s.stream, s.bond.id}
	b.mu.Lock()
	defer b.mu.Unlock()
	one := b.all[key]
	if one == nil {
		start := time.Now()
		one = &bond{key: key, paths: s.bond.paths, bonds: b, now: func() time.Duration { return time.Since(start) }}
		one.members.Store(new([]*member))
		for _, t := range tracks {
			one.tracks = append(one.tracks, bondTrack{Track: t})
		}
		pub, err := s.server.hub.Publish(s.stream, relay.Publisher{Tracks: tracks, Protocol: "whip", Remote: s.remote.String(), Priority: s.priority,
			Feedback: one.feedback})
		if err != nil {
			return nil, err
		}
		one.pub = pub
		b.all[key] = one
	}
	one.mu.Lock()
	defer one.mu.Unlock()
	if !slices.EqualFunc(one.tracks, tracks, func(a bondTrack, t media.Track) bool {
		return a.Codec == t.Codec && a.ClockRate == t.ClockRate && a.RID == t.RID
	}) {
		return nil, errOtherTracks
	}
	m := &member{Publication: one.pub, bond: one, session: s, tracks: make([]memberTrack, len(tracks))}
	for i := range m.tracks {
		m.tracks[i].passed = math.MinInt64
	}
	m.heard.Store(int64(one.now()))
	members := []*member{m}
	for _, o := range *one.members.Load() {
		if o.session.bond.path == s.bond.path {
			o.session.end(errPathReplaced)
			continue
		}
		members = append(members, o)
	}
	one.members.Store(&members)
	one.judge()
	return m, nil
}

// feedback passes on what the Hub wants, to the path that was heard last, which is the one that works. It is called with the
// Stream locked, and takes no lock but the mailbox's.
func (b *bond) feedback(f media.Feedback) {
	if members := *b.members.Load(); len(members) > 0 {
		slices.MaxFunc(members, func(a, o *member) int { return cmp.Compare(a.heard.Load(), o.heard.Load()) }).session.feedback.Put(f)
	}
}

// Close takes the session out of the bond, and ends the Publication with the last.
func (m *member) Close() error {
	b := m.bond
	b.bonds.mu.Lock()
	defer b.bonds.mu.Unlock()
	b.mu.Lock()
	defer b.mu.Unlock()
	left := slices.DeleteFunc(slices.Clone(*b.members.Load()), func(o *member) bool { return o == m })
	if b.members.Store(&left); len(left) > 0 {
		b.judge()
		return nil
	}
	if b.bonds.all[b.key] == b {
		delete(b.bonds.all, b.key)
	}
	return b.pub.Close()
}

// Sync notes the capture clock of the session's own times.
func (m *member) Sync(track uint8, pts time.Duration, wall time.Time) {
	m.bond.mu.Lock()
	defer m.bond.mu.Unlock()
	m.tracks[track].zero = wall.Add(-pts)
}

// write takes a packet of an access unit whose packets so far have the sequence numbers from first to last.
func (m *member) write(first, last uint16, ts uint32, p *media.Packet) {
	b := m.bond
	b.mu.Lock()
	defer b.mu.Unlock()
	now := b.now()
	m.heard.Store(int64(now))
	t, own := &b.tracks[p.Track], &m.tracks[p.Track]
	u := &own.under
	if p.Start {
		*u = bondUnit{ts: ts, from: m, came: now}
		if t.begun {
			own.passed = max(own.passed, t.unwrap(first)-1)
		}
	} else if u.from == nil {
		return
	}
	u.packets = append(u.packets, p)
	if !p.End {
		return
	}
	u.first = t.unwrap(first)
	u.last = u.first + int64(last-first)
	unit := *u
	*u = bondUnit{}
	if !t.begun {
		if !unit.packets[0].Key && t.Codec.Video() {
			return
		}
		t.begun, t.last = true, unit.first-1
		b.start(t, &unit)
	}
	own.passed = max(own.passed, unit.last)
	own.follow(t.arrived(unit.last, now))
	if unit.last <= t.last {
		return // it came on another path before
	}
	i, there := slices.BinarySearchFunc(t.waiting, unit.first, func(w *bondUnit, first int64) int { return cmp.Compare(w.first, first) })
	if !there && unit.first > t.last {
		t.waiting = slices.Insert(t.waiting, i, &unit)
	}
	b.advance(p.Track, now)
	if now-b.looked > quietEvery {
		b.looked = now
		b.judge()
	}
}

// unwrap returns the count whose lower bits a sequence number is, the nearest to the last.
func (t *bondTrack) unwrap(seq uint16) int64 {
	if !t.begun {
		return int64(seq)
	}
	return t.last + int64(int16(seq-uint16(t.last)))
}

// arrived returns how long ago an access unit came first.
func (t *bondTrack) arrived(last int64, now time.Duration) time.Duration {
	a := &t.recent[uint64(last)%maxRecent]
	if a.last != last || a.at == 0 {
		*a = arrival{last, now}
	}
	return now - a.at
}

// follow takes by how much the path was behind with an access unit.
func (l *memberTrack) follow(behind time.Duration) {
	l.lag = max(behind, l.lag-(l.lag-behind)/lagFade)
}

// start finds where a track's times begin, by the capture clock where it is known, so that sound and pictures of different
// members belong together.
func (b *bond) start(t *bondTrack, u *bondUnit) {
	p := u.packets[0]
	t.ts, t.pts = u.ts, p.PTS
	zero := u.from.tracks[p.Track].zero
	if b.zero.IsZero() {
		b.zero = zero
	}
	if !zero.IsZero() {
		t.pts += zero.Sub(b.zero)
	}
}

// advance writes what follows, and gives up what is missing when no path will bring it.
func (b *bond) advance(track uint8, now time.Duration) {
	t := &b.tracks[track]
	for len(t.waiting) > 0 {
		u := t.waiting[0]
		switch {
		case u.first <= t.last: // came on another path
		case u.first == t.last+1:
			b.emit(t, u, now)
		case len(t.waiting) > maxWaiting || !b.expects(track, u, now):
			t.lost = true
			if t.Codec.Video() {
				t.needKey = true
				t.skipToKey()
				u = t.waiting[0]
			}
			b.emit(t, u, now)
		default:
			return
		}
		t.waiting[0] = nil
		t.waiting = t.waiting[1:]
	}
	if t.needKey && (t.asked == 0 || now-t.asked >= keyRetry) {
		t.asked = now
		for _, m := range *b.members.Load() { // the request may be lost as well
			m.session.feedback.Put(media.Feedback{KeyFrame: true})
		}
	}
}

// expects tells whether a path may still bring what is missing before u.
func (b *bond) expects(track uint8, u *bondUnit, now time.Duration) bool {
	patience := picturePatience
	if b.tracks[track].Codec.Audio() {
		patience = soundPatience
	}
	for _, m := range *b.members.Load() {
		l := &m.tracks[track]
		if l.passed >= u.first-1 || now-time.Duration(m.heard.Load()) > quietPath {
			continue
		}
		if now-u.came <= min(l.lag+l.lag/2+repairTime, patience) {
			return true
		}
	}
	return false
}

// skipToKey leaves out what waits before the newest key frame: it cannot be decoded.
func (t *bondTrack) skipToKey() {
	for i := len(t.waiting) - 1; i > 0; i-- {
		if t.waiting[i].packets[0].Key {
			t.waiting = slices.Delete(t.waiting, 0, i)
			return
		}
	}
}

func (b *bond) emit(t *bondTrack, u *bondUnit, now time.Duration) {
	step := int64(int32(u.ts - t.ts))
	t.pts += time.Duration(step/int64(t.ClockRate))*time.Second + time.Duration(step%int64(t.ClockRate))*time.Second/time.Duration(t.ClockRate)
	t.ts, t.last, t.dts = u.ts, u.last, max(t.dts, t.pts)
	own := u.packets[0].PTS
	if zero := u.from.tracks[u.packets[0].Track].zero; !zero.IsZero() && (t.synced == 0 || now-t.synced >= syncEvery) {
		t.synced = now
		b.pub.Sync(u.packets[0].Track, t.pts, zero.Add(own))
	}
	for i, p := range u.packets {
		moved := *p
		moved.PTS, moved.DTS, moved.Lost = t.pts, t.dts, i == 0 && t.lost
		b.pub.Write(&moved)
	}
	t.lost = false
	t.needKey = t.needKey && !u.packets[0].Key
}

// judge says which paths are missing.
func (b *bond) judge() {
	now := b.now()
	reason := ""
	quiet := 0
	members := *b.members.Load()
	for _, m := range members {
		if now-time.Duration(m.heard.Load()) > quietPath {
			quiet++
			reason = fmt.Sprintf("; nothing comes from %v", m.session.remote)
		}
	}
	if working := len(members) - quiet; working < b.paths {
		reason = fmt.Sprintf("%d of %d paths work%s: the programme is not protected", working, b.paths, reason)
	} else {
		reason = ""
	}
	if reason != b.fault {
		b.fault = reason
		b.pub.Fault("path", reason)
	}
}
