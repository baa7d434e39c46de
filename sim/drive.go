package sim

import (
	"math"

	"qosctl/qos"
)

// model is what is known of a job's runs: what was learnt, or the truth.
func (k *cluster) model(j *job) qos.Model {
	if !k.truth || j.run >= len(j.factors) {
		return j.model
	}
	// The truth about what is left, as the mean of its runs: the present one counts with what is left of it.
	left, runs := 0.0, float64(len(j.factors)-j.run)-j.done
	for i := j.run; i < len(j.factors); i++ {
		left += j.factors[i]
	}
	left -= j.done * j.factors[j.run]
	f := left / max(runs, 1e-9)
	parallel := f * j.parallel
	if j.threads <= 1 {
		parallel = 0
	}
	return qos.Model{A: f*(j.serial+j.parallel) - parallel, B: parallel, Work: f * (j.serial + j.parallel), N: 1000}
}

// view is what the agent would tell a policy of a job.
func (k *cluster) view(j *job) qos.JobView {
	m := k.model(j)
	v := qos.JobView{
		ID: j.spec.ID, Framework: j.spec.Framework, QoS: j.spec.QoS, Request: j.request,
		Min: j.spec.QoS.MinCPUs, Max: j.spec.QoS.MaxCPUs, Allocation: j.alloc, Usage: j.alloc, Throttled: 1,
		Start: moment(j.arrive), Deadline: moment(j.deadline), RunStart: moment(j.began),
		Runs: len(j.factors), RunsLeft: len(j.factors) - j.run, Model: m, Memory: j.memory,
	}
	if j.run < len(j.factors) {
		v.Progress = j.done * j.work(j.run)
		v.Consumed = max(j.spent, v.Progress)
		if k.truth { // in the model's runs
			v.Progress = j.done * m.Work
		}
	}
	if j.phase == between || j.phase == pending && !j.restart {
		v.Progress, v.Consumed = 0, 0
	}
	if j.lastChange >= 0 {
		v.LastChange = moment(j.lastChange)
	}
	if j.placed >= 0 {
		v.Placed = moment(j.placed)
	}
	if k.chronos(j) {
		v.Deploy = float64(*k.Deployment.Declared)
	}
	if dt := k.now - j.lookAt; dt > 0.9 && j.phase != pending {
		v.Usage, v.Throttled = j.lookUsed/dt, min(j.lookThrottled/dt, 1)
	}
	return v
}

// look is an agent's look at its node: the policy decides, and what it says is done.
func (k *cluster) look(n *node) {
	view := qos.NodeView{Now: moment(k.now), CPUs: n.cpus, Sold: n.others, Borrow: k.Borrow == "idle"}
	if dt := k.now - n.lastLook; dt > 0 {
		view.Busy = n.lookBusy / dt
	}
	n.lastLook, n.nextLook, n.lookBusy = k.now, k.now+float64(k.Period), 0
	var here []*job
	for _, j := range n.jobs {
		if j.phase == deploying || k.boundary && k.chronos(j) { // the latter is decided for when its run has ended
			view.Sold += j.request
			continue
		}
		here = append(here, j)
		view.Jobs = append(view.Jobs, k.view(j))
	}
	if k.hints {
		for _, r := range k.rooms() {
			if r.Node != n.name {
				view.Spare = max(view.Spare, r.Spare())
			}
		}
	}
	decisions := k.policy.Decide(view)
	n.room = qos.RoomOf(n.name, view, decisions)
	steady := !k.unsteady(n, k.now)
	for i, j := range here {
		if k.now-j.lookAt > 0.9 {
			j.lookAt, j.lookUsed, j.lookThrottled = k.now, 0, 0
		}
		j.need = qos.Wanted(decisions[i], view.Jobs[i])
		k.note(j, decisions[i])
		k.act(j, decisions[i], steady)
	}
	k.relocate(n, here, view, decisions)
}

// note keeps what a decision says.
func (k *cluster) note(j *job, d qos.Decision) {
	j.memory, j.decided = d.Memory, d
	k.trace.decided(k, j, d)
	if d.Lost {
		j.flag(k.now)
	} else if !j.out.Refused || !d.Infeasible {
		j.unflag(k.now)
	}
}

// act sets an allocation: in place, or by a restart.
func (k *cluster) act(j *job, d qos.Decision, steady bool) {
	if math.Abs(d.To-d.From) < 1e-9 || k.most {
		return
	}
	j.out.Resizes++
	if steady {
		j.out.SteadyResizes++
	}
	n := j.node
	j.lastChange = k.now
	n.dirty = true
	if !k.boundary || j.spec.Framework == qos.Chronos {
		j.alloc = d.To
		return
	}
	j.saved = j.done
	k.interrupt(j)
	j.request, j.alloc = d.To, d.To
}

// rooms is what gossip says of all nodes: their own last looks, and what was launched since.
func (k *cluster) rooms() []qos.Room {
	out := make([]qos.Room, 0, len(k.nodes))
	for _, n := range k.nodes {
		r := n.room
		r.Sold, r.Need, r.Jobs = n.sold(), n.others, len(n.jobs)
		for _, j := range n.jobs {
			r.Need += j.need
		}
		out = append(out, r)
	}
	return out
}

// alone is what a policy says of a job that is on no node.
func (k *cluster) alone(j *job) qos.Decision {
	v := k.view(j)
	n := qos.NodeView{Now: moment(k.now), CPUs: v.Max, Borrow: true, Jobs: []qos.JobView{v}}
	d := k.policy.Decide(n)[0]
	j.need = qos.Wanted(d, v)
	return d
}

// placeByHints asks package qos where a job is to be launched.
func (k *cluster) placeByHints(j *job) *node {
	d := k.alone(j)
	w := qos.Wish{Job: j.spec.ID, Need: j.need, Request: j.spec.CPUs, Min: j.spec.QoS.MinCPUs}
	switch {
	case d.Lost:
		w.Request = w.Min
	case j.run > 0 || j.moving:
		w.Request = min(w.Request, j.need)
	}
	p, ok := qos.Place(w, k.rooms())
	if j.hint != "" {
		p = qos.Placement{Node: j.hint, Request: j.request}
		ok = true
	}
	if !ok {
		return nil
	}
	for _, n := range k.nodes {
		if n.name == p.Node && n.cpus-n.sold() >= j.spec.QoS.MinCPUs-1e-9 {
			j.request = max(min(p.Request, n.cpus-n.sold()), j.spec.QoS.MinCPUs)
			return n
		}
	}
	j.hint = ""
	return nil
}

// relocate moves a job to another node, if package qos says so.
func (k *cluster) relocate(n *node, here []*job, view qos.NodeView, decisions []qos.Decision) {
	if !k.hints || len(here) == 0 {
		return
	}
	cost := make([]float64, len(here))
	for i, j := range here {
		cost[i] = float64(k.Checkpoint.Restart)
		if k.chronos(j) || j.frozen {
			cost[i] = math.Inf(1) // its next launch is soon, and free
		}
	}
	rooms := k.rooms()
	self := rooms[0]
	others := rooms[:0:0]
	for _, r := range rooms {
		if r.Node == n.name {
			self = r
		} else {
			others = append(others, r)
		}
	}
	m, ok := qos.Relocate(view, decisions, self, others, cost)
	if !ok {
		return
	}
	for _, j := range here {
		if j.spec.ID == m.Job {
			j.saved, j.hint, j.request = j.done, m.To, m.Request
			j.out.Moves++
			k.interrupt(j)
			return
		}
	}
}
