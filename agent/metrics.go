package agent

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"qosctl/agent/api"
	"qosctl/qos"
)

// metrics are what the agent counts itself; what it knows of jobs and node is read from the snapshot at each scrape.
type metrics struct {
	ckptMetrics

	registry *prometheus.Registry

	period          prometheus.Histogram
	resize          prometheus.Histogram
	decisions       *prometheus.CounterVec
	resizeErrors    prometheus.Counter
	drift           prometheus.Counter
	readErrors      prometheus.Counter
	busy            prometheus.Gauge
	frameworkErrors prometheus.Counter
}

func newMetrics(a *Agent) *metrics {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: "qosctl_" + name, Help: help})
	}
	m := &metrics{
		registry: prometheus.NewRegistry(),
		period: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "qosctl_sample_period_seconds", Help: "Time between two sweeps over the counters.", Buckets: []float64{0.5, 0.9, 0.99, 1.01, 1.1, 1.5, 2, 5, 10},
		}),
		resize: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "qosctl_resize_duration_seconds", Help: "Time that a change of a quota took.", Buckets: prometheus.ExponentialBuckets(25e-6, 4, 8),
		}),
		decisions: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "qosctl_decisions_total", Help: "Decisions about jobs by what they wanted: raise, lower, keep.",
		}, []string{"outcome"}),
		resizeErrors:    counter("resize_errors_total", "Quotas that could not be changed."),
		drift:           counter("quota_drift_total", "Quotas that somebody else had changed."),
		readErrors:      counter("read_errors_total", "Counters that could not be read."),
		busy:            prometheus.NewGauge(prometheus.GaugeOpts{Name: "qosctl_node_busy_cpus", Help: "CPUs in use on the node by anything."}),
		frameworkErrors: counter("framework_errors_total", "Calls of a framework that failed after their retries."),
	}
	m.registry.MustRegister(m.period, m.resize, m.decisions, m.resizeErrors, m.drift, m.readErrors, m.frameworkErrors, m.busy,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), newJobCollector(a))
	m.ckptMetrics = newCkptMetrics(m.registry)
	for _, o := range []string{"raise", "lower", "keep"} {
		m.decisions.WithLabelValues(o)
	}
	return m
}

// decided counts decisions by what they wanted.
func (m *metrics) decided(list []qos.Decision) {
	for _, d := range list {
		outcome := "keep"
		switch {
		case d.To > d.From:
			outcome = "raise"
		case d.To < d.From:
			outcome = "lower"
		}
		m.decisions.WithLabelValues(outcome).Inc()
	}
}

// jobMetric is one figure of a job.
type jobMetric struct {
	desc  *prometheus.Desc
	kind  prometheus.ValueType
	value func(api.Job, time.Time) float64
}

// jobCollector shows the snapshot. Jobs that have ended are not in it, so that the number of series stays bounded by what runs.
type jobCollector struct {
	agent                      *Agent
	jobs                       []jobMetric
	state                      *prometheus.Desc
	phase                      *prometheus.Desc
	cpus, allocated, headroom  *prometheus.Desc
	jobCount, build, snapshots *prometheus.Desc
}

var jobLabels = []string{"job", "name", "framework"}

