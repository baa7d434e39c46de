package agent

import (
	"bufio"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"qosctl/agent/api"
	"qosctl/qos"
)

// The metrics of jobs are written by hand: at a thousand jobs they are forty thousand series, which client_golang would take a tenth of a
// second of CPU for, once at each scrape (make bench).

const (
	// keptShown is how long a job that has ended is still shown, so that its last figures are scraped.
	keptShown = 5 * time.Minute
	// mostShown bounds the jobs of one page; those that run come first.
	mostShown = 2000
	// longestLabel bounds the value of a label, in bytes.
	longestLabel = 256
)

// shown is a job as /metrics shows it.
type shown struct {
	*api.Job
	figures
}

// figures are what the page has beyond the API's view. CPU times are over the job's whole life, in seconds.
type figures struct {
	running                       bool
	cpu, borrowed, lost, overhead float64
	resizes, incarnations         int
	cfs                           cfs
	saved                         qos.Saved
}

// figuresOf are a job's. The caller holds j.mu.
func (j *job) figuresOf() figures {
	st := j.status()
	t := st.Tally
	f := figures{running: j.live != nil, cpu: t.CPU, borrowed: t.Borrowed, lost: t.Lost, overhead: t.Overhead, resizes: t.Resizes, cfs: j.cfs}
	if st.Saved != nil {
		f.saved = *st.Saved
	}
	e := st.Execution
	if e == nil {
		return f
	}
	f.incarnations = len(e.Account.Entries)
	if n := len(st.Runs); n > 0 && st.Runs[n-1].Index >= e.Index {
		return f // it is in the tally
	}
	f.cpu += e.Account.Consumed().Seconds()
	f.borrowed += e.Account.Borrowed().Seconds()
	f.overhead += e.Account.Overhead().Seconds()
	f.resizes += e.Clock.Resizes
	progress := e.Account.Progress()
	if j.row.Local.Restoring > 0 && st.Saved != nil { // its restore is under way: nothing of it is lost yet
		progress = st.Saved.CPU
	}
	f.lost += max(0, e.Account.Consumed()-progress).Seconds()
	return f
}

// Types of families.
const (
	typeGauge   = "gauge"
	typeCounter = "counter"
)

// jobFamily is one metric of jobs. ok is false where a job has none; label is one beyond jobLabels, "" for none.
type jobFamily struct {
	name, kind, help string
	labels           []string // beyond jobLabels
	value            func(shown) (v float64, ok bool)
	extra            func(shown) []string // their values
}

// jobLabels are those of every metric of a job. Not `job`, which is the scrape's own.
var jobLabels = []string{"uuid", "name", "framework"}

func jobFamilies() []jobFamily {
	return append(stateFamilies(), append(cpuFamilies(), lifeFamilies()...)...)
}

func always(f func(shown) float64) func(shown) (float64, bool) {
	return func(s shown) (float64, bool) { return f(s), true }
}

// when is a time that may not be known.
func when(f func(shown) time.Time) func(shown) (float64, bool) {
	return func(s shown) (float64, bool) { t := f(s); return epoch(t), !t.IsZero() }
}

// decided is a figure of the last decision: none before there is one.
func decided(f func(shown) float64) func(shown) (float64, bool) {
	return func(s shown) (float64, bool) { return f(s), s.State != "" }
}

func one(shown) (float64, bool) { return 1, true }

