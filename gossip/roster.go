package gossip

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"maps"
	"net"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"
)

// State is what is known of whether a member lives.
type State string

// The states. A suspect still counts as alive: it did not answer this node's own probe, and has some seconds to speak up.
const (
	Alive   State = "alive"
	Suspect State = "suspect"
	Dead    State = "dead"
	Left    State = "left"
)

// Member is a node as this one knows it.
type Member struct {
	Name    string
	Address string // of memberlist, host:port
	State   State
	Since   time.Time // of the state, as seen here; zero: since before this node's start
	Meta    Meta
	RTT     time.Duration // of the last probe; 0: not probed yet
}

// Live says whether the member takes part: it is alive or suspect.
func (m Member) Live() bool { return m.State == Alive || m.State == Suspect }

// How long those are remembered that are gone.
const (
	forgetDead = 72 * time.Hour // elapsed time of this process
	forgetLeft = time.Hour
)

// roster is the list of members. memberlist calls it under its own lock, so it never calls memberlist.
type roster struct {
	self string

	mu      sync.Mutex
	all     map[string]*Member
	epoch   uint64          // grows with each change
	dirty   map[string]bool // to be stored
	changed func()
	came    func(back bool, name string) // a member has come; back: it was thought dead
}

func newRoster(self string) *roster {
	return &roster{self: self, all: map[string]*Member{}, dirty: map[string]bool{}, changed: func() {}, came: func(bool, string) {}}
}

// NotifyJoin is memberlist's.
func (r *roster) NotifyJoin(n *memberlist.Node) { r.note(n, Alive) }

// NotifyUpdate is memberlist's.
func (r *roster) NotifyUpdate(n *memberlist.Node) { r.note(n, Alive) }

// NotifyLeave is memberlist's: the node is dead, or has left. Which of them memberlist does not say, so a node that leaves tells it in
// its meta beforehand, and has left for others as soon as they know that.
func (r *roster) NotifyLeave(n *memberlist.Node) { r.note(n, Dead) }

func (r *roster) note(n *memberlist.Node, state State) {
	meta, err := decodeMeta(n.Meta)
	if err != nil { // an alive one was refused before it came here
		meta = Meta{}
	}
	if meta.Leaving && (state == Dead || n.Name != r.self) {
		state = Left
	}
	address := net.JoinHostPort(n.Addr.String(), strconv.Itoa(int(n.Port)))
	r.mu.Lock()
	old := r.all[n.Name]
	m := &Member{Name: n.Name, Address: address, State: state, Since: time.Now(), Meta: meta}
	if old != nil {
		m.RTT = old.RTT
		if old.State == state || old.State == Suspect && state == Alive {
			m.Since = old.Since
		}
	}
	r.all[n.Name] = m
	r.epoch++
	if old == nil || old.Address != m.Address || old.State != m.State {
		r.dirty[n.Name] = true
	}
	came, back := (old == nil || !old.Live()) && m.Live(), old != nil
	r.mu.Unlock()
	r.changed()
	if came && n.Name != r.self {
		r.came(back, n.Name)
	}
}

// suspect notes that a member did not answer this node's probe.
func (r *roster) suspect(name string) { r.between(name, Alive, Suspect) }

// answered notes that it did.
func (r *roster) answered(name string, rtt time.Duration) {
	r.between(name, Suspect, Alive)
	r.mu.Lock()
	defer r.mu.Unlock()
	if m := r.all[name]; m != nil {
		m.RTT = rtt
	}
}

func (r *roster) between(name string, from, to State) {
	r.mu.Lock()
	m := r.all[name]
	hit := m != nil && m.State == from
	if hit {
		m.State, m.Since = to, time.Now()
		r.epoch++
	}
	r.mu.Unlock()
	if hit {
		r.changed()
	}
}

// remember takes in a member of a former life, not yet seen in this one.
func (r *roster) remember(name, address string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.all[name] == nil {
		r.all[name] = &Member{Name: name, Address: address, State: Dead}
	}
}

// forget drops a member that does not live. It says whether it was there.
func (r *roster) forget(name string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	m := r.all[name]
	if m == nil || m.Live() || name == r.self {
		return false
	}
	delete(r.all, name)
	r.dirty[name] = true
	r.epoch++
	return true
}

// sweep forgets who has been gone for long.
func (r *roster) sweep(now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for name, m := range r.all {
		if m.State == Dead && m.Since.IsZero() {
			m.Since = now
		}
		if m.State == Dead && now.Sub(m.Since) > forgetDead || m.State == Left && now.Sub(m.Since) > forgetLeft {
			delete(r.all, name)
			r.dirty[name] = true
			r.epoch++
		}
	}
}

// list returns the members that ok accepts (nil: all), by name.
func (r *roster) list(ok func(Member) bool) []Member {
	r.mu.Lock()
	defer r.mu.Unlock()
	var all []Member
	for _, m := range r.all {
		if ok == nil || ok(*m) {
			all = append(all, *m)
		}
	}
	slices.SortFunc(all, func(a, b Member) int { return cmp.Compare(a.Name, b.Name) })
	return all
}

func (r *roster) get(name string) (Member, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if m := r.all[name]; m != nil {
		return *m, true
	}
	return Member{}, false
}

// count returns how many live and how many are known, those that left not among them; this node is in both.
func (r *roster) count() (alive, known int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, m := range r.all {
		if m.Live() {
			alive++
		}
		if m.State != Left {
			known++
		}
	}
	if r.all[r.self] == nil {
		alive, known = alive+1, known+1
	}
	return alive, known
}

// takeDirty returns the members whose stored form is old: those to be kept, and those to be deleted.
func (r *roster) takeDirty() (keep []Member, gone []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for name := range maps.Keys(r.dirty) {
		if m := r.all[name]; m != nil && m.State != Left && name != r.self {
			keep = append(keep, *m)
		} else {
			gone = append(gone, name)
		}
	}
	clear(r.dirty)
	return keep, gone
}

// weight is a node's rank for a job: rendezvous hashing. All nodes work out the same.
func weight(job, node string) uint64 {
	sum := sha256.Sum256([]byte(job + "\x00" + node))
	return binary.BigEndian.Uint64(sum[:])
}

// rank returns the names in the order in which the job falls to them.
func rank(job string, names []string) []string {
	byWeight := make(map[string]uint64, len(names))
	for _, n := range names {
		byWeight[n] = weight(job, n)
	}
	return slices.SortedFunc(slices.Values(names), func(a, b string) int {
		return cmp.Or(cmp.Compare(byWeight[b], byWeight[a]), cmp.Compare(a, b))
	})
}

// soil puts back what takeDirty has taken.
func (r *roster) soil(keep []Member, gone []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, m := range keep {
		r.dirty[m.Name] = true
	}
	for _, name := range gone {
		r.dirty[name] = true
	}
}
