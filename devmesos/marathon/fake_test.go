package marathon

import (
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"qosctl/devmesos/node"
)

// fake is a cluster without processes, of one node or more. Tests say what becomes of the tasks.
type fake struct {
	mu    sync.Mutex // the scheduler's loop and the test take turns, but the race detector can't see it
	cpus  float64
	live  map[string]node.Task
	all   []string // launched, in order
	kills []string
	nodes []string          // host names
	at    map[string]string // task → host name
	away  map[string]bool   // host names that make no offers
	last  bool              // the nodes live on when the scheduler ends
}

func newFake(nodes ...string) *fake {
	if len(nodes) == 0 {
		nodes = []string{"h1"}
	}
	return &fake{cpus: 4, live: map[string]node.Task{}, nodes: nodes, at: map[string]string{}, away: map[string]bool{}}
}

func (f *fake) Offers() (list []node.Offer) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for i, host := range f.nodes {
		if !f.away[host] {
			list = append(list, f.offer(host, fmt.Sprintf("S%d", i)))
		}
	}
	return list
}

func (f *fake) offer(host, id string) node.Offer {
	o := node.Offer{
		Hostname: host, AgentID: id, CPUs: f.cpus, MemMiB: 10000, DiskMiB: 10000, Attributes: map[string]string{"qosctl": "yes", "rack": host[:1]}, Lasting: f.last,
	}
	taken := map[int]bool{}
	for _, t := range f.live {
		if f.at[t.ID] != host {
			continue
		}
		o.CPUs -= t.CPUs
		for _, p := range t.Ports {
			taken[p] = true
		}
	}
	for p := 31000; p < 31100; p++ {
		if !taken[p] {
			o.Ports = append(o.Ports, p)
		}
	}
	return o
}

func (f *fake) Launch(agent string, t node.Task) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	for i, host := range f.nodes {
		if agent == fmt.Sprintf("S%d", i) {
			f.at[t.ID] = host
		}
	}
	f.live[t.ID] = t
	f.all = append(f.all, t.ID)
	return nil
}

func (f *fake) Kill(_, id string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.kills = append(f.kills, id)
}

// seen is what was launched and killed so far.
func (f *fake) seen() (all, kills []string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.all), slices.Clone(f.kills)
}

// end takes a task off the node.
func (f *fake) end(id string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.live, id)
}

// bench is a core with its cluster, and a clock that tests turn.
type bench struct {
	*Core
	t      *testing.T
	f      *fake
	now    time.Time
	events []string
}

func newBench(t *testing.T, legacy bool, nodes ...string) *bench {
	b := &bench{t: t, f: newFake(nodes...), now: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)}
	b.Core = NewCore(CoreOptions{Cluster: b.f, Legacy: legacy, Emit: func(kind string, _ map[string]any) { b.events = append(b.events, kind) }})
	return b
}

func (b *bench) pass(d time.Duration) {
	b.now = b.now.Add(d)
	b.Tick(b.now)
}

// create makes an app and lets its first task run.
func (b *bench) create(body string) {
	b.t.Helper()
	if _, _, err := b.Create(b.now, []byte(body), false); err != nil {
		b.t.Fatal(err)
	}
	b.Tick(b.now)
}

// say reports a state of a task.
func (b *bench) say(id string, s node.State) {
	if s.Terminal() {
		delete(b.f.live, id)
	}
	b.Status(b.now, node.Status{TaskID: id, State: s, At: b.now})
	b.Tick(b.now)
}

func (b *bench) patch(id, body string, force bool) (*deployment, error) {
	d, _, err := b.Update(b.now, id, []byte(body), force, true, false)
	b.Tick(b.now)
	return d, err
}

// last is the task launched last.
func (b *bench) last() string { return b.f.all[len(b.f.all)-1] }

func (b *bench) launched() int { return len(b.f.all) }

const polite = `"cmd":"sleep 1","cpus":1,"upgradeStrategy":{"minimumHealthCapacity":0,"maximumOverCapacity":0}`

func app(id, rest string) string { return fmt.Sprintf(`{"id":%q,%s}`, id, rest) }
