package agent

import (
	"context"
	"errors"
	"slices"
	"time"

	"qosctl/framework"
	"qosctl/gossip"
	"qosctl/qos"
)

// A task that is lost before it has claimed its job is no owner's: no take-over finds it, and Marathon never gives it up by itself. Who has
// the job tells it to.

// giveUpStray has a framework give a task up that it lost sight of while the job rests here, once that has been so for the grace and the
// agent of the task's host is gone, too. asked is when the framework was.
func (a *Agent) giveUpStray(ctx context.Context, j *job, p port, s sight, asked time.Time) error {
	e, can := p.(expunger)
	if !can || a.cluster == nil || !a.cluster.mesh.Quorate() {
		return nil
	}
	now := time.Now()
	lost := a.beyondReach(s, now)
	j.mu.Lock()
	st := j.status()
	if len(lost) == 0 || !j.idle() || j.gone || j.rival != nil || st.Intent != qos.IntentNone || j.steward().Adopted || j.steward().Attached {
		j.stray = ""
		j.mu.Unlock()
		return nil
	}
	task := lost[0]
	if j.stray != task {
		j.stray, j.strayed = task, now
	}
	if now.Sub(j.strayed) <= a.cfg.Cluster.Grace || now.Sub(asked) > freshLook {
		j.mu.Unlock()
		return nil
	}
	if j.steward().Expunged != task {
		j.note(now, "framework", "task %s was lost before it had claimed the job: it is given up", task)
	}
	j.steward().Expunged = task
	err := a.save(j) // the act is numbered before it is done
	j.mu.Unlock()
	if err != nil {
		return err
	}
	a.log.Warn("expunge a lost task that has not claimed", "job", j.spec().Name, "task", task)
	if err := e.Expunge(ctx, j.spec().Name, task); err != nil && !errors.Is(err, framework.ErrNotFound) {
		return err
	}
	return nil
}

// beyondReach are the lost tasks on whose host no agent answers.
func (a *Agent) beyondReach(s sight, now time.Time) []string {
	members := a.cluster.mesh.Members()
	return slices.DeleteFunc(slices.Clone(s.Lost), func(task string) bool {
		host := s.On[task]
		return host != "" && slices.ContainsFunc(members, func(m gossip.Member) bool {
			return m.Meta.Hostname == host && a.stateOf(m.Name, now) != nodeGone
		})
	})
}
