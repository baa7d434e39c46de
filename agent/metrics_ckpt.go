package agent

import (
	"github.com/prometheus/client_golang/prometheus"

	"qosctl/ckpt"
)

// ckptMetrics are what the agent counts of checkpoints. The times are CRIU's own where it says them.
type ckptMetrics struct {
	taken, frozen, dump, size       prometheus.Histogram
	restores, criuRestore, pages    prometheus.Histogram
	checkpointErrors, restoreErrors prometheus.Counter
	movesUndone, lost, repaired     prometheus.Counter
}

func newCkptMetrics(reg prometheus.Registerer) ckptMetrics {
	seconds := prometheus.ExponentialBuckets(0.01, 2, 14) // 10 ms to 82 s
	histogram := func(name, help string, buckets []float64) prometheus.Histogram {
		return prometheus.NewHistogram(prometheus.HistogramOpts{Name: "qosctl_" + name, Help: help, Buckets: buckets})
	}
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: "qosctl_" + name, Help: help})
	}
	m := ckptMetrics{
		taken:            histogram("checkpoint_duration_seconds", "Time from the order of a checkpoint to its complete images.", seconds),
		frozen:           histogram("checkpoint_frozen_seconds", "Time that CRIU had a job's processes frozen.", seconds),
		dump:             histogram("checkpoint_memory_dump_seconds", "Time that CRIU took to dump a job's memory.", seconds),
		size:             histogram("checkpoint_size_bytes", "Size of checkpoints.", prometheus.ExponentialBuckets(1<<20, 4, 10)),
		restores:         histogram("restore_duration_seconds", "Time from the order of a restore to running processes.", seconds),
		criuRestore:      histogram("restore_criu_seconds", "Time that CRIU itself took to restore a job.", seconds),
		pages:            histogram("restore_pages", "Memory pages that CRIU restored.", prometheus.ExponentialBuckets(64, 4, 10)),
		checkpointErrors: counter("checkpoint_errors_total", "Checkpoints that could not be taken; the job ran on."),
		restoreErrors:    counter("restore_errors_total", "Restores that failed; another way was tried."),
		lost:             counter("restarts_anew_total", "Executions that were started anew since none of their checkpoints could be restored."),
		repaired:         counter("restore_repairs_total", "Restored processes that were found in a wrong cgroup, and moved."),
	}
	m.movesUndone = counter("moves_undone_total", "Resizes by reschedule that were taken back since no task came in time.")
	reg.MustRegister(m.movesUndone, m.taken, m.frozen, m.dump, m.size, m.restores, m.criuRestore, m.pages, m.checkpointErrors, m.restoreErrors, m.lost, m.repaired)
	return m
}

func (m *ckptMetrics) checkpointed(c ckpt.Manifest) {
	m.taken.Observe(c.Dump.Whole.Seconds())
	m.frozen.Observe(c.Dump.Frozen.Seconds())
	m.dump.Observe(c.Dump.MemDump.Seconds())
}

func (m *ckptMetrics) restored(r ckpt.Restored) {
	m.restores.Observe(r.Stats.Whole.Seconds())
	m.criuRestore.Observe(r.Stats.Restore.Seconds())
	m.pages.Observe(float64(r.Stats.Pages))
	if r.Repaired {
		m.repaired.Inc()
	}
}
