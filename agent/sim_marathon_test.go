package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"time"

	"qosctl/framework"
	"qosctl/qos"
)

// master is a Mesos master and a Marathon: one task for each app, relaunched after its end, none while the last is not known to have ended
// (unreachableStrategy disabled), unless it is expunged. All fields are guarded by the world's mu.
type master struct {
	w        *world
	apps     map[string]*app
	tasks    int
	expunged []string
	deleted  []string
	past     []*simTask                // that the master has given up and may hear of again
	slow     func(sight) time.Duration // how long an answer is under way; nil: no longer than others
	still    bool                      // nothing is launched
}

type app struct {
	spec   qos.Spec
	secret string
	cpus   float64
	hosts  []string
	task   *simTask
	next   time.Time // not before then
	before []string  // hosts, before the last change
}

// simTask is a task with its stand-in.
type simTask struct {
	id    string
	app   *app
	node  *simNode
	lost  bool // the master does not hear its node
	over  bool // it has ended on its node
	code  int
	kill  bool // to be told to the node
	told  bool
	begun time.Time
	term  chan struct{} // closed: SIGTERM
	stop  context.CancelFunc
}

// Times of Mesos and Marathon, shorter than there.
const (
	masterTick  = 500 * time.Millisecond
	unreachable = 40 * time.Second // Mesos: 75 s
	relaunch    = 2 * time.Second
	killGrace   = time.Minute
)

func (m *master) loop(ctx context.Context) {
	tick := time.NewTicker(masterTick)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		m.w.mu.Lock()
		m.look()
		m.w.mu.Unlock()
	}
}

// look does what is due.
func (m *master) look() {
	now := time.Now()
	for _, n := range m.w.nodes {
		switch hears := m.w.reaches(masterName, n.name); {
		case hears:
			n.cutSince, n.lost = time.Time{}, false
		case n.cutSince.IsZero():
			n.cutSince = now
		case now.Sub(n.cutSince) > unreachable:
			n.lost, n.missed = true, now
		}
	}
	for _, name := range sortedNames(m.apps) {
		m.tend(m.apps[name], now)
	}
	m.past = slices.DeleteFunc(m.past, func(t *simTask) bool {
		if !t.over && m.w.reaches(masterName, t.node.name) {
			m.terminate(t)
		}
		return t.over
	})
}

// tend looks after one app.
func (m *master) tend(a *app, now time.Time) {
	t := a.task
	if t == nil {
		if now.After(a.next) && !m.still {
			m.launch(a)
		}
		return
	}
	t.lost = t.node.lost
	if !m.w.reaches(masterName, t.node.name) {
		return
	}
	if t.kill {
		m.terminate(t)
	}
	if t.over {
		m.w.say("marathon: task %s on %s has ended with %d", t.id, t.node.name, t.code)
		a.task, a.next = nil, now.Add(relaunch)
	}
}

// terminate has a task's stand-in told to stop. It is killed when its grace is over.
func (m *master) terminate(t *simTask) {
	if t.told {
		return
	}
	t.told = true
	m.w.say("marathon: task %s on %s is told to stop", t.id, t.node.name)
	close(t.term)
	time.AfterFunc(killGrace, t.stop)
}

// launch starts the app's next task where it may run.
func (m *master) launch(a *app) {
	var fit []*simNode
	for _, n := range m.w.nodes {
		if m.w.reaches(masterName, n.name) && (len(a.hosts) == 0 || slices.Contains(a.hosts, n.name)) {
			fit = append(fit, n)
		}
	}
	if len(fit) == 0 {
		return
	}
	m.tasks++
	t := &simTask{id: fmt.Sprintf("t%d", m.tasks), app: a, node: fit[rand.New(rand.NewPCG(m.w.seed, uint64(m.tasks))).IntN(len(fit))], term: make(chan struct{}), begun: time.Now()}
	a.task = t
	m.w.say("marathon: task %s of %s on %s", t.id, a.spec.Name, t.node.name)
	ctx, stop := context.WithCancel(context.Background())
	t.stop = stop
	s := standinOf(t)
	m.w.wg.Go(func() { s.run(ctx) })
}

// end kills all stand-ins.
func (m *master) end() {
	m.w.mu.Lock()
	defer m.w.mu.Unlock()
	for _, a := range m.apps {
		if a.task != nil {
			a.task.stop()
		}
	}
	for _, t := range m.past {
		t.stop()
	}
	clear(m.apps)
}

// give up forgets a task: should it be heard of again, it is killed.
func (m *master) giveUp(a *app) {
	if a.task != nil {
		m.past = append(m.past, a.task)
	}
	a.task, a.next = nil, time.Now().Add(relaunch)
}

// simPort is Marathon's API, as one agent reaches it.
type simPort struct{ hand }

func marathonAway(sent bool) error {
	return &framework.Error{Framework: "marathon", Kind: framework.ErrUnavailable, Cause: errSilent, Uncertain: sent}
}

