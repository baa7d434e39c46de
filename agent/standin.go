package agent

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"os/user"
	"slices"
	"strconv"
	"strings"
	"time"

	"qosctl/agent/api"
	"qosctl/ckpt"
	"qosctl/framework"
	"qosctl/qos"
)

// Verdicts of a claim.
const (
	verdictRun  = "run"
	verdictIdle = "idle"
	verdictDone = "done"
)

// caller is who is at the other end of the stand-ins' socket, as the kernel says.
type caller struct{ uid, gid int }

func newSecret() string { return rand.Text() }

func hashSecret(secret string) []byte {
	h := sha256.Sum256([]byte(secret))
	return h[:]
}

// admit lets a stand-in in: the job that it names, if it has the job's secret. An unknown job is taken over from the spec that the task carries.
func (a *Agent) admit(ctx context.Context, id, secret string, carried []byte, who caller) (*job, error) {
	denied := refuse(codeForbidden, "no job %s with that secret", id)
	if secret == "" {
		return nil, denied
	}
	j := a.jobs.get(id)
	if j == nil {
		if len(carried) == 0 {
			return nil, denied
		}
		return a.takeOver(ctx, id, secret, carried, who)
	}
	if !j.trusts(secret) {
		return nil, denied
	}
	return j, nil
}

// trusts says whether a secret is the job's.
func (j *job) trusts(secret string) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	return knows(*j.steward(), secret)
}

// takeOver registers a job that this agent never heard of, or has forgotten, from the spec in its task's environment.
// A container that runs for it is found by its labels and given back to it.
func (a *Agent) takeOver(ctx context.Context, id, secret string, carried []byte, who caller) (*job, error) {
	var spec qos.Spec
	if err := json.Unmarshal(carried, &spec); err != nil {
		return nil, refuse(codeInvalid, "spec: %s", err)
	}
	if spec.ID != id || !uuidPattern.MatchString(id) {
		return nil, refuse(codeInvalid, "spec: it is of job %q, not %q", spec.ID, id)
	}
	if err := a.vouched(ctx, spec, secret); err != nil {
		return nil, err
	}
	list, err := a.engines.containers(ctx)
	if err != nil {
		return nil, err
	}
	here := slices.IndexFunc(list, func(c held) bool { return c.running(id) })
	if here >= 0 {
		return a.takeBack(list[here].ID, func() (*job, error) { return a.adoptCarried(&spec, secret, who, list, here, nil) })
	}
	if a.cluster != nil && a.cluster.mesh.Unmet() {
		return nil, refuse(codeConflict, "this agent has met none of its peers yet, who may have the job; ask again")
	}
	saved, ok, err := a.leftSaved(ctx, &spec, list)
	switch {
	case err != nil:
		return nil, err
	case ok:
		return a.adoptCarried(&spec, secret, who, list, -1, &saved)
	}
	return a.adoptCarried(&spec, secret, who, list, -1, nil)
}

// adoptCarried registers a job by the spec that its task carries, with the container of it that runs here (-1: none does), or else with the
// checkpoint that it goes on from (nil: none is here).
func (a *Agent) adoptCarried(spec *qos.Spec, secret string, who caller, list []held, here int, saved *ckpt.Manifest) (*job, error) {
	id := spec.ID
	j := newJob(row{Record: qos.Record{Spec: *spec, Status: qos.Status{Phase: qos.PhasePending, Since: time.Now()}}})
	j.admits(secret)
	if a.cluster != nil {
		j.status().Owner = a.node
	}
	j.note(time.Now(), "adopted", "this agent did not know the job; taken from its task's environment (uid %d)", who.uid)
	j.mu.Lock() // nobody sees it before it is whole
	defer j.mu.Unlock()
	held, fresh := a.jobs.add(j)
	if !fresh {
		if !held.trusts(secret) {
			return nil, refuse(codeForbidden, "no job %s with that secret", id)
		}
		return held, nil
	}
	if err := a.unknown(id); err != nil {
		j.gone = true
		a.jobs.remove(id)
		return nil, err
	}
	a.log.Warn("job taken over from its task's environment", "job", spec.Name, "id", id)
	if here >= 0 && a.readmit(j, list[here].Info, who) {
		c := list[here]
		a.spawn(func(ctx context.Context) { a.hold(ctx, j, c.engine, c.ID) })
	}
	if saved != nil {
		a.readmitSaved(j, *saved, list)
	}
	return j, a.save(j)
}

