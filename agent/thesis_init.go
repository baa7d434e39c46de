package agent

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"sync"
	"time"

	"qosctl/agent/thesis"
	"qosctl/framework"
	"qosctl/qos"
)

// The launcher announces a job at /initTask and hands it in to its framework itself, by the thesis before, by its program after. Who
// announces proves nothing; so a job is taken up when the framework has one of that name which carries the announced UUID, as the launcher
// writes it into the job's command or environment. Until then nothing is written or told to anybody.

const (
	maxLaunches = 64          // announced, and not found yet
	launchTime  = time.Minute // in which an announced job must be handed in
	nameTime    = time.Hour   // in which the name must be free of a former job whose last run still goes on
	launchEvery = time.Second // between two looks for it, longer the longer it is waited for, up to
	launchMost  = 15 * time.Second
	lookTime    = 5 * time.Second // bounds one
)

// launches are the jobs that have been announced and are waited for, by id.
type launches struct {
	mu   sync.Mutex
	byID map[string]bool
}

// begin notes a launch. It is refused when too many are waited for; fresh is false when it is already.
func (l *launches) begin(id string) (fresh bool, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.byID[id] {
		return false, nil
	}
	if len(l.byID) >= maxLaunches {
		return false, refuse(codeBusy, "%d jobs have been announced and not handed in", maxLaunches)
	}
	if l.byID == nil {
		l.byID = map[string]bool{}
	}
	l.byID[id] = true
	return true, nil
}

func (l *launches) end(id string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.byID, id)
}

// initTask takes the launcher's announcement of a job. It may come twice.
func (a *Agent) initTask(_ context.Context, body []byte) error {
	t, err := thesis.ParseTask(body)
	if err != nil {
		return refuse(codeInvalid, "%s", err)
	}
	now := time.Now()
	spec, err := launchedSpec(t, now)
	if err != nil {
		return err
	}
	if known, err := a.announced(spec); known || err != nil {
		return err
	}
	if a.ports[spec.Framework] == nil {
		return refuse(codeInvalid, "no endpoint of type %s is configured", spec.Framework)
	}
	fresh, err := a.launches.begin(spec.ID)
	if err != nil || !fresh {
		return err
	}
	a.log.Info("job announced by the launcher", "job", spec.Name, "id", spec.ID, "framework", spec.Framework)
	a.spawn(func(ctx context.Context) {
		defer a.launches.end(spec.ID)
		if err := a.awaitLaunch(ctx, spec); err != nil && ctx.Err() == nil {
			a.log.Warn("a job that the launcher announced is not looked after", "job", spec.Name, "id", spec.ID, "err", err)
		}
	})
	return nil
}

// announced says whether a job is known already, as the launcher's.
func (a *Agent) announced(spec qos.Spec) (known bool, err error) {
	taken := refuse(codeExists, "uuid: %s is another job's", spec.ID)
	if j := a.jobs.get(spec.ID); j != nil {
		j.mu.Lock()
		defer j.mu.Unlock()
		if !j.steward().Launched || j.spec().Name != spec.Name {
			return true, taken
		}
		return true, nil
	}
	if r, ok := a.elsewhere(spec.ID); ok {
		if !r.Status.Steward.Launched || r.Spec.Name != spec.Name {
			return true, taken
		}
		return true, nil
	}
	return false, a.unused(spec.ID)
}