func stateFamilies() []jobFamily {
	return []jobFamily{
		{"job_info", typeGauge, "1, with what does not change often as labels.", []string{"tenant", "owner", "policy"}, one, func(s shown) []string { return []string{s.Tenant, s.Owner, s.Policy} }},
		{"job_phase", typeGauge, "1 for the phase of its life that the job is in.", []string{"phase"}, one, func(s shown) []string { return []string{string(s.Phase)} }},
		{"job_state", typeGauge, "1 for the state against the QoS that the job is in.", []string{"state"}, decided(func(shown) float64 { return 1 }), func(s shown) []string { return []string{string(s.State)} }},
		{"job_late", typeGauge, "1 if the deadline or the declared duration is past.", nil, always(func(s shown) float64 { return truth(s.Late) }), nil},
		{"job_held", typeGauge, "1 if nothing is decided about the job, for a hold.", nil, always(func(s shown) float64 { return truth(s.Held != "") }), nil},
		{"job_start_timestamp_seconds", typeGauge, "When the deadline began to count.", nil, when(func(s shown) time.Time { return s.Started }), nil},
		{"job_deadline_timestamp_seconds", typeGauge, "When the job must be done.", nil, when(func(s shown) time.Time { return s.Deadline }), nil},
		{"job_prediction_timestamp_seconds", typeGauge, "When it will be done at its present pace.", nil, when(func(s shown) time.Time { return s.Prediction }), nil},
		{"job_progress_ratio", typeGauge, "CPU time had over CPU time desired now (equation 3 of the thesis).", nil, decided(func(s shown) float64 { return s.Ratio }), nil},
	}
}

func cpuFamilies() []jobFamily {
	return []jobFamily{
		{"job_cpu_seconds_total", typeCounter, "CPU time consumed by all executions of the job.", nil, always(func(s shown) float64 { return s.cpu }), nil},
		{"job_borrowed_cpu_seconds_total", typeCounter, "Of that, CPU time above the request.", nil, always(func(s shown) float64 { return s.borrowed }), nil},
		{"job_lost_cpu_seconds", typeGauge, "Of that, CPU time of process states that are gone, and of runs that failed.", nil, always(func(s shown) float64 { return s.lost }), nil},
		{"job_overhead_cpu_seconds_total", typeCounter, "Beside that, CPU time that restores themselves took.", nil, always(func(s shown) float64 { return s.overhead }), nil},
		{"job_progress_cpu_seconds", typeGauge, "CPU time that the present process state embodies.", nil, always(func(s shown) float64 { return s.Progress }), nil},
		{"job_desired_cpu_seconds", typeGauge, "CPU time that the job should have had by now (equation 2).", nil, decided(func(s shown) float64 { return s.Desired }), nil},
		{"job_request_cpus", typeGauge, "CPUs that the framework knows.", nil, always(func(s shown) float64 { return s.Request }), nil},
		{"job_allocation_cpus", typeGauge, "CPUs given to the job now; 0 without a container.", nil, always(func(s shown) float64 { return s.Allocation }), nil},
		{"job_usage_cpus", typeGauge, "CPUs really used between the last two readings.", nil, always(func(s shown) float64 { return s.Usage }), nil},
		{"job_need_cpus", typeGauge, "CPUs needed from now on to be in time.", nil, decided(func(s shown) float64 { return s.Need }), nil},
		{"job_throttled_ratio", typeGauge, "Share of CFS periods in which the job was throttled.", nil, always(func(s shown) float64 { return s.Throttled }), nil},
		{"job_cfs_periods_total", typeCounter, "CFS periods that the job was runnable in.", nil, always(func(s shown) float64 { return float64(s.cfs.periods) }), nil},
		{"job_cfs_throttled_periods_total", typeCounter, "Of these, periods in which its quota was used up.", nil, always(func(s shown) float64 { return float64(s.cfs.throttled) }), nil},
		{"job_cfs_throttled_seconds_total", typeCounter, "Time that it was throttled, added up over CPUs.", nil, always(func(s shown) float64 { return s.cfs.time.Seconds() }), nil},
	}
}