// call lets f change the master's state, if the call gets there; its answer may be lost.
func (p *simPort) call(ctx context.Context, writes bool, f func(m *master) error) error {
	w := p.n.w
	if err := p.pass(ctx, 5*time.Millisecond, 60*time.Millisecond); err != nil {
		return marathonAway(false)
	}
	w.mu.Lock()
	there, answers := w.reaches(p.n.name, masterName), !w.roll(w.trouble, p.n.name+" marathon")
	var err error
	if there {
		err = f(w.master)
	}
	w.mu.Unlock()
	if !there || !answers {
		pause(ctx, 3*time.Second)
		return marathonAway(writes && there)
	}
	if p.pass(ctx, 5*time.Millisecond, 60*time.Millisecond) != nil {
		return marathonAway(writes)
	}
	return err
}

func (p *simPort) Prepare(ctx context.Context, _ qos.Spec, secret string) (json.RawMessage, []string, error) {
	if err := p.call(ctx, false, func(*master) error { return nil }); err != nil {
		return nil, nil, err
	}
	b, err := json.Marshal(secret)
	return b, nil, err
}

func (p *simPort) Create(ctx context.Context, spec qos.Spec, body json.RawMessage) error {
	return p.call(ctx, true, func(m *master) error {
		if m.apps[spec.Name] != nil {
			return &framework.Error{Kind: framework.ErrExists, Status: http.StatusConflict}
		}
		a := &app{spec: spec, cpus: spec.CPUs}
		m.w.say("marathon: app %s of job %s", spec.Name, short(spec.ID))
		m.apps[spec.Name] = a
		return json.Unmarshal(body, &a.secret)
	})
}

// of finds an app.
func (m *master) of(name string) (*app, error) {
	if a := m.apps[name]; a != nil {
		return a, nil
	}
	return nil, &framework.Error{Kind: framework.ErrNotFound, Status: http.StatusNotFound}
}

func (p *simPort) Look(ctx context.Context, spec qos.Spec) (s sight, err error) {
	err = p.call(ctx, false, func(m *master) error {
		a, err := m.of(spec.Name)
		if err != nil {
			return err
		}
		s = sight{ID: a.spec.ID, CPUs: a.cpus, Tasks: []string{}, Secret: hashSecret(a.secret)}
		if t := a.task; t != nil {
			s.Active, s.Tasks = !t.lost, []string{t.id}
			if t.lost {
				s.Lost, s.On = []string{t.id}, map[string]string{t.id: t.node.name}
			}
		}
		return nil
	})
	p.n.w.mu.Lock()
	slow := p.n.w.master.slow
	p.n.w.mu.Unlock()
	if err == nil && slow != nil {
		pause(ctx, slow(s))
	}
	return s, err
}

func (p *simPort) Start(context.Context, string) error { return nil }

func (p *simPort) Delete(ctx context.Context, name string) error {
	return p.call(ctx, true, func(m *master) error {
		a, err := m.of(name)
		if err != nil {
			return err
		}
		m.w.say("marathon: app %s is deleted by %s", name, p.n.name)
		m.deleted = append(m.deleted, a.spec.ID)
		m.giveUp(a)
		delete(m.apps, name)
		return nil
	})
}

func (p *simPort) Watch(ctx context.Context, _ func()) { <-ctx.Done() }
func (p *simPort) Ping(context.Context) error          { return nil }

// Expunge forgets a task, whether it is lost or not.
func (p *simPort) Expunge(ctx context.Context, name, task string) error {
	return p.call(ctx, true, func(m *master) error {
		a, err := m.of(name)
		if err != nil {
			return err
		}
		if a.task == nil || a.task.id != task {
			return &framework.Error{Kind: framework.ErrNotFound, Status: http.StatusNotFound}
		}
		m.w.say("marathon: task %s is expunged by %s", task, p.n.name)
		if time.Since(a.task.node.missed) > 5*time.Second { // it may have come back since it was looked at
			m.w.fault("%s expunged task %s, whose node is not lost", p.n.name, task)
		}
		m.expunged = append(m.expunged, task)
		m.giveUp(a)
		return nil
	})
}

// Relocate binds an app to hosts: a change restarts its task, the old one first.
func (p *simPort) Relocate(ctx context.Context, r relocation) (string, error) {
	err := p.call(ctx, true, func(m *master) error {
		a, err := m.of(r.Name)
		if err != nil {
			return err
		}
		m.w.say("marathon: app %s is bound to %v by %s", r.Name, r.Hosts, p.n.name)
		a.before, a.hosts = a.hosts, r.Hosts
		if a.task != nil {
			a.task.kill = true
		}
		return nil
	})
	return r.Name, err
}

// Undo brings back what was before.
func (p *simPort) Undo(ctx context.Context, deployment string) error {
	_, err := p.Relocate(ctx, relocation{Name: deployment})
	return err
}

func (p *simPort) Resize(context.Context, string, float64, bool) (string, error) {
	return "", errors.New("sim: jobs are resized in place")
}
