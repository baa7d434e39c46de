package agent

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"qosctl/gossip"
	"qosctl/qos"
)

// A framework knows one job by a name, whichever node has it.

// makeRoom refuses a name that is taken, or cancels its job if it is to be replaced. It waits until the framework has removed a former job of that name.
func (a *Agent) makeRoom(ctx context.Context, spec *qos.Spec, replace bool) error {
	if err := a.makeRoomElsewhere(ctx, spec, replace); err != nil {
		return err
	}
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

// makeRoomElsewhere is makeRoom for names that jobs of other nodes have.
func (a *Agent) makeRoomElsewhere(ctx context.Context, spec *qos.Spec, replace bool) error {
	if a.cluster == nil {
		return nil
	}
	ctx, stop := context.WithTimeout(ctx, a.cfg.Run.KillGrace+20*time.Second)
	defer stop()
	for asked := false; ; {
		r, ok := a.holderElsewhere(spec)
		switch {
		case !ok:
			return nil
		case !replace:
			return refuse(codeExists, "a job named %s is there already (%s, on node %s)", spec.Name, r.Spec.ID, r.Status.Owner).hint("qosctl cancel it, or submit with --replace")
		case !asked:
			if err := a.cancelElsewhere(ctx, r); err != nil {
				return err
			}
			asked = true
		}
		if !pause(ctx, 200*time.Millisecond) {
			return refuse(codeConflict, "the job named %s on node %s is not gone yet", spec.Name, r.Status.Owner).hint("try again")
		}
	}
}

// holderElsewhere is the job of another node that its framework knows, or may know, by a name.
func (a *Agent) holderElsewhere(spec *qos.Spec) (qos.Record, bool) {
	for _, r := range a.cluster.mesh.All() {
		if r.Spec.Framework == spec.Framework && r.Spec.Name == spec.Name && r.Spec.ID != spec.ID && a.jobs.get(r.Spec.ID) == nil &&
			(!r.Status.Phase.Terminal() || r.Status.Steward.Pending == qos.ActDelete) {
			return r, true
		}
	}
	return qos.Record{}, false
}

// cancelElsewhere has the node that looks after a job cancel it.
func (a *Agent) cancelElsewhere(ctx context.Context, r qos.Record) error {
	node := a.responsible(r, time.Now())
	m, ok := a.cluster.member(node)
	if !ok || m.State != gossip.Alive {
		return a.cancelRow(r)
	}
	return a.askPeer(ctx, m, http.MethodDelete, peerPrefix+"/v1/jobs/"+r.Spec.ID, nil, nil)
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
	return !j.gone && (!j.status().Phase.Terminal() || j.steward().Pending == qos.ActDelete)
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