// launchedSpec is what is known of a job by its announcement. Its CPUs are the framework's word.
func launchedSpec(t thesis.Task, now time.Time) (qos.Spec, error) {
	block := map[string]any{"duration": t.Duration, "desv_deadline": t.Deviation, "deadline": t.After}
	if !t.At.IsZero() {
		block["deadline"] = t.At.Format(time.RFC3339Nano)
	}
	if t.Framework == qos.Chronos {
		block["iterations_by"] = qos.IterationsByChronos
	} else {
		block["elasticity"] = qos.ElasticityInPlace
	}
	text, err := json.Marshal(block)
	if err != nil {
		return qos.Spec{}, refuse(codeInvalid, "the quality of service is no numbers: %s", err)
	}
	q, _, err := qos.ParseQoS(text, t.Framework, qos.ParseOptions{Now: now})
	if err != nil {
		return qos.Spec{}, err
	}
	spec := qos.Spec{ID: t.ID, Name: t.Name, Framework: t.Framework, QoS: q, Iterations: t.Iterations, Submitted: now.Round(0), Source: []byte("null")}
	if t.Framework == qos.Marathon {
		if group := path.Dir(t.Name); group != "/" {
			spec.Tenant = group
		}
	}
	return spec, nil
}

// awaitLaunch waits until the framework has the job, and takes it up.
func (a *Agent) awaitLaunch(ctx context.Context, spec qos.Spec) error {
	why := fmt.Errorf("%s has no job of that name with that UUID in its command or environment", spec.Framework)
	for {
		s, err := a.lookForLaunch(ctx, spec)
		waited := time.Since(spec.Submitted)
		switch {
		case err == nil && s.ID == spec.ID:
			if err = a.takeLaunched(spec, s); err == nil {
				return nil
			}
			if !isTaken(err) || waited > nameTime {
				return err
			}
		case waited > launchTime:
			return errors.Join(why, err)
		}
		if !pause(ctx, min(launchEvery+waited/10, launchMost)) {
			return ctx.Err()
		}
	}
}

// isTaken says whether an error is of a name that another job has.
func isTaken(err error) bool {
	r, ok := errors.AsType[*refusal](err)
	return ok && (r.body.Code == codeExists || r.body.Code == codeConflict)
}

// lookForLaunch looks for an announced job. That there is none yet is no error.
func (a *Agent) lookForLaunch(ctx context.Context, spec qos.Spec) (sight, error) {
	ctx, cancel := context.WithTimeout(ctx, lookTime)
	defer cancel()
	s, err := a.ports[spec.Framework].Look(ctx, spec)
	if errors.Is(err, framework.ErrNotFound) {
		err = nil
	}
	return s, err
}

// takeLaunched begins to look after a job that the launcher has handed in. A former job of the name that the framework does not have any more is
// cancelled by its steward: it is waited for.
func (a *Agent) takeLaunched(spec qos.Spec, s sight) error {
	now := time.Now()
	spec.CPUs, spec.Tenant = s.CPUs, cmp.Or(s.Owner, spec.Tenant)
	if err := fits(&spec); err != nil {
		return err
	}
	if a.cluster != nil {
		if r, ok := a.holderElsewhere(&spec); ok {
			return refuse(codeExists, "job %s of node %s has the name %s", r.Spec.ID, r.Status.Owner, spec.Name)
		}
	}
	j := newJob(row{Record: qos.Record{Spec: spec, Status: qos.Status{Phase: qos.PhasePending, Since: now, Started: spec.Submitted}}})
	j.steward().Adopted, j.steward().Launched, j.tasks = true, true, s.Tasks
	j.note(now, "launcher", "handed in to %s by the launcher, and announced here", spec.Framework)
	if a.cluster != nil {
		j.status().Owner = a.node
	}
	_, most := a.bounds(&spec)
	if v := qos.Admit(spec, most, a.cfg.Control.DeployTime.Seconds(), a.store.model(spec.Framework, spec.Name), spec.SeriesStart()); !v.Feasible {
		j.note(now, "warning", "%s", v.Text)
	}
	j, fresh, err := a.jobs.reserve(j)
	if err != nil || !fresh {
		return err
	}
	j.mu.Lock()
	err = a.save(j)
	if err != nil {
		j.gone = true
		a.jobs.remove(spec.ID)
	}
	j.mu.Unlock()
	a.lookSoon() // a Chronos job that does not run yet is started
	a.mesosSoon()
	return err
}
