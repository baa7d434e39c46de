package agent

import (
	"context"
	"crypto/subtle"
	"errors"
	"fmt"
	"regexp"
	"time"

	"qosctl/agent/api"
	"qosctl/framework"
	"qosctl/qos"
)

var uuidPattern = regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$`)

// submit takes a job: validates, writes it down, submits it to its framework, and only then answers. fresh is false when that id was there already.
func (a *Agent) submit(ctx context.Context, r api.SubmitRequest) (resp api.SubmitResponse, fresh bool, err error) {
	if !uuidPattern.MatchString(r.ID) {
		return resp, false, refuse(codeInvalid, "id: %q is not a UUID in lower case", r.ID)
	}
	if j := a.jobs.get(r.ID); j != nil {
		return api.SubmitResponse{Job: a.show(j, false)}, false, nil
	}
	now := time.Now()
	spec, warnings, err := qos.Parse(r.File, qos.ParseOptions{Now: now})
	if err != nil {
		return resp, false, err
	}
	spec.ID, spec.Submitted = r.ID, now.Round(0)
	for _, w := range warnings {
		resp.Warnings = append(resp.Warnings, api.Problem{Path: w.Path, Value: w.Value, Text: w.Text, Remedy: w.Remedy})
	}
	if err := a.check(&spec, r, &resp); err != nil {
		return resp, false, err
	}
	if r.Strict && len(resp.Warnings) > 0 {
		bad := refuse(codeInvalid, "%d warning(s), and strict was asked for", len(resp.Warnings))
		bad.body.Problems = resp.Warnings
		return resp, false, bad
	}
	if err := a.makeRoom(ctx, &spec, r.Replace); err != nil {
		return resp, false, err
	}
	j, fresh, err := a.register(ctx, spec, r)
	if err != nil {
		return resp, false, err
	}
	resp.Job = a.show(j, false)
	return resp, fresh, nil
}

// check refuses what this agent can't do, and warns of a deadline that can't be met.
func (a *Agent) check(spec *qos.Spec, r api.SubmitRequest, resp *api.SubmitResponse) error {
	if a.ports[spec.Framework] == nil {
		return refuse(codeInvalid, "no endpoint of type %s is configured", spec.Framework).hint("add one under frameworks: in the agent's configuration")
	}
	if r.Policy != "" && a.policies[r.Policy] == nil {
		return refuse(codeInvalid, "policy: no policy %q", r.Policy).hint("one of deadline, step, none")
	}
	if p := spec.QoS.Policy; p != "" && a.policies[p] == nil {
		return refuse(codeInvalid, "$.qos.policy: no policy %q", p).hint("one of deadline, step, none")
	}
	_, most := a.bounds(spec)
	if spec.QoS.MinCPUs > most {
		return refuse(codeInvalid, "$.qos.min_cpus: %g is more than this node allows (%g)", spec.QoS.MinCPUs, most)
	}
	if c := spec.Container; c != nil && c.Image != "" && !spec.QoS.InPlace() && a.engines.docker == nil {
		if _, ok := a.cfg.Engine.Images[c.Image]; !ok {
			return refuse(codeInvalid, "no program is known for image %q", c.Image).
				hint("give the agent Docker (engine.docker), or: qosctl dev --map-image " + c.Image + "=DIR, or engine.images in the configuration: DIR's entries are laid over the host's root")
		}
	}
	deploy := 0.0
	if spec.Framework == qos.Chronos && spec.QoS.IterationsBy == qos.IterationsByChronos {
		deploy = a.cfg.Control.DeployTime.Seconds()
	}
	model := a.store.model(spec.Framework, spec.Name)
	if v := qos.Admit(*spec, most, deploy, model, spec.SeriesStart()); !v.Feasible {
		resp.Warnings = append(resp.Warnings, api.Problem{Path: "$.qos.deadline", Value: spec.QoS.Deadline.String(), Text: v.Text, Remedy: "a later deadline, or more CPUs (qos.max_cpus)"})
	}
	return nil
}

// makeRoom refuses a name that is taken, or cancels its job if it is to be replaced. It waits until the framework has removed a former job of that name.
func (a *Agent) makeRoom(ctx context.Context, spec *qos.Spec, replace bool) error {
	old := a.jobs.holder(spec.Framework, spec.Name)
	if old == nil {
		return nil
	}
	old.mu.Lock()
	ended := old.status().Phase.Terminal()
	old.mu.Unlock()
	wait := removalTime
	if !ended {
		if !replace {
			return taken(old)
		}
		if err := a.replaceable(ctx, spec); err != nil {
			return err
		}
		if err := a.cancel(old); err != nil {
			return err
		}
		wait = a.cfg.Run.KillGrace + 20*time.Second
	}
	ctx, stop := context.WithTimeout(ctx, wait)
	defer stop()
	for {
		old.mu.Lock()
		rev := old.rev
		old.mu.Unlock()
		if !old.holds() {
			return nil
		}
		if ctx.Err() != nil {
			return refuse(codeConflict, "the job named %s is not gone yet", spec.Name).hint("try again")
		}
		a.stewardSoon()
		waitChange(ctx, old, rev)
	}
}

// removalTime is how long a submission waits for its framework to remove a former job of its name.
const removalTime = 10 * time.Second

// replaceable finds out what would keep the new job from being submitted, before the old one is cancelled for it.
func (a *Agent) replaceable(ctx context.Context, spec *qos.Spec) error {
	p := a.ports[spec.Framework]
	if _, _, err := p.Prepare(ctx, *spec, newSecret()); err != nil {
		return fmt.Errorf("prepare %s for %s: %w", spec.Name, spec.Framework, err)
	}
	f, ok := p.(family)
	if !ok {
		return nil
	}
	parent, err := f.Parent(ctx, spec.Name)
	if err != nil {
		return err
	}
	if parent {
		return refuse(codeConflict, "other jobs of %s depend on %s: it can't be removed, only disabled", spec.Framework, spec.Name).
			hint("submit under another name, or remove those that depend on it first")
	}
	return nil
}

// register writes a job down and submits it; a refusal by the framework undoes the registration.
func (a *Agent) register(ctx context.Context, spec qos.Spec, r api.SubmitRequest) (*job, bool, error) {
	j := newJob(row{Record: qos.Record{Spec: spec, Status: qos.Status{Phase: qos.PhaseSubmitted, Since: spec.Submitted}}})
	j.row.Local.Policy, j.row.Local.Duty, j.row.Local.Adopted = r.Policy, dutySubmit, spec.QoS.InPlace()
	j, fresh, err := a.jobs.reserve(j)
	if err != nil || !fresh {
		return j, false, err
	}
	j.mu.Lock()
	j.note(time.Now(), "phase", "%s: received", qos.PhaseSubmitted)
	j.status().Started = spec.Submitted
	if spec.Framework == qos.Chronos {
		j.status().Started = spec.SeriesStart()
	}
	j.handing = true
	err = a.save(j)
	j.mu.Unlock()
	if err == nil {
		err = a.hand(ctx, j)
	}
	if err != nil {
		a.withdraw(j, err)
		return nil, false, err
	}
	a.stewardSoon()
	return j, true, nil
}

// reserve registers a job unless its id is taken, or its name: by a job that has not ended, or that its framework may still have.
func (s *jobs) reserve(j *job) (held *job, fresh bool, err error) {
	s.naming.Lock()
	defer s.naming.Unlock()
	if held = s.get(j.spec().ID); held != nil {
		return held, false, nil
	}
	if old := s.holder(j.spec().Framework, j.spec().Name); old != nil {
		return nil, false, taken(old)
	}
	held, fresh = s.add(j)
	return held, fresh, nil
}

// holder returns the job that a framework knows, or may know, by a name; nil if there is none.
func (s *jobs) holder(f qos.Framework, name string) *job {
	for _, j := range s.all() {
		if j.spec().Framework == f && j.spec().Name == name && j.holds() {
			return j
		}
	}
	return nil
}

// holds says whether a job has, or may have, its name in its framework.
func (j *job) holds() bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	return !j.gone && (!j.status().Phase.Terminal() || j.row.Local.Duty == dutyDelete)
}

// taken is the refusal of a name that a job has.
func taken(old *job) error {
	old.mu.Lock()
	defer old.mu.Unlock()
	spec := old.spec()
	if old.status().Phase.Terminal() {
		return refuse(codeConflict, "%s may still have the former job named %s (%s)", spec.Framework, spec.Name, spec.ID).hint("it is being removed there: try again")
	}
	return refuse(codeExists, "a job named %s is there already (%s)", spec.Name, spec.ID).hint("qosctl cancel it, or submit with --replace")
}

// errWithdrawn says that a job is not to be submitted any more.
var errWithdrawn = errors.New("it was withdrawn")

// hand submits a registered job to its framework with a secret made for it; the secret is kept as a hash only.
// That the framework has taken it can't be undone by a store that fails: then the row is written later.
func (a *Agent) hand(ctx context.Context, j *job) error {
	spec, p, secret := *j.spec(), a.ports[j.spec().Framework], newSecret()
	body, notes, err := p.Prepare(ctx, spec, secret)
	if err != nil {
		return notAsked{fmt.Errorf("prepare %s for %s: %w", spec.Name, spec.Framework, err)}
	}
	j.mu.Lock()
	if j.gone || j.row.Local.Duty != dutySubmit {
		j.mu.Unlock()
		return notAsked{errWithdrawn}
	}
	j.row.Local.remember(secret)
	for _, n := range notes {
		j.note(time.Now(), "note", "%s", n)
	}
	err = a.save(j)
	j.mu.Unlock()
	if err != nil {
		return notAsked{err}
	}
	err = p.Create(ctx, spec, body)
	if errors.Is(err, framework.ErrExists) { // perhaps by a submission of ours whose answer was lost
		if s, lookErr := p.Look(ctx, spec); lookErr == nil && j.is(s) {
			err = nil
		}
	}
	if err != nil {
		return err
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	j.handing = false
	if j.row.Local.Duty == dutySubmit { // else it was cancelled meanwhile
		j.row.Local.Duty = dutyNone
	}
	if j.status().Phase == qos.PhaseSubmitted { // else a stand-in was quicker than the answer
		if err := j.enter(qos.PhasePending, time.Now(), "submitted to "+string(spec.Framework)); err != nil {
			a.log.Error("phase", "job", spec.Name, "err", err)
		}
	}
	if err := a.save(j); err != nil {
		j.dirty = true
		a.log.Error("a submission is not on disk yet", "job", spec.Name, "err", err)
	}
	return nil
}

// maxSecrets bounds the secrets of former submissions that are kept.
const maxSecrets = 4

// remember makes a secret the job's newest. Those before it stay good: which of several submissions a framework took is not known.
func (l *local) remember(secret string) {
	if len(l.SecretHash) > 0 {
		old := append([][]byte{l.SecretHash}, l.OldSecrets...)
		l.OldSecrets = old[:min(len(old), maxSecrets)]
	}
	l.SecretHash = hashSecret(secret)
}

// knows says whether a secret is one that the job was submitted with.
func (l *local) knows(secret string) bool {
	h := hashSecret(secret)
	good := subtle.ConstantTimeCompare(h, l.SecretHash)
	for _, old := range l.OldSecrets {
		good |= subtle.ConstantTimeCompare(h, old)
	}
	return good == 1
}

// withdraw undoes a registration. What the framework may have taken in spite of the error is deleted by the steward.
func (a *Agent) withdraw(j *job, why error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.handing = false
	if inDoubt(why) {
		j.row.Local.Duty, j.status().Intent, j.doubt = dutyDelete, qos.IntentCancel, time.Now()
		err := j.enter(qos.PhaseCancelled, time.Now(), "submission failed: "+why.Error())
		if err == nil {
			err = a.save(j)
		}
		if err != nil {
			a.log.Error("a failed submission is not on disk yet", "job", j.spec().Name, "err", err)
		}
		a.stewardSoon()
		return
	}
	j.gone = true
	if err := a.store.remove(j.spec().ID); err != nil {
		a.log.Error("undo a registration", "job", j.spec().Name, "err", err)
	}
	a.jobs.remove(j.spec().ID)
	j.touch()
}

// idle says whether a job has no container: one that is Running has, even before it is in hand after a restart.
func (j *job) idle() bool { return j.live == nil && !j.busy && j.status().Phase != qos.PhaseRunning }

// cancel ends a job for good. A cancel is never unset.
func (a *Agent) cancel(j *job) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	st := j.status()
	if st.Phase.Terminal() {
		return nil
	}
	if j.row.Local.Attached {
		return refuse(codeConflict, "%s was attached, not submitted by qosctl", j.spec().Name).hint("qosctl detach takes its QoS away; end it where it was submitted")
	}
	status, local := *st, j.row.Local
	if st.Intent != qos.IntentCancel {
		st.Intent, j.row.Local.Duty = qos.IntentCancel, dutyDelete
		j.note(time.Now(), "cancel", "cancelled by the user")
	}
	if !j.busy && j.live == nil && st.Phase != qos.PhaseRunning { // a job that is Running has a container, in hand or not
		if err := j.enter(qos.PhaseCancelled, time.Now(), "cancelled"); err != nil {
			return err
		}
	}
	if err := a.save(j); err != nil { // one write: a crash leaves it cancelled, or as it was
		*st, j.row.Local = status, local
		return err
	}
	if j.live != nil && !j.row.Local.Adopted {
		a.halt(j, string(qos.IntentCancel))
	}
	j.nextTry = time.Time{}
	a.stewardSoon()
	return nil
}
