package agent

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"qosctl/monasca"
	"qosctl/qos"
)

// feed tells Monasca how the jobs are.
type feed struct {
	sender *monasca.Sender
	node   monasca.Node
	every  time.Duration
	marker string          // file with the time up to which ended runs were told
	told   map[string]told // by job
}

// told is what was said of a job.
type told struct {
	run   int // index of the last ended run
	split cpuSplit
}

// openMonasca opens the spool; nil if no credentials are configured.
func openMonasca(cfg Config, node string, reg prometheus.Registerer, log *slog.Logger) (*feed, error) {
	c := cfg.Monasca
	if c.CredentialsFile == "" {
		return nil, nil
	}
	dir := c.SpoolDir
	if dir == "" {
		dir = filepath.Join(cfg.DataDir, "monasca")
	}
	s, err := monasca.New(monasca.Options{
		Dir: dir, Credentials: c.CredentialsFile, URL: c.URL, Region: c.Region, CAFile: c.CAFile, Timeout: c.Timeout,
		MaxBytes: int64(c.SpoolMaxMB) << 20, MaxAge: c.SpoolMaxAge, Logger: log,
	})
	if err != nil {
		return nil, err
	}
	reg.MustRegister(newMonascaCollector(s.Stats))
	return &feed{sender: s, node: monasca.Node{Name: node}, every: c.Interval, marker: filepath.Join(dir, "told"), told: map[string]told{}}, nil
}

// monascaLoop measures the jobs once every monasca.interval, and sends what was measured. The last measurement is made when ctx ends.
func (a *Agent) monascaLoop(ctx context.Context) error {
	f := a.monasca
	if f == nil {
		return nil
	}
	sending, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	ended := make(chan error, 1)
	a.background.Go(func() { ended <- f.sender.Run(sending) })
	tick := time.NewTicker(f.every)
	defer tick.Stop()
	since := f.since(a.started)
	if err := f.mark(since); err != nil { // the first agent has none yet
		a.log.Warn("monasca: after a restart ended runs may not be told", "err", err)
	}
	var offered time.Time
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-tick.C:
		}
		a.markTold(f, offered)
		offered = time.Now()
		f.sender.Offer(monasca.Measure(f.node, a.figures(f, since), offered))
	}
	stop()
	err := <-ended
	a.markTold(f, offered)
	return err
}

// markTold notes up to when ended runs were told, once what was offered then is on the disk: an agent that is killed before tells them again,
// with the same times and figures. One that noted it first would have lost them.
func (a *Agent) markTold(f *feed, offered time.Time) {
	if offered.IsZero() || !f.sender.Stored() {
		return
	}
	if err := f.mark(offered); err != nil {
		a.log.Warn("monasca: after a restart ended runs may be told again", "err", err)
	}
}

// figures are those of all jobs that have not ended, or have since the last time. since bounds the runs of jobs not seen before.
func (a *Agent) figures(f *feed, since time.Time) []monasca.Job {
	var list []monasca.Job
	next := make(map[string]told, len(f.told))
	for _, j := range a.jobs.all() {
		j.mu.Lock()
		m, t := a.figure(j, f.told, since)
		ended, ours := j.status().Phase.Terminal(), a.speaksFor(j.status())
		j.mu.Unlock()
		if !ours {
			t = f.leave(m, t)
		}
		next[m.ID] = t
		if ours && (!ended || len(m.Ended) > 0) {
			list = append(list, m)
		}
	}
	f.told = next
	return list
}

// speaksFor says whether this agent tells of a job: of several agents, the owner's does.
func (a *Agent) speaksFor(st *qos.Status) bool { return a.cluster == nil || st.Owner == a.node }

// leave is what was said of a job that another node speaks for. Its last ends are not counted as told: should the job come here before
// that node's next word, they are told here, perhaps twice and then the same.
func (f *feed) leave(m monasca.Job, t told) told {
	for _, r := range slices.Backward(m.Ended) {
		if time.Since(r.Ended) < 2*f.every {
			t.run--
		}
	}
	return t
}