func lifeFamilies() []jobFamily {
	series := func(f func(shown) float64) func(shown) (float64, bool) {
		return func(s shown) (float64, bool) { return f(s), s.Framework == qos.Chronos }
	}
	saved := func(f func(shown) float64) func(shown) (float64, bool) {
		return func(s shown) (float64, bool) { return f(s), !s.saved.Taken.IsZero() }
	}
	return []jobFamily{
		{"job_iterations_done", typeGauge, "Iterations of a Chronos job that exited 0.", nil, series(func(s shown) float64 { return float64(s.Tally.Succeeded) }), nil},
		{"job_iterations_left", typeGauge, "Iterations of a Chronos job that are not done.", nil, series(func(s shown) float64 { return float64(max(0, s.Iterations-s.Tally.Succeeded)) }), nil},
		{"job_runs_succeeded_total", typeCounter, "Executions and iterations that exited 0.", nil, always(func(s shown) float64 { return float64(s.Tally.Succeeded) }), nil},
		{"job_runs_failed_total", typeCounter, "Executions and iterations that did not.", nil, always(func(s shown) float64 { return float64(s.Tally.Failed) }), nil},
		{"job_deadlines_met_total", typeCounter, "Deadlines met: of executions, or of a whole series.", nil, always(func(s shown) float64 { return float64(s.Tally.Met) }), nil},
		{"job_deadlines_missed_total", typeCounter, "Deadlines missed; an execution that failed has missed its.", nil, always(func(s shown) float64 { return float64(s.Tally.Missed) }), nil},
		{"job_resizes_total", typeCounter, "Changes of the allocation.", nil, always(func(s shown) float64 { return float64(s.resizes) }), nil},
		{"job_moves_total", typeCounter, "Times that the job began to run on another node than before.", nil, always(func(s shown) float64 { return float64(s.Tally.Moves) }), nil},
		{"job_incarnations", typeGauge, "Containers that the present execution has had.", nil, always(func(s shown) float64 { return float64(s.incarnations) }), nil},
		{"job_checkpoint_timestamp_seconds", typeGauge, "When the checkpoint was taken that the present execution would go on from.", nil, when(func(s shown) time.Time { return s.saved.Taken }), nil},
		{"job_checkpoint_bytes", typeGauge, "Its size on disk.", nil, func(s shown) (float64, bool) { return float64(s.saved.Bytes), s.saved.Bytes > 0 }, nil},
		{"job_checkpoint_duration_seconds", typeGauge, "How long it took, from its order to its complete images.", nil, func(s shown) (float64, bool) { return s.saved.Took.Seconds(), s.saved.Took > 0 }, nil},
		{"job_checkpoint_cpu_seconds", typeGauge, "CPU time that it embodies.", nil, saved(func(s shown) float64 { return s.saved.CPU.Seconds() }), nil},
	}
}

// writeJobs writes the metrics of jobs in Prometheus' text format.
func writeJobs(w *bufio.Writer, families []jobFamily, jobs []shown) {
	labels := make([]string, 0, len(jobs))
	for _, j := range jobs {
		labels = append(labels, jobLabelText(j))
	}
	var number []byte
	for _, f := range families {
		head := false
		for i, j := range jobs {
			v, ok := f.value(j)
			if !ok {
				continue
			}
			if !head {
				writeAll(w, "# HELP qosctl_", f.name, " ", f.help, "\n# TYPE qosctl_", f.name, " ", f.kind, "\n")
				head = true
			}
			writeAll(w, "qosctl_", f.name, "{", labels[i])
			if f.extra != nil {
				for n, value := range f.extra(j) {
					writeAll(w, ",", f.labels[n], `="`, labelValue(value), `"`)
				}
			}
			number = append(strconv.AppendFloat(append(number[:0], "} "...), v, 'g', -1, 64), '\n')
			_, _ = w.Write(number) // the writer keeps its error
		}
	}
}

func writeAll(w *bufio.Writer, texts ...string) {
	for _, s := range texts {
		_, _ = w.WriteString(s) // the writer keeps its error
	}
}

func jobLabelText(j shown) string {
	return jobLabels[0] + `="` + labelValue(j.ID) + `",` + jobLabels[1] + `="` + labelValue(j.Name) + `",` + jobLabels[2] + `="` + labelValue(string(j.Framework)) + `"`
}

var escapes = strings.NewReplacer(`\`, `\\`, "\n", `\n`, `"`, `\"`)

// labelValue is a label's value, escaped and bounded.
func labelValue(s string) string {
	if len(s) > longestLabel {
		cut := longestLabel
		for cut > 0 && !utf8.RuneStart(s[cut]) {
			cut--
		}
		s = s[:cut]
	}
	if strings.ContainsAny(s, "\\\n\"") {
		s = escapes.Replace(s)
	}
	return strings.ToValidUTF8(s, "�")
}
