package agent

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// nodeCollector shows what the snapshot says of the node.
type nodeCollector struct {
	agent *Agent

	build, control, age                             *prometheus.Desc
	cpus, reserve, allocated, headroom, sold        *prometheus.Desc
	jobs, running, hidden, held, draining, finished *prometheus.Desc
}

func newNodeCollector(a *Agent) *nodeCollector {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("qosctl_"+name, help, labels, nil)
	}
	return &nodeCollector{
		agent:     a,
		build:     desc("build_info", "1, with the version as a label.", "version"),
		control:   desc("control_info", "1, with the mode of control, the default policy and the way of resizing as labels.", "mode", "policy", "resize"),
		age:       desc("snapshot_age_seconds", "Age of the figures of node and jobs on this page."),
		cpus:      desc("node_cpus", "CPUs of the node."),
		reserve:   desc("node_reserve_cpus", "CPUs that jobs do not get."),
		allocated: desc("node_allocated_cpus", "CPUs allocated to jobs."),
		headroom:  desc("node_headroom_cpus", "CPUs that are neither sold nor lent."),
		sold:      desc("node_sold_cpus", "CPUs that Mesos has sold to others than the agent's jobs."),
		jobs:      desc("node_jobs", "Jobs that have not ended."),
		running:   desc("node_running_jobs", "Jobs that have a container here."),
		hidden:    desc("node_hidden_jobs", "Jobs that are left out of this page, which has room for 2,000."),
		held:      desc("node_held", "1 if this node decides nothing, for a hold."),
		draining:  desc("node_draining", "1 if the node is being drained."),
		finished:  desc("node_recovered", "1 when what ran before the agent's start has been taken up."),
	}
}

// Describe names the metrics.
func (c *nodeCollector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		c.build, c.control, c.age, c.cpus, c.reserve, c.allocated, c.headroom, c.sold, c.jobs, c.running, c.hidden, c.held, c.draining, c.finished,
	} {
		ch <- d
	}
}

// Collect shows the last snapshot.
func (c *nodeCollector) Collect(ch chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	k := c.agent.cfg.Control
	gauge(c.build, 1, c.agent.version)
	gauge(c.control, 1, k.Mode, k.Policy, k.Resize)
	gauge(c.cpus, c.agent.cpus)
	gauge(c.reserve, k.Reserve)
	gauge(c.finished, truth(c.agent.settled.Load()))
	s := c.agent.snapshot.Load()
	if s == nil {
		return
	}
	gauge(c.age, time.Since(s.At).Seconds())
	gauge(c.allocated, s.Allocated)
	gauge(c.headroom, s.Headroom)
	gauge(c.sold, s.sold)
	gauge(c.jobs, float64(s.Jobs))
	gauge(c.running, float64(s.running))
	gauge(c.hidden, float64(s.hidden))
	gauge(c.held, truth(s.held))
	gauge(c.draining, truth(s.draining))
}

func epoch(t time.Time) float64 {
	if t.IsZero() {
		return 0
	}
	return float64(t.UnixMilli()) / 1000
}

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
