package sim

import (
	"math"
	"slices"

	"qosctl/qos"
)

// submit hands a job in; what admission says of it is kept.
func (k *cluster) submit(j *job) {
	j.phase = pending
	deploy := 0.0
	if k.chronos(j) {
		deploy = float64(*k.Deployment.Declared)
	}
	if a := qos.Admit(j.spec, j.spec.QoS.MaxCPUs, deploy, k.model(j), j.spec.Submitted); !a.Feasible {
		j.out.Refused = true
		j.flag(k.now)
	}
	j.need = j.request
}

// chronos says whether each of the job's runs is a launch of its own.
func (k *cluster) chronos(j *job) bool {
	return k.Iterations == "chronos" && j.spec.Framework == qos.Chronos
}

// begin starts a run when its deployment has ended, or goes on with one that was interrupted.
func (k *cluster) begin(j *job) {
	j.phase = running
	if !j.restart {
		j.done, j.saved, j.spent, j.granted, j.held = 0, 0, 0, 0, 0
		j.began = k.now
	}
	j.restart, j.moving, j.placed = false, false, k.now
	j.nextSave = never
	if k.Checkpoint.Every > 0 {
		j.nextSave = k.now + float64(k.Checkpoint.Every)
	}
	j.lookAt, j.lookUsed, j.lookThrottled = k.now, 0, 0
	k.touch(j.node)
}

// nextRun starts the next warm iteration.
func (k *cluster) nextRun(j *job) {
	look := j.lookAt
	used, throttled := j.lookUsed, j.lookThrottled
	event, placed := j.node.event, j.placed
	k.begin(j)
	j.placed = placed
	j.lookAt, j.lookUsed, j.lookThrottled = look, used, throttled
	j.node.event = event // nothing has come or gone: it is the same launch
}

// endRun ends a run: what it took is learnt, and the next one is on its way.
func (k *cluster) endRun(j *job) {
	j.model.Observe(j.held, j.granted/max(j.held, 1e-9), j.work(j.run))
	k.trace.end(k, j)
	j.run++
	j.done, j.saved = 0, 0
	n := j.node
	event := n.event
	k.touch(n)
	if j.run == len(j.factors) {
		j.phase = ended
		j.out.Ended = k.now
		j.out.Late = k.now - j.deadline
		j.out.Met = k.now <= j.deadline+1e-6
		k.release(j)
		return
	}
	if k.chronos(j) {
		j.phase = pending
		k.release(j)
		k.relaunch(j)
		return
	}
	n.event = event
	j.phase, j.until = between, k.now+float64(k.Deployment.Gap)
	j.spent = 0
}

// relaunch works out the request of a job's next launch: for a policy that acts by restarts it decides now.
func (k *cluster) relaunch(j *job) {
	if !k.boundary {
		return
	}
	cpus := max(k.Nodes.CPUs, j.spec.QoS.MaxCPUs)
	v := k.view(j)
	v.RunStart = moment(k.now)
	d := k.policy.Decide(qos.NodeView{Now: moment(k.now), CPUs: cpus, Borrow: true, Jobs: []qos.JobView{v}})[0]
	k.note(j, d)
	if to := min(d.To, k.Nodes.CPUs); math.Abs(to-j.request) > 1e-9 {
		j.request, j.alloc, j.lastChange = to, to, k.now
		j.out.Resizes++
	}
}

// release takes a job from its node.
func (k *cluster) release(j *job) {
	n := j.node
	n.jobs = slices.DeleteFunc(n.jobs, func(o *job) bool { return o == j })
	j.node = nil
	j.speed, j.usage = 0, 0
	k.touch(n)
}

// crash throws away what was done since the last checkpoint; the job waits for an offer.
func (k *cluster) crash(j *job) {
	j.crashAt = -1
	k.interrupt(j)
	j.done = j.saved
}

// interrupt stops a job in the middle of a run; it goes on elsewhere, after a restart.
func (k *cluster) interrupt(j *job) {
	j.restart, j.moving = j.phase == running, true
	k.release(j)
	j.phase = pending
}

// offer is a round of offers: each job that waits is launched where there is room, those that have waited longest first.
func (k *cluster) offer() {
	for _, j := range k.jobs {
		if j.phase == pending {
			k.launch(j)
		}
	}
}

// launch starts a job's deployment, if a node has room for its request.
func (k *cluster) launch(j *job) {
	n := k.place(j)
	if n == nil {
		return
	}
	deploy := 0.0
	switch {
	case j.moving:
		deploy = float64(k.Checkpoint.Restart) * math.Exp(k.Deployment.Spread*k.rng.NormFloat64())
	case k.chronos(j):
		deploy = j.deploys[j.run]
	default:
		deploy = j.deploys[0]
	}
	j.node, j.phase, j.until, j.hint = n, deploying, k.now+deploy, ""
	j.alloc = j.request
	n.jobs = append(n.jobs, j)
	n.dirty = true
	k.touch(n)
}

// place finds a node with room: by the hints of package qos, or any.
func (k *cluster) place(j *job) *node {
	if k.hints {
		return k.placeByHints(j)
	}
	var fit []*node
	for _, n := range k.nodes {
		if n.cpus-n.sold() >= j.request-1e-9 {
			fit = append(fit, n)
		}
	}
	if len(fit) == 0 {
		return nil
	}
	return fit[k.rng.IntN(len(fit))]
}