// unknown says what is against taking a job from its task's environment that was registered just now: that it was removed, as who removes a
// job takes it from the registry last, or that a peer has told of it meanwhile.
func (a *Agent) unknown(id string) error {
	switch removed, err := a.removed(id); {
	case err != nil:
		return err
	case removed:
		return refuse(codeForbidden, "job %s was removed, and its task can't bring it back", id).hint("submit it anew, with a new id, and delete what its framework still has")
	}
	if r, ok := a.elsewhere(id); ok {
		return refuse(codeConflict, "node %s has the job, as was heard just now; ask again", r.Status.Owner)
	}
	return nil
}

// envSecret is the hash of the secret in the environment that a framework gives to a job's tasks; nil: there is none.
func envSecret(env map[string]string) []byte {
	if secret := env[framework.EnvSecret]; secret != "" {
		return hashSecret(secret)
	}
	return nil
}

// vouched checks a spec that did not come by way of submit: its framework must know the job, and have given this secret to its tasks, and it must be
// one that could have been submitted. Whoever is on this node may say that he is a job's task.
func (a *Agent) vouched(ctx context.Context, spec qos.Spec, secret string) error {
	p := a.ports[spec.Framework]
	if p == nil || spec.CPUs <= 0 || spec.QoS.Duration <= 0 || spec.QoS.Deadline.IsZero() || spec.Framework == qos.Chronos && spec.Iterations <= 0 {
		return refuse(codeInvalid, "spec: it is not one of a job that was submitted")
	}
	if err := fits(&spec); err != nil {
		return err
	}
	s, err := p.Look(ctx, spec)
	switch {
	case errors.Is(err, framework.ErrNotFound) || err == nil && s.ID != spec.ID:
		return refuse(codeForbidden, "%s does not know %s as job %s", spec.Framework, spec.Name, spec.ID)
	case err != nil:
		return refuse(codeFramework, "%s does not vouch for %s: %s", spec.Framework, spec.Name, err) // 502: the stand-in asks again
	case subtle.ConstantTimeCompare(s.Secret, hashSecret(secret)) != 1:
		return refuse(codeForbidden, "no job %s with that secret", spec.ID)
	}
	return nil
}

// claim answers a stand-in's first call.
func (a *Agent) claim(j *job, c api.Claim, who caller) (api.ClaimResponse, error) {
	if c.Task == "" {
		return api.ClaimResponse{}, refuse(codeInvalid, "task: empty").hint("a stand-in is started by Mesos, which sets MESOS_TASK_ID")
	}
	j.mu.Lock()
	j.detached = time.Now() // whoever claims is about to attach
	resp, start, err := a.judge(j, c, who)
	j.mu.Unlock()
	if err != nil || !start {
		return resp, err
	}
	return resp, a.begin(j, c.Task)
}

// judge decides about a claim; start says that an execution is to begin. The caller holds j.mu.
func (a *Agent) judge(j *job, c api.Claim, who caller) (resp api.ClaimResponse, start bool, err error) {
	resp = api.ClaimResponse{Verdict: verdictRun, Node: a.node}
	st := j.status()
	if t := j.task(c.Task); t != nil {
		if t.Exit != nil {
			resp.Verdict, resp.Code, resp.Reason = verdictDone, *t.Exit, t.Cause
			return resp, false, nil
		}
		return resp, j.live == nil && !j.busy && startable(st.Phase), nil
	}
	if st.Phase.Terminal() || st.Intent != qos.IntentNone {
		resp.Verdict, resp.Reason = verdictIdle, fmt.Sprintf("the job is %s: %s", st.Phase, st.Reason)
		if st.Phase.Terminal() && j.steward().Pending == qos.ActNone && !j.steward().Attached { // the framework has it still, or again
			j.steward().Pending = qos.ActDelete
			err = a.save(j)
		}
		a.stewardSoon()
		return resp, false, err
	}
	if j.live != nil && j.live.saving {
		return resp, false, refuse(codeConflict, "the job's state is being saved; ask again")
	}
	uid, gid, err := userOf(j.spec().Process.User, who)
	if err != nil {
		return resp, false, err
	}
	first, part := nextPlace(j)
	j.addTask(task{ID: c.Task, First: first, Part: part, UID: uid, GID: gid, Dir: c.Sandbox, Env: cleanEnv(c.Env), CPUs: j.sold(c.CPUs), At: time.Now()})
	if j.live != nil || j.busy { // its former stand-in is gone; the container ran on
		prev := st.Execution.Task
		st.Execution.Task = c.Task
		j.task(c.Task).First, j.task(c.Task).Part = st.Execution.Index, st.Execution.Account.Live.N
		if t := j.task(prev); t != nil && t.Exit == nil {
			code := exitNotStarted
			t.Exit, t.Cause = &code, "task "+c.Task+" has taken over"
		}
		j.note(time.Now(), "claim", "task %s takes over from %s", c.Task, prev)
		return resp, false, a.save(j)
	}
	return resp, true, nil
}

