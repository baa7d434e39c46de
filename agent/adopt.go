package agent

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"qosctl/agent/api"
	"qosctl/container"
	mesosengine "qosctl/container/mesos"
	"qosctl/framework"
	"qosctl/framework/mesos"
	"qosctl/qos"
)

// mesosNode is this node's Mesos agent: what it sold, and the containers that it made itself.
type mesosNode struct {
	client *mesos.Client
	engine engine
	poll   time.Duration

	sum  sync.Mutex      // held while it is added up what was sold
	ours map[string]bool // scratch of that: tasks of our jobs

	mu    sync.Mutex
	tasks []mesos.Task
	holds map[string][]string // names in Docker of what a task's own program holds there, by task
	ok    bool                // the last look succeeded
	host  string              // the node's name in Mesos
}

func openMesos(cfg Config, engines engines, m *metrics, log *slog.Logger) (*mesosNode, error) {
	if cfg.Mesos.URL == "" {
		return nil, nil
	}
	c, err := mesos.New(framework.Endpoint{
		Name: "mesos agent", URLs: []string{cfg.Mesos.URL}, Timeout: cfg.Mesos.Poll, Observe: m.callsOf("mesos agent"),
	}, mesos.Options{Logger: log})
	if err != nil {
		return nil, err
	}
	n := &mesosNode{client: c, poll: cfg.Mesos.Poll, ours: map[string]bool{}}
	n.engine, err = mesosengine.New(mesosengine.Options{Source: n, Cgroups: engines.cgroups, Docker: engines.ofMesos, Poll: cfg.Mesos.Poll, Logger: log})
	return n, err
}

// Tasks are the tasks that the last look found, for the engine that observes their containers.
func (m *mesosNode) Tasks(context.Context) ([]mesosengine.Task, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	list := make([]mesosengine.Task, 0, len(m.tasks))
	for _, t := range m.tasks {
		list = append(list, mesosengine.Task{
			ID: t.ID, ContainerID: t.ContainerID, State: t.State, Labels: t.Labels, Name: t.Name, FrameworkName: t.FrameworkName,
			CPUs: t.CPUs, Started: startOf(t), Holds: m.holds[t.ID],
		})
	}
	return list, nil
}

// mesosLoop looks at the Mesos agent's state: what was sold, and which adopted jobs run.
func (a *Agent) mesosLoop(ctx context.Context) error {
	if a.mesos == nil {
		<-ctx.Done()
		return nil
	}
	tick := time.NewTicker(a.mesos.poll)
	defer tick.Stop()
	for {
		a.lookAtMesos(ctx)
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		case <-a.kickMesos:
			if !pause(ctx, mesosPause) { // what comes together is looked at once
				return nil
			}
		}
	}
}

// mesosPause is the least time between two looks at the Mesos agent that are asked for.
const mesosPause = 200 * time.Millisecond

// mesosSoon asks for a look at the Mesos agent.
func (a *Agent) mesosSoon() { kick(a.kickMesos) }

func (a *Agent) lookAtMesos(ctx context.Context) {
	m, before := a.mesos, a.sold()
	state, err := m.client.State(ctx)
	tasks := state.Tasks // those that have ended too: how, is only said there
	m.mu.Lock()
	if was := m.ok; was != (err == nil) && ctx.Err() == nil {
		if err != nil {
			a.log.Warn("the Mesos agent does not answer; what it sold is taken to be as it was", "err", err)
		} else {
			a.log.Info("the Mesos agent answers")
		}
	}
	m.ok = err == nil
	if err == nil {
		m.tasks, m.host = tasks, state.Agent.Hostname
	}
	m.mu.Unlock()
	if err != nil {
		return
	}
	for _, j := range a.jobs.all() {
		a.adopt(j, tasks)
	}
	a.claimAdopted(tasks)
	if a.sold() > before {
		a.decideSoon() // loans are given back
	}
}

// sold is the CPUs that Mesos sold to tasks that are not ours.
func (a *Agent) sold() float64 {
	if a.mesos == nil {
		return 0
	}
	a.mesos.sum.Lock()
	defer a.mesos.sum.Unlock()
	ours := a.mesos.ours
	clear(ours)
	for _, j := range a.jobs.all() {
		j.mu.Lock()
		for _, t := range j.row.Local.Tasks {
			ours[t.ID] = true
		}
		j.mu.Unlock()
	}
	a.mesos.mu.Lock()
	defer a.mesos.mu.Unlock()
	sum := 0.0
	for _, t := range a.mesos.tasks {
		if !t.Terminal() && !t.Completed && !ours[t.ID] {
			sum += t.CPUs
		}
	}
	return sum
}

