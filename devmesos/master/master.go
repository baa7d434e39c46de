package master

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"slices"
	"sync"
	"time"

	"qosctl/devmesos/node"
)

// DefaultPingTimeout is how long an agent may be silent; Mesos has 75 s (agent_ping_timeout × max_agent_ping_timeouts).
const DefaultPingTimeout = 15 * time.Second

// Options set a master up.
type Options struct {
	Dir         string        // of the registry; "": nothing is kept
	PingTimeout time.Duration // silence after which an agent is unreachable; 0: DefaultPingTimeout
	Token       string        // that nodes in other processes must have; "": none
	NoOperators bool          // nobody is authorised to drain or to maintain: 403
	Logger      *slog.Logger
}

// Master is the master.
type Master struct {
	o      Options
	log    *slog.Logger
	life   string
	serial sync.Mutex // of updates to frameworks
	wg     sync.WaitGroup

	mu         sync.Mutex
	id         string
	closed     bool
	frameworks map[string]*framework
	agents     map[string]*agent
	tasks      map[string]*record
	ended      []string // tasks, the newest last
	held       map[string]float64
	cut        map[string]bool // host names whose reports are thrown away: a fault
	schedule   Schedule
	machines   map[MachineID]string // that are not up: draining or down
	gone       map[string]bool      // agents that were marked gone
	dirty      bool
}

type framework struct {
	id, name string
	aware    bool // of partitions: gets TASK_UNREACHABLE and not TASK_LOST
	status   func(node.Status)
	offer    func()
}

// The states of an agent.
const (
	registered  = "registered"
	recovered   = "recovered" // known from the registry, not heard of since
	unreachable = "unreachable"
)

type agent struct {
	info        node.AgentInfo
	state       string
	life        string
	number      uint64 // of its last report
	heard       time.Time
	registered  time.Time
	again       time.Time // re-registered
	deactivated bool
	drain       *drainInfo
	outbox      []node.Order
	next        uint64        // number of the last order
	recent      []string      // updates that were taken, the newest last
	wake        chan struct{} // closed when there is something for it
}

// record is a task that has not ended, as far as the master knows.
type record struct {
	node.Held
	agent  string
	lost   bool // its agent is unreachable, and the framework was told
	muted  bool // cut off from its framework by a fault
	ended  bool // while muted
	latest node.Status
}

// New makes a master, with what its registry has.
func New(o Options) (*Master, error) {
	if o.PingTimeout < 0 {
		return nil, fmt.Errorf("master: ping timeout must not be negative (got %s)", o.PingTimeout)
	}
	if o.PingTimeout == 0 {
		o.PingTimeout = DefaultPingTimeout
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Dir != "" {
		if err := os.MkdirAll(o.Dir, 0o755); err != nil {
			return nil, fmt.Errorf("master: %w", err)
		}
	}
	m := &Master{
		o: o, log: o.Logger, life: node.NewUUID(), id: node.NewUUID(), frameworks: map[string]*framework{}, agents: map[string]*agent{},
		tasks: map[string]*record{}, held: map[string]float64{}, cut: map[string]bool{}, machines: map[MachineID]string{}, gone: map[string]bool{},
	}
	return m, m.load(time.Now())
}

// Register makes a framework known. Status is called for each of its tasks' updates, in order; offer, when resources became free. They must
// not block for long. Aware says that it tells tasks that are out of reach from lost ones.
func (m *Master) Register(name string, aware bool, status func(node.Status), offer func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.frameworks[name] = &framework{id: fmt.Sprintf("%s-%04d", m.id, len(m.frameworks)), name: name, aware: aware, status: status, offer: offer}
}

// FrameworkID is the ID of a registered framework.
func (m *Master) FrameworkID(name string) string {
	m.mu.Lock()
	defer m.mu.Unlock()
	if f := m.frameworks[name]; f != nil {
		return f.id
	}
	return ""
}

// hold is how long a report is kept waiting for orders: it is the agent's sign of life, too.
func (m *Master) hold() time.Duration { return min(m.o.PingTimeout/5, 3*time.Second) }

// Run looks after silent agents until ctx ends.
func (m *Master) Run(ctx context.Context) error {
	tick := time.NewTicker(max(min(m.o.PingTimeout/10, 500*time.Millisecond), time.Millisecond))
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			m.mu.Lock()
			m.closed = true
			for _, a := range m.agents {
				a.rouse()
			}
			err := m.save()
			m.mu.Unlock()
			m.wg.Wait()
			return err
		case now := <-tick.C:
			m.expire(now)
			m.mu.Lock()
			if m.dirty {
				if err := m.save(); err != nil {
					m.log.Error("registry is not saved", "err", err)
				}
			}
			m.mu.Unlock()
		}
	}
}

func (a *agent) rouse() {
	close(a.wake)
	a.wake = make(chan struct{})
}

func (a *agent) order(o node.Order) {
	a.next++
	o.Number = a.next
	a.outbox = append(a.outbox, o)
	a.rouse()
}

// update is a status that a framework is to hear of.
type update struct {
	f  *framework
	st node.Status
}

// dispatch tells frameworks. serial is held, mu is not. Freed says that resources became free.
func (m *Master) dispatch(list []update, freed bool) {
	for _, u := range list {
		if u.f != nil {
			u.f.status(u.st)
		}
	}
	if !freed {
		return
	}
	m.mu.Lock()
	fs := slices.Collect(maps.Values(m.frameworks))
	m.mu.Unlock()
	for _, f := range fs {
		f.offer()
	}
}

// change does something that frameworks hear of.
func (m *Master) change(do func() (list []update, freed bool)) {
	m.serial.Lock()
	defer m.serial.Unlock()
	m.mu.Lock()
	list, freed := do()
	m.mu.Unlock()
	m.dispatch(list, freed)
}

// lostState is what a framework hears of a task whose agent can't be reached, or is gone.
func (f *framework) lostState(s node.State) node.State {
	if f != nil && !f.aware {
		return node.Lost
	}
	return s
}

// end forgets a task. mu is held.
func (m *Master) end(r *record) {
	delete(m.tasks, r.ID)
	m.dirty = true
	const most = 1000
	if m.ended = append(m.ended, r.ID); len(m.ended) > most {
		m.ended = slices.Delete(m.ended, 0, len(m.ended)-most)
	}
	if a := m.agents[r.agent]; a != nil {
		m.drained(a)
	}
}

// on lists an agent's tasks in order of their IDs. mu is held.
func (m *Master) on(agentID string) []*record {
	var list []*record
	for _, id := range slices.Sorted(maps.Keys(m.tasks)) {
		if r := m.tasks[id]; r.agent == agentID {
			list = append(list, r)
		}
	}
	return list
}

// ErrNoTask says that no task that has not ended goes by an ID.
var ErrNoTask = errors.New("no such task")
