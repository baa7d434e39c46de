package agent

import (
	"context"
	"crypto/subtle"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"

	"qosctl/agent/api"
	"qosctl/framework"
	"qosctl/gossip"
	"qosctl/qos"
)

var uuidPattern = regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$`)

// submit takes a job: validates, writes it down, submits it to its framework, and only then answers. fresh is false when that id was there already.
func (a *Agent) submit(ctx context.Context, r api.SubmitRequest) (resp api.SubmitResponse, fresh bool, err error) {
	if !uuidPattern.MatchString(r.ID) {
		return resp, false, refuse(codeInvalid, "id: %q is not a UUID in lower case", r.ID)
	}
	if j := a.jobs.get(r.ID); j != nil {
		if !sees(ctx, j.spec().Tenant) {
			return resp, false, refuse(codeExists, "id: %s is another job's", r.ID)
		}
		return api.SubmitResponse{Job: a.show(j, false)}, false, nil
	}
	if row, ok := a.elsewhere(r.ID); ok {
		if !sees(ctx, row.Spec.Tenant) {
			return resp, false, refuse(codeExists, "id: %s is another job's", r.ID)
		}
		return api.SubmitResponse{Job: a.show(a.shadow(row), false)}, false, nil
	}
	if err := a.unused(r.ID); err != nil {
		return resp, false, err
	}
	now := time.Now()
	spec, warnings, err := qos.Parse(r.File, qos.ParseOptions{Now: now})
	if err != nil {
		return resp, false, err
	}
	if err := a.maySubmit(ctx, &spec); err != nil {
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

// elsewhere is a job that this node's registry does not have and the table has.
func (a *Agent) elsewhere(id string) (qos.Record, bool) {
	if a.cluster == nil {
		return qos.Record{}, false
	}
	return a.cluster.mesh.Get(id)
}

// unused refuses the id of a job that was removed: nothing of a new one by it would be written or told.
func (a *Agent) unused(id string) error {
	removed, err := a.removed(id)
	if removed {
		return refuse(codeConflict, "id: a job %s was removed, or its submission refused", id).hint("take a new id")
	}
	return err
}

// removed says whether a job was removed for good, as far as that is remembered.
func (a *Agent) removed(id string) (bool, error) {
	if a.cluster != nil && a.cluster.mesh.Removed(id) {
		return true, nil
	}
	return a.store.removed(id)
}

// check refuses what this agent can't do, and warns of a deadline that can't be met.
func (a *Agent) check(spec *qos.Spec, r api.SubmitRequest, resp *api.SubmitResponse) error {
	if err := fits(spec); err != nil {
		return err
	}
	if a.ports[spec.Framework] == nil {
		return refuse(codeInvalid, "no endpoint of type %s is configured", spec.Framework).hint("add one under frameworks: in the agent's configuration")
	}
	if r.Policy != "" && a.policies[r.Policy] == nil {
		return refuse(codeInvalid, "policy: no policy %q", r.Policy).hint("one of " + strings.Join(qos.PolicyNames(), ", "))
	}
	if p := spec.QoS.Policy; p != "" && a.policies[p] == nil {
		return refuse(codeInvalid, "$.qos.policy: no policy %q", p).hint("one of " + strings.Join(qos.PolicyNames(), ", "))
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
	model := a.model(spec.Framework, spec.Name)
	if v := qos.Admit(*spec, most, deploy, model, spec.SeriesStart()); !v.Feasible {
		resp.Warnings = append(resp.Warnings, api.Problem{Path: "$.qos.deadline", Value: spec.QoS.Deadline.String(), Text: v.Text, Remedy: "a later deadline, or more CPUs (qos.max_cpus)"})
	}
	return nil
}

// fits refuses a job whose row no peer would take.
func fits(spec *qos.Spec) error {
	err := gossip.Fits(qos.Record{Spec: *spec})
	if errors.Is(err, gossip.ErrLarge) {
		return refuse(codeInvalid, "%s", err).hint("characters that JSON can't hold as they are take up to six bytes, twice: shorten cmd and env, or have the job fetch them")
	}
	return err
}

// register writes a job down and submits it; a refusal by the framework undoes the registration.
func (a *Agent) register(ctx context.Context, spec qos.Spec, r api.SubmitRequest) (*job, bool, error) {
	j := newJob(row{Record: qos.Record{Spec: spec, Status: qos.Status{Phase: qos.PhaseSubmitted, Since: spec.Submitted}}})
	j.steward().Policy, j.steward().Pending, j.steward().Adopted = r.Policy, qos.ActSubmit, spec.QoS.InPlace()
	j, fresh, err := a.jobs.reserve(j)
	if err != nil || !fresh {
		return j, false, err
	}
	j.mu.Lock()
	j.note(time.Now(), "phase", "%s: received", qos.PhaseSubmitted)
	if a.cluster != nil {
		j.status().Owner = a.node // it looks after the job until a node claims it
	}
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
	if j.gone || j.steward().Pending != qos.ActSubmit {
		j.mu.Unlock()
		return notAsked{errWithdrawn}
	}
	j.admits(secret)
	if body, err = a.bindFirst(j, p, body, time.Now()); err != nil {
		j.mu.Unlock()
		return notAsked{err}
	}
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
	if j.steward().Pending == qos.ActSubmit { // else it was cancelled meanwhile
		j.steward().Pending = qos.ActNone
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

// admits makes a secret the job's newest. Those before it stay good: which of several submissions a framework took is not known.
func (j *job) admits(secret string) {
	s := j.steward()
	s.Secrets = append([][]byte{hashSecret(secret)}, s.Secrets[:min(len(s.Secrets), maxSecrets)]...)
}

// knows says whether a secret is one that the job was submitted with.
func knows(s qos.Stewardship, secret string) bool {
	h, good := hashSecret(secret), 0
	for _, known := range s.Secrets {
		good |= subtle.ConstantTimeCompare(h, known)
	}
	return good == 1
}

// withdraw undoes a registration. What the framework may have taken in spite of the error is deleted by the steward.
func (a *Agent) withdraw(j *job, why error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.handing = false
	if inDoubt(why) {
		j.steward().Pending, j.status().Intent, j.doubt = qos.ActDelete, qos.IntentCancel, time.Now()
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
	a.unshare(j.spec().ID)
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
	if j.steward().Attached {
		return refuse(codeConflict, "%s was attached, not submitted by qosctl", j.spec().Name).hint("qosctl detach takes its QoS away; end it where it was submitted")
	}
	status, local := *st, j.row.Local
	if st.Intent != qos.IntentCancel {
		st.Intent, j.steward().Pending = qos.IntentCancel, qos.ActDelete
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
	if j.live != nil && !j.steward().Adopted {
		a.halt(j, string(qos.IntentCancel))
	}
	j.nextTry = time.Time{}
	a.stewardSoon()
	return nil
}
