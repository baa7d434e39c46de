package main

import (
	"bytes"
	"fmt"
	"io"
	"math"
	"strings"
	"text/tabwriter"
	"time"

	"qosctl/agent/api"
	"qosctl/qos"
)

// write prints what calibration found, and by calculation that each job is feasible.
func (p plan) write(out io.Writer, speeds []speed) error {
	for _, s := range speeds {
		fmt.Fprintf(out, "  n %4d  one factorisation: %.4f CPU-s, T(c) = %.4f + %.4f/c s\n", s.n, s.model.Work, s.model.A, s.model.B)
	}
	fmt.Fprintf(out, "\nby calculation, with %.0f s for the way to the first instruction:\n", startUp)
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "job\tframework\truns\tmatrix\tCPU-s a run\tdeclared\tCPU-s in all\tdeadline\trequest\tneeds\tfeasible\t")
	for _, j := range p.jobs {
		fmt.Fprintf(w, "%s\t%s\t%d\t%d × %d\t%.2f\t%.2f\t%.1f\t%.1f s\t%.2f\t%.2f CPUs\t%s\t\n", j.name(), j.framework(), j.runs(),
			j.repeat, j.n, j.work, j.duration, j.work*float64(j.runs()), j.seconds, j.request, j.need, yes(!math.IsInf(j.need, 1)))
	}
	if err := w.Flush(); err != nil {
		return fmt.Errorf("print the plan: %w", err)
	}
	fmt.Fprintf(out, "together they need %.2f of %.0f CPUs (load %.0f %%); requested: %.2f CPUs\n", p.needed, p.cpus, p.load*100, p.requests)
	if p.tenant > 0 {
		fmt.Fprintf(out, "another tenant was sold %.2f CPUs and burns all it can get: they are entitled to %.2f\n", p.tenant, p.entitled())
	}
	return nil
}

func yes(b bool) string {
	if b {
		return "yes"
	}
	return "NO"
}

// draw shows the jobs: a table in place on a terminal, a line elsewhere.
func (s *show) draw(now time.Time, jobs []api.Job, terminal bool) {
	if !terminal {
		fmt.Fprintln(s.out, line(now.Sub(s.submitted), jobs))
		return
	}
	text := table(now, s.submitted, jobs)
	s.wipe()
	fmt.Fprint(s.out, text)
	s.drawn = strings.Count(text, "\n")
}

// line is the state of all jobs in one line: iterations ended, CPUs given, and a mark.
func line(elapsed time.Duration, jobs []api.Job) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%5.1f s ", elapsed.Seconds())
	for _, j := range jobs {
		fmt.Fprintf(&b, "  %s %s", short(j.Name), done(j))
		switch {
		case ended(j):
			fmt.Fprintf(&b, " %s", outcome(j))
		case j.Phase == qos.PhaseRunning && j.Allocation == 0:
			b.WriteString(" next") // between two runs
		case j.Phase == qos.PhaseRunning:
			fmt.Fprintf(&b, " %.2f%s", j.Allocation, mark(j))
		default:
			fmt.Fprintf(&b, " %s", j.Phase)
		}
	}
	return b.String()
}

// table is the state of all jobs, a line each.
func table(now, submitted time.Time, jobs []api.Job) string {
	var b bytes.Buffer
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintf(w, "%.0f s\tphase\tdone\tCPUs\tused\tneeds\tCPU-s\tleft\tstate\t\n", now.Sub(submitted).Seconds())
	for _, j := range jobs {
		left, state := "", string(j.State)
		if !j.Deadline.IsZero() {
			left = fmt.Sprintf("%.0f s", j.Deadline.Sub(now).Seconds())
		}
		if ended(j) {
			left, state = "", outcome(j)
		}
		if j.Late {
			state += " late"
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%.2f\t%.2f\t%.2f\t%.1f\t%s\t%s\t\n", j.Name, j.Phase, done(j), j.Allocation, j.Usage, j.Need,
			j.Tally.CPU+running(j), left, state)
	}
	if err := w.Flush(); err != nil {
		return err.Error() + "\n" // a bytes.Buffer has no errors
	}
	return b.String()
}

// running is the CPU time of a run that has not ended: one that has is in the tally.
func running(j api.Job) float64 {
	if j.Phase == qos.PhaseRunning {
		return j.Consumed
	}
	return 0
}

// done is how many runs have ended well, of how many.
func done(j api.Job) string {
	return fmt.Sprintf("%d/%d", j.Tally.Succeeded, max(1, j.Iterations, j.QoS.Executions))
}

// mark of a state: behind, ahead, or as planned.
func mark(j api.Job) string {
	switch j.State {
	case qos.UnderPerformant:
		return "-"
	case qos.OverPerformant:
		return "+"
	}
	return ""
}

func outcome(j api.Job) string {
	if j.Outcome != "" {
		return string(j.Outcome)
	}
	return strings.ToLower(string(j.Phase))
}

// short is a name for a narrow line: c1 to c6, m1.
func short(name string) string {
	if n, ok := strings.CutPrefix(name, "openmpLinpack"); ok {
		return "c" + n
	}
	return "m" + strings.TrimPrefix(name, "/openmplinpack")
}
