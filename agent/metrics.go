package agent

import (
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"qosctl/qos"
)

// metrics are what the agent counts itself; what it knows of jobs is taken from them at each scrape, what it knows of the node from the snapshot.
type metrics struct {
	ckptMetrics

	registry *prometheus.Registry

	period, jitter, sweep, look prometheus.Histogram
	resize                      prometheus.Histogram
	decisions                   *prometheus.CounterVec
	runs                        *prometheus.CounterVec
	resizeErrors                prometheus.Counter
	drift                       prometheus.Counter
	readErrors                  prometheus.Counter
	jumps                       prometheus.Counter
	busy                        prometheus.Gauge
	calls                       *prometheus.CounterVec
	callTime                    *prometheus.HistogramVec
	frameworkErrors             prometheus.Counter
	fenced                      prometheus.Counter
}

// What decisions want, and what becomes of them.
const (
	wantRaise = "raise"
	wantLower = "lower"
	wantKeep  = "keep"

	outcomeDone      = "done"      // written, or nothing was to be
	outcomeAdvised   = "advised"   // not carried out: the mode, the policy or a hold says so
	outcomePostponed = "postponed" // the next look decides again: it has no container, is being saved, or was resized a moment ago
	outcomeMoved     = "moved"     // asked for through the framework
	outcomeFailed    = "failed"
)

var (
	wants    = []string{wantRaise, wantLower, wantKeep}
	outcomes = []string{outcomeDone, outcomeAdvised, outcomePostponed, outcomeMoved, outcomeFailed}
)

func newMetrics(a *Agent) *metrics {
	m := &metrics{registry: prometheus.NewRegistry()}
	m.observe()
	m.count()
	m.registry.MustRegister(m.period, m.jitter, m.sweep, m.look, m.resize, m.decisions, m.runs, m.resizeErrors, m.drift, m.readErrors, m.jumps,
		m.calls, m.callTime, m.frameworkErrors, m.fenced, m.busy,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), newNodeCollector(a), newStoreCollector(a))
	m.ckptMetrics = newCkptMetrics(m.registry)
	for _, o := range outcomes {
		for _, w := range wants[:2] {
			m.decisions.WithLabelValues(w, o)
		}
	}
	m.decisions.WithLabelValues(wantKeep, outcomeDone)
	for _, o := range []qos.Outcome{qos.Met, qos.Missed, qos.Failed} {
		m.runs.WithLabelValues(string(qos.Marathon), string(o))
	}
	for _, o := range []qos.Outcome{qos.Done, qos.Failed} {
		m.runs.WithLabelValues(string(qos.Chronos), string(o))
	}
	return m
}

// observe makes the histograms.
func (m *metrics) observe() {
	histogram := func(name, help string, buckets []float64) prometheus.Histogram {
		return prometheus.NewHistogram(prometheus.HistogramOpts{Name: "qosctl_" + name, Help: help, Buckets: buckets})
	}
	m.period = histogram("sample_period_seconds", "Time between two sweeps over the counters.", []float64{0.5, 0.9, 0.99, 1.01, 1.1, 1.5, 2, 5, 10})
	m.jitter = histogram("sample_jitter_seconds", "How far that was from the period that is configured.", prometheus.ExponentialBuckets(0.001, 4, 7))
	m.sweep = histogram("sample_duration_seconds", "Time that a sweep took.", prometheus.ExponentialBuckets(100e-6, 4, 8))
	m.look = histogram("decision_duration_seconds", "Time that a look at all jobs took, with what was carried out.", prometheus.ExponentialBuckets(100e-6, 4, 8))
	m.resize = histogram("resize_duration_seconds", "Time that a change of a quota took.", prometheus.ExponentialBuckets(25e-6, 4, 8))
	m.callTime = prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "qosctl_framework_request_duration_seconds", Help: "Time from a request to its answer, or to the lack of one.", Buckets: prometheus.ExponentialBuckets(0.005, 4, 6),
	}, []string{"framework"})
}

// count makes the counters and the gauge.
func (m *metrics) count() {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: "qosctl_" + name, Help: help})
	}
	vec := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: "qosctl_" + name, Help: help}, labels)
	}
	m.decisions = vec("decisions_total", "Decisions about jobs by what they wanted, and by what became of that.", "want", "outcome")
	m.runs = vec("runs_total", "Executions and iterations that ended here, by outcome.", "framework", "outcome")
	m.resizeErrors = counter("resize_errors_total", "Quotas that could not be changed.")
	m.drift = counter("quota_drift_total", "Quotas that somebody else had changed.")
	m.readErrors = counter("read_errors_total", "Counters that could not be read.")
	m.jumps = counter("clock_jumps_total", "Times that the wall clock was set by more than a second.")
	m.busy = prometheus.NewGauge(prometheus.GaugeOpts{Name: "qosctl_node_busy_cpus", Help: "CPUs in use on the node by anything."})
	m.calls = vec("framework_requests_total", "Requests to Marathon, Chronos and Mesos by method and by outcome: the class of the answer's status, or none.", "framework", "method", "outcome")
	m.frameworkErrors = counter("framework_errors_total", "Duties towards a framework that failed after the retries of their requests.")
	m.fenced = counter("fenced_total", "Containers that were put aside because another node runs their job.")
}

// sampled notes a sweep.
func (m *metrics) sampled(period, wanted, took time.Duration) {
	m.period.Observe(period.Seconds())
	m.jitter.Observe((period - wanted).Abs().Seconds())
	m.sweep.Observe(took.Seconds())
}

// decided counts a decision by what it wanted, and by what became of that.
func (m *metrics) decided(d qos.Decision, outcome string) {
	switch {
	case d.To > d.From:
		m.decisions.WithLabelValues(wantRaise, outcome).Inc()
	case d.To < d.From:
		m.decisions.WithLabelValues(wantLower, outcome).Inc()
	default:
		m.decisions.WithLabelValues(wantKeep, outcomeDone).Inc()
	}
}

// callsOf counts the requests to a framework.
func (m *metrics) callsOf(framework string) func(method string, status int, took time.Duration) {
	return func(method string, status int, took time.Duration) {
		outcome := "none"
		if status >= 100 && status < 600 {
			outcome = strconv.Itoa(status/100) + "xx"
		}
		m.calls.WithLabelValues(framework, method, outcome).Inc()
		m.callTime.WithLabelValues(framework).Observe(took.Seconds())
	}
}
