package agent

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"qosctl/framework"
	"qosctl/qos"
)

// A framework takes the first offer that fits, and knows nothing of what jobs need. So it is told which hosts may have a launch: those that have
// what the job needs to be in time, by what they gossip; none, where all have. It is a hint: a launch that it kept from coming is let go
// anywhere after control.move_timeout.

const (
	placeByHints = "hints"
	placeAgain   = 10 // times control.move_timeout: so long a job is not bound that came to no task while it was
)

// binder is a port of a framework whose jobs can be bound to hosts by what it is given at their creation.
type binder interface {
	Bind(body json.RawMessage, hosts []string) (json.RawMessage, error)
}

// hostsFor are the hosts, in Mesos' names, that had better launch a job; none: any. The caller holds j.mu.
func (a *Agent) hostsFor(j *job, now time.Time) []string {
	if a.cfg.Control.Placement != placeByHints || a.cfg.Control.Mode != modeAct || now.Before(j.noPlace) {
		return nil
	}
	rooms := slices.DeleteFunc(a.peerRooms(), func(r qos.Room) bool {
		m, ok := a.cluster.member(r.Node)
		return !ok || j.saved() && a.unfit(j, m) != ""
	})
	if len(rooms) == 0 {
		return nil // alone, or the only one that can have it
	}
	names := map[string]string{}
	for _, m := range a.alive() {
		names[m.Name] = m.Meta.Hostname
	}
	if r := a.room.Load(); r != nil && !a.draining() && a.heldHere() == "" {
		own := *r
		rooms, names[a.node] = append(rooms, own), a.hostname()
	}
	var hosts []string
	for _, n := range qos.Among(a.wish(j, now), rooms) {
		hosts = append(hosts, names[n])
	}
	slices.Sort(hosts)
	return hosts
}

// wish is what a job wants of the node that it is launched on. The caller holds j.mu.
func (a *Agent) wish(j *job, now time.Time) qos.Wish {
	v := a.outline(j)
	if v.Start.IsZero() || v.Framework == qos.Marathon {
		v.Start = now
	}
	v.RunStart, v.Deadline = now, v.QoS.Deadline.From(v.Start)
	v.Allocation, v.Usage, v.Throttled = v.Request, v.Request, 1
	n := qos.NodeView{Now: now, CPUs: max(v.Max, v.Request), Borrow: true, Jobs: []qos.JobView{v}}
	need := qos.Wanted(a.policyOf(j).Decide(n)[0], v)
	return qos.Wish{Job: v.ID, Need: need, Request: v.Request, Min: v.Request, At: a.node}
}

// hostname is this node's name in Mesos.
func (a *Agent) hostname() string { return cmp.Or(a.cfg.Cluster.Hostname, a.mesosHost(), a.node) }

// bindFirst binds a job that is handed in to the hosts that had better have it, where its framework launches by itself. The caller holds j.mu.
func (a *Agent) bindFirst(j *job, p port, body json.RawMessage, now time.Time) (json.RawMessage, error) {
	b, ok := p.(binder)
	if !ok {
		return body, nil
	}
	hosts := a.hostsFor(j, now)
	if len(hosts) == 0 {
		return body, nil
	}
	bound, err := b.Bind(body, hosts)
	if err != nil {
		return nil, err
	}
	j.steward().Hosts = hosts
	j.row.Local.Move = &move{State: moveSent, From: j.request(), To: j.request(), At: now.Round(0), Node: hosts[0], Hosts: hosts}
	j.note(now, "place", "%s is told to launch it on %v: they have what it needs", j.spec().Framework, hosts)
	return bound, nil
}

// bindNext tells Chronos, before it is asked for a launch, which hosts had better have it.
func (a *Agent) bindNext(ctx context.Context, j *job, p port, now time.Time) error {
	r, ok := p.(relocator)
	if !ok || a.cluster == nil {
		return nil
	}
	j.mu.Lock()
	before := slices.Clone(j.steward().Hosts)
	if len(before) > 0 && now.Sub(later(j.bound, j.status().Since)) > a.cfg.Control.MoveTimeout {
		j.noPlace = now.Add(placeAgain * a.cfg.Control.MoveTimeout)
		j.note(now, "place", "no task came from %v within %s: it may be launched anywhere", before, a.cfg.Control.MoveTimeout)
	}
	hosts, unsure := a.hostsFor(j, now), slices.Clone(j.unsure)
	if j.row.Local.Move != nil || len(unsure) == 0 && slices.Equal(before, hosts) {
		j.mu.Unlock()
		return nil
	}
	j.steward().Hosts, j.bound = hosts, now
	j.note(now, "place", "%s is told to launch it on %v", j.spec().Framework, anywhere(hosts))
	err := a.save(j) // what it was told is known before it is
	j.mu.Unlock()
	if err == nil {
		_, err = r.Relocate(ctx, relocation{Name: j.spec().Name, Hosts: hosts, Before: before, Perhaps: unsure})
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if err == nil {
		j.unsure = nil
		return nil
	}
	j.steward().Hosts = before
	if framework.Uncertain(err) && !slices.ContainsFunc(unsure, func(told []string) bool { return slices.Equal(told, hosts) }) {
		j.unsure = append(j.unsure, hosts) // it is told again, and what it may hold by then is known
	}
	return fmt.Errorf("place %s: %w", j.spec().Name, err)
}

func anywhere(hosts []string) any {
	if len(hosts) == 0 {
		return "any host"
	}
	return hosts
}
