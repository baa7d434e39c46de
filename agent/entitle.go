package agent

import (
	"errors"
	"path"

	"qosctl/cgroup"
)

// A container's own shares decide nothing where it is the only one of its execution's cgroup. What everybody else on the node gets beside our
// jobs is decided where our parent stands beside theirs: its shares are the sum of the requests, so that all together are entitled to what
// Mesos sold them, and no loan takes anything from others. One level below, our jobs share that by what the policy has given them: it knows
// who needs it.

// heldShare is a container of ours.
type heldShare struct {
	cgroup         string  // in the hierarchy of the controller cpu
	request, given float64 // CPUs
}

// entitlements are the shares, in CPUs, of the cgroups above the containers: of their executions, and of what those stand in. Two
// containers of one execution, of which one is just ending, count as one.
func entitlements(list []heldShare) map[string]float64 {
	shares, sold := map[string]float64{}, map[string]float64{}
	for _, h := range list {
		execution := path.Dir(h.cgroup)
		if parent := path.Dir(execution); path.IsAbs(h.cgroup) && parent != execution && parent != "/" {
			shares[execution], sold[execution] = max(shares[execution], h.given), max(sold[execution], h.request)
		}
	}
	for execution, cpus := range sold {
		shares[path.Dir(execution)] += cpus
	}
	return shares
}

// entitle has the kernel share the node out by what was sold and given, where there is not enough for all.
func (a *Agent) entitle() {
	if a.cfg.Control.Mode != modeAct {
		return
	}
	var list []heldShare
	for _, j := range a.jobs.all() {
		j.mu.Lock()
		if l, e := j.live, j.status().Execution; l != nil && e != nil && !j.steward().Adopted {
			list = append(list, heldShare{l.group.CPU, j.request(), e.Allocation})
		}
		j.mu.Unlock()
	}
	for at, cpus := range entitlements(list) {
		if err := setShares(a.engines.cgroups, at, cpus); err != nil && !errors.Is(err, cgroup.ErrGone) {
			a.log.Debug("set shares", "cgroup", at, "err", err) // a node that does not let us has the kernel's default, as before
		}
	}
}

// setShares leaves an equal value alone.
func setShares(groups *cgroup.FS, at string, cpus float64) error {
	l, err := groups.OpenLimits(cgroup.Group{CPU: at, CPUAcct: at})
	if err != nil {
		return err
	}
	_, err = l.SetShares(cpus)
	return errors.Join(err, l.Close())
}