// adopt takes up what Mesos runs, and has run, of an adopted job.
func (a *Agent) adopt(j *job, tasks []mesos.Task) {
	j.mu.Lock()
	defer j.mu.Unlock()
	st := j.status()
	if !j.steward().Adopted || st.Phase.Terminal() || j.gone || j.live != nil || j.busy {
		return
	}
	mine := slices.DeleteFunc(slices.Clone(tasks), func(t mesos.Task) bool { return !j.carries(t) })
	if e := st.Execution; e != nil && !slices.ContainsFunc(mine, func(t mesos.Task) bool { return t.ID == e.Task && running(t) }) {
		a.missed(j, mine)
	}
	a.passed(j, mine)
	i := slices.IndexFunc(mine, running)
	if i < 0 || st.Phase.Terminal() {
		return
	}
	t := mine[i]
	if known := j.task(t.ID); known != nil && known.Exit != nil {
		return // its end is already booked; the state lags behind
	}
	if j.waitsForWord(t, time.Now()) {
		return
	}
	a.mesos.holding(t, j)
	if err := a.openAdopted(j, t); err != nil {
		a.log.Error("adopt", "job", j.spec().Name, "err", err)
		return
	}
	j.busy = true
	a.spawn(func(ctx context.Context) { a.hold(ctx, j, a.mesos.engine, t.ContainerID) })
}

func running(t mesos.Task) bool { return t.State == "TASK_RUNNING" && !t.Completed }

// passed books tasks that began and ended between two looks, oldest first. Those from before the job's last execution, or before
// the job was known at all, are none of its.
func (a *Agent) passed(j *job, mine []mesos.Task) {
	st := j.status()
	slices.SortStableFunc(mine, func(x, y mesos.Task) int { return beginOf(x).Compare(beginOf(y)) })
	for _, t := range mine {
		since := j.spec().Submitted
		if st.Execution != nil {
			since = st.Execution.Started
		}
		if !t.Terminal() || j.task(t.ID) != nil || !beginOf(t).After(since) {
			continue
		}
		if st.Phase == qos.PhaseRunning || st.Phase.Terminal() {
			return
		}
		if err := a.openAdopted(j, t); err != nil {
			a.log.Error("book a task that has ended", "job", j.spec().Name, "task", t.ID, "err", err)
			return
		}
		a.conclude(j, exitOf(t), "")
	}
}

// carries says whether a Mesos task is the job's.
func (j *job) carries(t mesos.Task) bool {
	spec := j.spec()
	return t.Labels[labelJob] == spec.ID || slices.Contains(j.tasks, t.ID) ||
		spec.Framework == qos.Chronos && t.FrameworkName == string(qos.Chronos) && t.Name == "ChronosTask:"+spec.Name
}

// openAdopted begins, or goes on with, the execution of a task that Mesos runs.
func (a *Agent) openAdopted(j *job, t mesos.Task) error {
	st, spec := j.status(), j.spec()
	if st.Phase == qos.PhaseRunning && st.Execution != nil && st.Execution.Task == t.ID {
		return nil // the agent was restarted meanwhile
	}
	started := beginOf(t)
	if started.IsZero() {
		started = time.Now()
	}
	if j.row.Local.Heard.Broken {
		if goesOn, err := a.goOnLaunched(j, t, started); goesOn || err != nil {
			return err
		}
	}
	if err := j.enter(qos.PhaseRunning, time.Now(), "Mesos runs task "+t.ID); err != nil {
		return err
	}
	index := nextIndex(st)
	if spec.Framework == qos.Marathon {
		st.Started = started
	}
	st.Epoch, st.Seq, st.Owner = st.Epoch+1, 0, a.node
	st.Execution = &qos.Execution{Index: index, Task: t.ID, Started: started, Deadline: spec.QoS.Deadline.From(st.Started), Allocation: j.request()}
	st.Execution.Account.StartIncarnation(qos.Entry{Node: a.node, Container: t.ContainerID, StatContainer: t.ContainerID})
	j.addTask(task{ID: t.ID, First: index, At: started})
	st.Execution.Clock.Max = st.Execution.Allocation
	return a.save(j)
}

// startOf is when a task began to run; zero: not known.
func startOf(t mesos.Task) time.Time {
	for _, s := range t.Statuses {
		if s.State == "TASK_RUNNING" {
			return s.At
		}
	}
	return time.Time{}
}

// beginOf is when a task began to run, or ended without having run; zero: not known.
func beginOf(t mesos.Task) time.Time {
	at := startOf(t)
	if n := len(t.Statuses); at.IsZero() && n > 0 && t.Terminal() {
		at = t.Statuses[n-1].At
	}
	return at
}

