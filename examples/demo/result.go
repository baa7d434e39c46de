package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"path/filepath"
	"text/tabwriter"
	"time"

	"qosctl/agent/api"
	"qosctl/qos"
)

// What the kernel counts in a job's cgroup and what its program counts of itself differ by what runs before and after the program's
// main: making the mounts, exec, exit.
const (
	accountShare  = 0.01
	accountPerRun = 0.02 // seconds
)

// result is how the demo ended.
type result struct {
	Policy  string      `json:"policy"`
	CPUs    float64     `json:"cpus"`
	Seconds float64     `json:"seconds"`
	Load    float64     `json:"load"`
	Kills   int         `json:"kills"`
	Unkept  int         `json:"kills_not_done"` // the jobs had ended before their moment
	Jobs    []jobResult `json:"jobs"`

	planned  []job     // of the same order
	requests []float64 // likewise
}

// jobResult is a row of the last table. Times are seconds since submission.
type jobResult struct {
	Name     string      `json:"name"`
	ID       string      `json:"id"`
	Phase    qos.Phase   `json:"phase"`
	Outcome  qos.Outcome `json:"outcome"`
	Deadline float64     `json:"deadline"`
	Finished float64     `json:"finished,omitempty"` // 0: not at all
	Met      bool        `json:"met"`
	Runs     int         `json:"runs"`
	CPU      float64     `json:"cpu_seconds"`     // by the account
	Own      float64     `json:"own_cpu_seconds"` // by the program's own word
	Mean     float64     `json:"mean_cpus"`
	Greatest float64     `json:"greatest_cpus"`
	Resizes  int         `json:"resizes"`
	Why      string      `json:"why,omitempty"` // it was missed
	Wrong    string      `json:"wrong,omitempty"`
}

// result asks for all jobs as they are now, and holds them against the plan, the clock and linpack's own reports.
func (s *show) result(ctx context.Context, o options, c *chaos) (result, error) {
	r := result{Policy: o.policy, CPUs: s.plan.cpus, Seconds: s.plan.seconds, Load: s.plan.load, Kills: c.killed, Unkept: c.left(), planned: s.plan.jobs}
	for i, id := range s.ids {
		j, err := s.client.Job(ctx, id)
		if err != nil {
			return r, fmt.Errorf("look at job %s: %w", id, err)
		}
		own, err := readUsage(filepath.Join(s.shared, s.plan.jobs[i].file+".jsonl"))
		if err != nil {
			return r, err
		}
		row := judge(s.plan.jobs[i], j, own, s.submitted)
		if !row.Met {
			row.Why = s.why(ctx, id)
		}
		r.Jobs = append(r.Jobs, row)
		r.requests = append(r.requests, s.plan.jobs[i].request)
	}
	return r, nil
}

// judge decides by the clock whether a job was met, whatever the agent says; where the agent says otherwise, something is wrong.
func judge(planned job, j api.Job, own []usage, submitted time.Time) jobResult {
	r := jobResult{
		Name: j.Name, ID: j.ID, Phase: j.Phase, Outcome: j.Outcome,
		CPU: j.Tally.CPU, Resizes: j.Tally.Resizes,
	}
	start := j.Submitted // what a Chronos deadline counts from
	var given, wall float64
	var last time.Time
	for i, run := range j.Runs {
		if i == 0 && planned.iterations == 0 {
			start = run.Started
		}
		if run.ExitCode == 0 && run.Outcome != qos.Failed {
			r.Runs++
			last = run.Ended
		}
		d := run.Ended.Sub(run.Started).Seconds()
		wall, given = wall+d, given+d*run.MeanCPUs
		r.Greatest = math.Max(r.Greatest, run.MaxCPUs)
	}
	if wall > 0 {
		r.Mean = given / wall
	}
	deadline := start.Add(time.Duration(planned.seconds * float64(time.Second)))
	r.Deadline = deadline.Sub(submitted).Seconds()
	if r.Runs >= planned.runs() {
		r.Finished = last.Sub(submitted).Seconds()
		r.Met = !last.After(deadline)
	}
	for _, u := range own {
		r.Own += u.CPU
	}
	r.Wrong = wrong(planned, r, j, own, submitted)
	return r
}