// startable says whether an execution may begin in a phase. A job that is Running has one, held or not.
func startable(p qos.Phase) bool { return p != qos.PhaseRunning && p.To(qos.PhaseRunning) == nil }

func nextIndex(st *qos.Status) int {
	if st.Execution == nil {
		return 1
	}
	return st.Execution.Index + 1
}

// userOf is whom a job's processes run as: the user that the job names, else the caller; never more than the caller may.
func userOf(name string, who caller) (uid, gid int, err error) {
	if name == "" {
		return who.uid, who.gid, nil
	}
	u, err := user.Lookup(name)
	if err != nil {
		if u, err = user.LookupId(name); err != nil {
			return 0, 0, refuse(codeInvalid, "$.user: no user %q on this node", name)
		}
	}
	uid, _ = strconv.Atoi(u.Uid)
	gid, _ = strconv.Atoi(u.Gid)
	if who.uid != 0 && who.uid != uid {
		return 0, 0, refuse(codeForbidden, "the task runs as uid %d and may not start a container as %s", who.uid, name)
	}
	return uid, gid, nil
}

// sold is what a task says that it was launched with, as far as the job ever had so much: a stand-in is the user's.
func (j *job) sold(cpus float64) float64 {
	return max(0, min(cpus, max(j.spec().CPUs, j.known())))
}

// cleanEnv drops what is between a stand-in and its agent from what the job sees.
func cleanEnv(env []string) []string {
	return slices.DeleteFunc(slices.Clone(env), func(kv string) bool { return strings.HasPrefix(kv, "QOSCTL_") })
}

// stopTask obeys a stand-in that was told to stop. Repeating it changes nothing.
func (a *Agent) stopTask(j *job, s api.Stop) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	t := j.task(s.Task)
	if t == nil {
		return refuse(codeNotFound, "task %q holds no claim", s.Task)
	}
	st := j.status()
	switch {
	case t.Exit != nil:
		return nil
	case st.Execution == nil || st.Execution.Task != s.Task: // it holds nothing
		code := 128 + s.Signal
		t.Exit, t.Cause = &code, "told to stop before it held anything"
		return a.save(j)
	case j.live != nil:
		return a.stopLive(j, t, s)
	case !j.busy && st.Phase != qos.PhaseRunning: // between two iterations: nothing runs that could be lost
		code := 0
		t.Exit, t.Cause = &code, "told to stop between two iterations"
		j.note(time.Now(), "stop", "%s", t.Cause)
		return a.save(j)
	default:
		return refuse(codeConflict, "a container is just being started; ask again")
	}
}

// attach counts the output streams of stand-ins; without one for run.detach_grace a container is stopped.
func (a *Agent) attach(j *job, delta int) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.attached += delta
	j.detached = time.Now()
}

// waitChange waits until the job is newer than revision rev, or ctx ends.
func waitChange(ctx context.Context, j *job, rev uint64) {
	for {
		j.mu.Lock()
		now, ch := j.rev, j.changed
		j.mu.Unlock()
		if now > rev {
			return
		}
		select {
		case <-ch:
		case <-ctx.Done():
			return
		}
	}
}