// missed books the end of an adopted task that ended while nobody looked.
func (a *Agent) missed(j *job, tasks []mesos.Task) {
	st := j.status()
	if st.Phase != qos.PhaseRunning || st.Execution == nil {
		return
	}
	exit := container.Exit{Code: 255, Unknown: true, Finished: time.Now()}
	for _, t := range tasks {
		if t.ID == st.Execution.Task && t.Terminal() {
			exit = exitOf(t)
		}
	}
	a.conclude(j, exit, "")
}

// exitOf is the end of a Mesos task as far as its state tells: finished is 0, whatever else is not.
func exitOf(t mesos.Task) container.Exit {
	e := container.Exit{Code: 1, Finished: time.Now()}
	if t.State == "TASK_FINISHED" {
		e.Code = 0
	}
	if n := len(t.Statuses); n > 0 {
		e.Finished = t.Statuses[n-1].At
	}
	return e
}

// attachApp gives QoS to an app or job that the framework has already, without touching it.
func (a *Agent) attachApp(ctx context.Context, r api.Attach) (*job, error) {
	if !uuidPattern.MatchString(r.ID) {
		return nil, refuse(codeInvalid, "id: %q is not a UUID in lower case", r.ID)
	}
	if j := a.jobs.get(r.ID); j != nil {
		return j, nil
	}
	if err := a.unused(r.ID); err != nil {
		return nil, err
	}
	p := a.ports[r.Framework]
	if p == nil || a.mesos == nil {
		return nil, refuse(codeInvalid, "no endpoint of type %q, or no Mesos agent, is configured", r.Framework)
	}
	if err := checkQoS(r); err != nil {
		return nil, err
	}
	if a.jobs.named(r.Framework, r.Name) != nil {
		return nil, refuse(codeExists, "%s has QoS already", r.Name).hint("qosctl detach it first")
	}
	now := time.Now()
	spec := qos.Spec{ID: r.ID, Name: r.Name, Framework: r.Framework, QoS: r.QoS, Submitted: now.Round(0), Source: []byte("null")}
	s, err := p.Look(ctx, spec)
	if err != nil {
		return nil, err
	}
	if s.ID != "" {
		return nil, refuse(codeExists, "%s was submitted by qosctl, as job %s", r.Name, s.ID)
	}
	spec.CPUs = s.CPUs
	j := newJob(row{Record: qos.Record{Spec: spec, Status: qos.Status{Phase: qos.PhasePending, Since: now, Started: now}}})
	j.steward().Adopted, j.steward().Attached, j.tasks = true, true, s.Tasks
	j.note(now, "attach", "QoS given to %s of %s", r.Name, r.Framework)
	j, fresh, err := a.jobs.reserve(j)
	if err != nil || !fresh {
		return j, err
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if err := a.save(j); err != nil {
		j.gone = true
		a.jobs.remove(spec.ID)
		return nil, err
	}
	return j, nil
}

// checkQoS validates a QoS block as that of a job file.
func checkQoS(r api.Attach) error {
	file := map[string]any{"id": r.Name, "cmd": "attached", "qos": r.QoS}
	if r.Framework == qos.Chronos {
		return refuse(codeInvalid, "framework: only apps of Marathon can be attached; a Chronos job gets QoS when it is submitted")
	}
	b, err := json.Marshal(file)
	if err != nil {
		return fmt.Errorf("encode: %w", err)
	}
	_, _, err = qos.Parse(b, qos.ParseOptions{Now: time.Now()})
	return err
}

// detach forgets an attached job; its container goes back to its request.
func (a *Agent) detach(ctx context.Context, j *job) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if !j.steward().Attached {
		return refuse(codeConflict, "%s was submitted by qosctl, not attached", j.spec().Name).hint("qosctl cancel ends it")
	}
	if l := j.live; l != nil && !l.written.IsZero() {
		ctx, cancel := context.WithTimeout(ctx, engineTime)
		defer cancel()
		if err := l.engine.Resize(ctx, l.container, container.Limits{CPUs: j.request()}); err != nil {
			return fmt.Errorf("give %s its request back: %w", j.spec().Name, err)
		}
	}
	if j.live != nil && j.live.reader != nil {
		_ = j.live.reader.Close() // read only: nothing to lose
	}
	j.live = nil
	if err := a.store.remove(j.spec().ID); err != nil {
		return err
	}
	j.gone = true
	a.jobs.remove(j.spec().ID)
	a.unshare(j.spec().ID)
	j.touch()
	return nil
}