// wrong says what contradicts what; "": nothing.
func wrong(planned job, r jobResult, j api.Job, own []usage, submitted time.Time) string {
	const atOnce = 5 * time.Second // from our asking for it to the agent's having it
	switch late := j.Submitted.Sub(submitted); {
	case late < -time.Second || late > atOnce:
		return fmt.Sprintf("the agent dates its submission %s after ours", late.Round(time.Millisecond))
	case r.Runs > planned.runs():
		return fmt.Sprintf("%d runs ended well, %d were wanted", r.Runs, planned.runs())
	case ended(j) && r.Met != (j.Outcome == qos.Met):
		return fmt.Sprintf("the agent calls it %q", j.Outcome)
	case ended(j) && len(own) != r.Runs:
		return fmt.Sprintf("linpack ended %d times, %d runs are accounted", len(own), r.Runs)
	case ended(j) && math.Abs(r.CPU-r.Own) > accountShare*r.Own+accountPerRun*float64(len(own)):
		return fmt.Sprintf("account %.3f CPU-s, linpack's own count %.3f", r.CPU, r.Own)
	}
	return ""
}

// why is the agent's own explanation: the last decision's reason.
func (s *show) why(ctx context.Context, id string) string {
	e, err := s.client.Explain(ctx, id)
	if err != nil {
		return err.Error()
	}
	if n := len(e.Decisions); n > 0 {
		return e.Decisions[n-1].Reason
	}
	return e.Job.Reason
}

// exitCode is 1 if something contradicts something, 3 if a deadline was missed, else 0.
func (r result) exitCode() int {
	code := exitMet
	for _, j := range r.Jobs {
		if j.Wrong != "" {
			return exitError
		}
		if !j.Met {
			code = exitMissed
		}
	}
	return code
}

func (r result) writeJSON(out io.Writer) error {
	e := json.NewEncoder(out)
	e.SetIndent("", "  ")
	if err := e.Encode(r); err != nil {
		return fmt.Errorf("print the outcome: %w", err)
	}
	return nil
}

func (r result) writeTable(out io.Writer) error {
	fmt.Fprintln(out)
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "job\tdeadline\tfinished at\tmet?\tCPU-s\town count\tmean CPUs\tgreatest\tresizes\t")
	met, resizes := 0, 0
	var cpu, own float64
	for _, j := range r.Jobs {
		finished, verdict := "never", "MISSED"
		if j.Finished > 0 {
			finished = fmt.Sprintf("%.1f s", j.Finished)
		}
		if j.Met {
			met, verdict = met+1, "yes"
		}
		cpu, own, resizes = cpu+j.CPU, own+j.Own, resizes+j.Resizes
		fmt.Fprintf(w, "%s\t%.1f s\t%s\t%s\t%.2f\t%.2f\t%.2f\t%.2f\t%d\t\n",
			j.Name, j.Deadline, finished, verdict, j.CPU, j.Own, j.Mean, j.Greatest, j.Resizes)
	}
	fmt.Fprintf(w, "%d of %d\t\t\t\t%.2f\t%.2f\t\t\t%d\t\n", met, len(r.Jobs), cpu, own, resizes)
	if err := w.Flush(); err != nil {
		return fmt.Errorf("print the outcome: %w", err)
	}
	for _, j := range r.Jobs {
		if j.Why != "" {
			fmt.Fprintf(out, "%s: %s\n", j.Name, j.Why)
		}
		if j.Wrong != "" {
			fmt.Fprintf(out, "%s: WRONG: %s\n", j.Name, j.Wrong)
		}
	}
	if r.Kills+r.Unkept > 0 {
		fmt.Fprintf(out, "the agent was killed %d times (%d more were due when all jobs had ended)\n", r.Kills, r.Unkept)
	}
	fmt.Fprintf(out, "policy %s: %d of %d deadlines met\n", r.Policy, met, len(r.Jobs))
	return nil
}