// figure is one job's. The caller holds j.mu.
func (a *Agent) figure(j *job, before map[string]told, since time.Time) (monasca.Job, told) {
	v, st, spec := a.describe(j), j.status(), j.spec()
	m := monasca.Job{
		ID: v.ID, Name: v.Name, Framework: v.Framework, Deadline: v.Deadline, Running: j.live != nil, Prediction: v.Prediction,
		Allocation: v.Allocation, Progress: v.Progress, Desired: v.Desired, Ratio: v.Ratio, Left: max(0, v.Iterations-v.Tally.Succeeded),
	}
	if spec.Container != nil {
		m.Image = spec.Container.Image
	}
	t, known := before[v.ID]
	for _, r := range st.Runs {
		if r.Index > t.run && (known || r.Ended.After(since)) {
			m.Ended = append(m.Ended, monasca.Run{Started: r.Started, Ended: r.Ended, CPU: r.CPU})
		}
	}
	for _, r := range st.Runs {
		t.run = max(t.run, r.Index)
	}
	if e := st.Execution; e != nil && j.live != nil && !j.live.seen.At.IsZero() {
		if r := j.live.reader; r != nil {
			_ = r.Split(&j.live.seen) // its cgroup is gone: what was read last stands
		}
		t.split.read(e.Index, e.Account, j.live.seen.User, j.live.seen.System)
		m.User, m.System = t.split.user(), t.split.system()
	}
	return m, t
}

// since is up to when an agent before this one told of ended runs.
func (f *feed) since(started time.Time) time.Time {
	text, err := os.ReadFile(f.marker)
	if err != nil {
		return started // the first of its kind: what was before is none of Monasca's business
	}
	at, err := time.Parse(time.RFC3339Nano, strings.TrimSpace(string(text)))
	if err != nil || at.After(started) {
		return started
	}
	return at
}

// mark notes that ended runs were told up to a time.
func (f *feed) mark(now time.Time) error {
	tmp := f.marker + ".new"
	if err := os.WriteFile(tmp, []byte(now.UTC().Format(time.RFC3339Nano)+"\n"), 0o600); err != nil {
		return fmt.Errorf("note what was told: %w", err)
	}
	if err := os.Rename(tmp, f.marker); err != nil {
		return fmt.Errorf("note what was told: %w", err)
	}
	return nil
}

// cpuSplit is an execution's CPU time in user mode and in the kernel, over all of its incarnations. The account has only the sum: of an
// incarnation that this agent did not see to its end, the rest is taken to be split as what was seen.
type cpuSplit struct {
	execution int
	live      qos.Incarnation
	before    [2]time.Duration // user, system: of earlier incarnations
	own       [2]time.Duration // of the live one
}

func (s *cpuSplit) user() time.Duration   { return s.before[0] + s.own[0] }
func (s *cpuSplit) system() time.Duration { return s.before[1] + s.own[1] }

// read takes a reading of the live incarnation's counters, which may have had something before it began.
func (s *cpuSplit) read(execution int, account qos.Account, user, system time.Duration) {
	live := account.Entries[account.Live]
	if sum := user + system; live.Zero > 0 && sum > 0 { // as much of it as is its own
		share := float64(live.Own) / float64(live.Own+live.Zero)
		user, system = scaled(user, share), scaled(system, share)
	}
	if s.execution != execution {
		*s = cpuSplit{execution: execution, live: account.Live}
		s.fill(account.Consumed()-live.Own, [2]time.Duration{user, system})
	}
	if s.live != account.Live {
		seen := [2]time.Duration{s.user(), s.system()}
		s.before, s.own, s.live = seen, [2]time.Duration{}, account.Live
		s.fill(account.Consumed()-live.Own-seen[0]-seen[1], seen)
	}
	s.own = [2]time.Duration{max(s.own[0], user), max(s.own[1], system)}
}

// fill adds CPU time of earlier incarnations that nobody saw the split of, split like something that was seen.
func (s *cpuSplit) fill(rest time.Duration, like [2]time.Duration) {
	if rest <= 0 {
		return
	}
	system := time.Duration(0)
	if sum := like[0] + like[1]; sum > 0 {
		system = scaled(rest, float64(like[1])/float64(sum))
	}
	s.before[0] += rest - system
	s.before[1] += system
}

func scaled(d time.Duration, share float64) time.Duration { return time.Duration(float64(d) * share) }
