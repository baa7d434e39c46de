package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"qosctl/framework"
	"qosctl/framework/mesos"
)

// Where the Mesos master lets us, a node that is to be emptied is taken out of its offers too, so that nothing new lands there; its tasks
// run on meanwhile, and our own jobs leave one by one. DRAIN_AGENT would kill all of them at once. A node that somebody else drains or
// deactivates in Mesos is emptied of our jobs by itself.

// operator is what the agent asks of a Mesos master: mesos.Master.
type operator interface {
	Agents(ctx context.Context) ([]mesos.Registered, error)
	DeactivateAgent(ctx context.Context, id string) error
	ReactivateAgent(ctx context.Context, id string) error
}

// openMaster makes a client of the Mesos masters; nil: none is configured.
func openMaster(c MesosConfig, m *metrics, log *slog.Logger) (operator, error) {
	if len(c.Master) == 0 {
		return nil, nil //nolint:nilnil // none is configured
	}
	return mesos.NewMaster(framework.Endpoint{
		Name: "mesos master", URLs: c.Master, CAFile: c.MasterCAFile, Username: c.MasterUsername, PasswordFile: c.MasterPasswordFile, Timeout: askTime,
		Observe: m.callsOf("mesos master"),
	}, mesos.Options{Logger: log})
}

// drainInMesos takes a node out of Mesos' offers, or puts it back, and says in words what was done, beside what is done to our own jobs.
func (a *Agent) drainInMesos(ctx context.Context, host string, on bool) string {
	ours := "our jobs may be launched there again"
	if on {
		ours = "each of our jobs there is told which host may have it (constraints)"
	}
	if a.master == nil {
		return ours + "; no mesos.master is configured: Mesos' offers stay as they are"
	}
	ctx, cancel := context.WithTimeout(ctx, findTime)
	defer cancel()
	err := a.setOffers(ctx, host, on)
	switch {
	case err == nil && on:
		return "Mesos offers the node to nobody any more (DEACTIVATE_AGENT), and " + ours
	case err == nil:
		return "Mesos offers the node again (REACTIVATE_AGENT), and " + ours
	case errors.Is(err, mesos.ErrNotPermitted), errors.Is(err, framework.ErrUnauthorized):
		return ours + "; the Mesos master does not permit us to change its offers: " + err.Error()
	}
	return ours + "; Mesos' offers stay as they are: " + err.Error()
}

// setOffers ends the offers of a host while it is drained.
func (a *Agent) setOffers(ctx context.Context, host string, drained bool) error {
	list, err := a.master.Agents(ctx)
	if err != nil {
		return err
	}
	i := slices.IndexFunc(list, func(r mesos.Registered) bool { return r.Hostname == host })
	if i < 0 {
		return fmt.Errorf("the Mesos master knows no agent on %s", host)
	}
	if drained {
		return a.master.DeactivateAgent(ctx, list[i].ID)
	}
	return a.master.ReactivateAgent(ctx, list[i].ID)
}

// masterEvery is how often an agent asks the master whether its own node is being drained.
const masterEvery = 30 * time.Second

// masterLoop empties this node of our jobs when somebody drains or deactivates its Mesos agent.
func (a *Agent) masterLoop(ctx context.Context) error {
	if a.master == nil || a.cluster == nil {
		<-ctx.Done()
		return nil
	}
	tick := time.NewTicker(a.masterPoll)
	defer tick.Stop()
	was := false
	for {
		was = a.followMesos(ctx, was)
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// followMesos marks this node when its Mesos agent has begun to be drained. It returns whether it is; was is what it returned last, so that
// an undrain by us is not undone.
func (a *Agent) followMesos(ctx context.Context, was bool) bool {
	host := a.hostname()
	list, err := a.master.Agents(ctx)
	if err != nil {
		if ctx.Err() == nil {
			a.log.Debug("ask the Mesos master about this node", "err", err) // asked again
		}
		return was
	}
	i := slices.IndexFunc(list, func(r mesos.Registered) bool { return r.Hostname == host })
	if i < 0 {
		return was
	}
	is := list[i].Deactivated || list[i].Drain != nil
	if is && !was && !a.draining() {
		a.log.Info("this node's Mesos agent is being drained: its jobs leave")
		if err := a.mark(drainKey+a.node, "its Mesos agent is being drained"); err != nil {
			a.log.Warn("mark this node as draining", "err", err)
			return false
		}
		a.stir()
	}
	return is
}