func newJobCollector(a *Agent) *jobCollector {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("qosctl_"+name, help, labels, nil)
	}
	c := &jobCollector{
		agent:     a,
		state:     desc("job_state", "1 for the state against the QoS that the job is in.", append(jobLabels, "state")...),
		phase:     desc("job_phase", "1 for the phase of its life that the job is in.", append(jobLabels, "phase")...),
		cpus:      desc("node_cpus", "CPUs of the node."),
		allocated: desc("node_allocated_cpus", "CPUs allocated to jobs."),
		headroom:  desc("node_headroom_cpus", "CPUs that are neither sold nor lent."),
		jobCount:  desc("node_jobs", "Jobs that have not ended."),
		build:     desc("build_info", "1, with the version as a label.", "version"),
		snapshots: desc("snapshot_age_seconds", "Age of the figures on this page."),
	}
	add := func(name, help string, kind prometheus.ValueType, value func(api.Job, time.Time) float64) {
		c.jobs = append(c.jobs, jobMetric{desc("job_"+name, help, jobLabels...), kind, value})
	}
	gauge, total := prometheus.GaugeValue, prometheus.CounterValue
	add("progress_ratio", "CPU time had over CPU time desired now (equation 3 of the thesis).", gauge, func(j api.Job, _ time.Time) float64 { return j.Ratio })
	add("desired_cpu_seconds", "CPU time that the job should have had by now (equation 2).", gauge, func(j api.Job, _ time.Time) float64 { return j.Desired })
	add("progress_cpu_seconds", "CPU time that the present process state embodies.", gauge, func(j api.Job, _ time.Time) float64 { return j.Progress })
	add("cpu_seconds_total", "CPU time consumed by all executions of the job.", total, func(j api.Job, _ time.Time) float64 { return consumed(j) })
	add("borrowed_cpu_seconds", "CPU time above the request in the present execution.", gauge, func(j api.Job, _ time.Time) float64 { return j.Borrowed })
	add("request_cpus", "CPUs that the framework knows.", gauge, func(j api.Job, _ time.Time) float64 { return j.Request })
	add("allocation_cpus", "CPUs given to the job now.", gauge, func(j api.Job, _ time.Time) float64 { return j.Allocation })
	add("usage_cpus", "CPUs really used between the last two readings.", gauge, func(j api.Job, _ time.Time) float64 { return j.Usage })
	add("need_cpus", "CPUs needed from now on to be in time.", gauge, func(j api.Job, _ time.Time) float64 { return j.Need })
	add("throttled_ratio", "Share of CFS periods in which the job was throttled.", gauge, func(j api.Job, _ time.Time) float64 { return j.Throttled })
	add("deadline_timestamp_seconds", "When the job must be done.", gauge, func(j api.Job, _ time.Time) float64 { return epoch(j.Deadline) })
	add("prediction_timestamp_seconds", "When it will be done at its present pace.", gauge, func(j api.Job, _ time.Time) float64 { return epoch(j.Prediction) })
	add("late", "1 if the deadline or the declared duration is past.", gauge, func(j api.Job, _ time.Time) float64 { return truth(j.Late) })
	add("iterations_left", "Iterations of a Chronos job that are not done.", gauge, func(j api.Job, _ time.Time) float64 { return float64(max(0, j.Iterations-j.Tally.Succeeded)) })
	add("runs_succeeded_total", "Executions and iterations that exited 0.", total, func(j api.Job, _ time.Time) float64 { return float64(j.Tally.Succeeded) })
	add("runs_failed_total", "Executions and iterations that did not.", total, func(j api.Job, _ time.Time) float64 { return float64(j.Tally.Failed) })
	add("resizes_total", "Changes of the allocation in ended runs.", total, func(j api.Job, _ time.Time) float64 { return float64(j.Tally.Resizes) })
	return c
}

// Describe names the metrics of jobs and node.
func (c *jobCollector) Describe(ch chan<- *prometheus.Desc) {
	for _, m := range c.jobs {
		ch <- m.desc
	}
	for _, d := range []*prometheus.Desc{c.state, c.phase, c.cpus, c.allocated, c.headroom, c.jobCount, c.build, c.snapshots} {
		ch <- d
	}
}

// Collect shows the last snapshot.
func (c *jobCollector) Collect(ch chan<- prometheus.Metric) {
	one := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	one(c.build, 1, c.agent.version)
	one(c.cpus, c.agent.cpus)
	s := c.agent.snapshot.Load()
	if s == nil {
		return
	}
	one(c.snapshots, time.Since(s.At).Seconds())
	one(c.allocated, s.Allocated)
	one(c.headroom, s.Headroom)
	one(c.jobCount, float64(len(s.Jobs)))
	for _, j := range s.Jobs {
		labels := []string{j.ID, j.Name, string(j.Framework)}
		for _, m := range c.jobs {
			ch <- prometheus.MustNewConstMetric(m.desc, m.kind, m.value(j, s.At), labels...)
		}
		one(c.phase, 1, append(labels, string(j.Phase))...)
		if j.State != "" {
			one(c.state, 1, append(labels, string(j.State))...)
		}
	}
}

// consumed is the CPU time of all executions; the present one is in the tally once it has ended.
func consumed(j api.Job) float64 {
	if j.Phase == qos.PhaseRunning {
		return j.Tally.CPU + j.Consumed
	}
	return j.Tally.CPU
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
