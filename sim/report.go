package sim

import (
	"encoding/csv"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
)

// Share is a share of 1 with its 95 % confidence interval over the seeds. Jobs of one seed hang together, so seeds are what counts.
type Share struct {
	Mean float64 `json:"mean"`
	Low  float64 `json:"low"`
	High float64 `json:"high"`
}

// Summary is what became of a scenario under one policy.
type Summary struct {
	Scenario   string   `json:"scenario"`
	Policy     string   `json:"policy"`
	Seeds      int      `json:"seeds"`
	Jobs       int      `json:"jobs"`
	Feasible   Share    `json:"feasible"`       // of all jobs: could meet their deadlines alone on a node
	Met        Share    `json:"met"`            // of all jobs
	OfFeasible Share    `json:"met_feasible"`   // of the feasible jobs
	Whole      Share    `json:"seeds_all_met"`  // of the seeds: all feasible jobs met their deadlines
	Allocated  float64  `json:"allocated"`      // CPU seconds for each job
	PerWork    float64  `json:"allocated_work"` // CPU seconds allocated for each one used
	Resizes    float64  `json:"resizes"`        // for each job
	Steady     float64  `json:"steady_resizes"` // for each job-hour without arrival, end or late job on the node
	Moves      float64  `json:"moves"`          // for each job
	Worst      float64  `json:"worst_late"`     // seconds; 0: nobody was late
	Missed     int      `json:"missed"`         // jobs
	Ahead      float64  `json:"missed_ahead"`   // share of them that was said to miss with a quarter of the time allowed to go, and so at the end
	Alarms     float64  `json:"alarms"`         // times that this was said and taken back, for each job
	Refused    []string `json:"refused"`        // jobs that admission called infeasible when they were submitted, in most seeds
}

// Summarize sums runs up, policy by policy, in their order.
func Summarize(s *Scenario, runs []Run) []Summary {
	var out []Summary
	for len(runs) > 0 {
		n := slices.IndexFunc(runs, func(r Run) bool { return r.Policy != runs[0].Policy })
		if n < 0 {
			n = len(runs)
		}
		out = append(out, summary(s, runs[:n]))
		runs = runs[n:]
	}
	return out
}

func summary(s *Scenario, runs []Run) Summary {
	sum := Summary{Scenario: s.Name, Policy: runs[0].Policy, Seeds: len(runs)}
	var feasible, met, ofFeasible, whole ratio
	var used, steadyHours, steady float64
	ahead := 0
	refused := map[string]int{}
	for _, r := range runs {
		var f, m, mf float64
		for _, o := range r.Jobs {
			sum.Jobs++
			f += count(o.Feasible)
			m += count(o.Met)
			mf += count(o.Feasible && o.Met)
			sum.Allocated += o.Allocated
			used += o.Used
			sum.Resizes += float64(o.Resizes)
			sum.Moves += float64(o.Moves)
			sum.Alarms += float64(o.Alarms)
			refused[o.Job] += int(count(o.Refused))
			steady += float64(o.SteadyResizes)
			steadyHours += o.SteadyHours
			sum.Worst = max(sum.Worst, o.Late)
			if !o.Met {
				sum.Missed++
				ahead += int(count(o.Flagged >= 0.25))
			}
		}
		n := float64(len(r.Jobs))
		feasible.add(f, n)
		met.add(m, n)
		ofFeasible.add(mf, f)
		whole.add(count(mf == f), 1)
	}
	sum.Feasible, sum.Met, sum.OfFeasible, sum.Whole = feasible.share(), met.share(), ofFeasible.share(), whole.share()
	jobs := float64(sum.Jobs)
	sum.PerWork = per(sum.Allocated, used)
	sum.Steady = per(steady, steadyHours)
	sum.Ahead = per(float64(ahead), float64(sum.Missed))
	for _, o := range runs[0].Jobs {
		if 2*refused[o.Job] > len(runs) {
			sum.Refused = append(sum.Refused, o.Job)
		}
	}
	for _, v := range []*float64{&sum.Allocated, &sum.Resizes, &sum.Moves, &sum.Alarms} {
		*v /= jobs
	}
	return sum
}

func count(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

func per(a, b float64) float64 {
	if b == 0 {
		return 0
	}
	return a / b
}

// ratio is a share whose parts come seed by seed.
type ratio struct{ hits, of []float64 }

func (r *ratio) add(hits, of float64) {
	r.hits, r.of = append(r.hits, hits), append(r.of, of)
}

// share estimates the share and its interval: normal, with the variance of a ratio of sums over the seeds, and not narrower than
// Wilson's for as many independent seeds where nearly all are alike.
func (r *ratio) share() Share {
	const z = 1.96
	var hits, of float64
	for i := range r.hits {
		hits += r.hits[i]
		of += r.of[i]
	}
	n := float64(len(r.hits))
	if of == 0 {
		return Share{0, 0, 1}
	}
	p := hits / of
	sum := 0.0
	for i := range r.hits {
		e := r.hits[i] - p*r.of[i]
		sum += e * e
	}
	half := z * math.Sqrt(sum/max(n*(n-1), 1)) / (of / n)
	centre, wilson := p, half
	if n*p < 5 || n*(1-p) < 5 {
		centre = (p + z*z/(2*n)) / (1 + z*z/n)
		wilson = z / (1 + z*z/n) * math.Sqrt(p*(1-p)/n+z*z/(4*n*n))
	}
	if wilson < half {
		centre, wilson = p, half
	}
	return Share{p, max(centre-wilson, 0), min(centre+wilson, 1)}
}

// String is the share in percent with its interval.
func (s Share) String() string {
	return fmt.Sprintf("%.1f [%.1f, %.1f]", 100*s.Mean, 100*s.Low, 100*s.High)
}

// WriteTable prints summaries side by side.
func WriteTable(w io.Writer, list []Summary) error {
	t := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	fmt.Fprintln(t, "POLICY\tMET %\tOF FEASIBLE %\tFEASIBLE %\tALL MET %\tCPU-S/JOB\tPER WORK\tRESIZES\tSTEADY/H\tMOVES\tWORST LATE\tMISSES AHEAD %\tALARMS")
	for _, s := range list {
		ahead := "-"
		if s.Missed > 0 {
			ahead = fmt.Sprintf("%.0f", 100*s.Ahead)
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%.1f\t%.1f\t%.0f\t%.3f\t%.1f\t%.1f\t%.2f\t%.0f s\t%s\t%.2f\n",
			s.Policy, s.Met, s.OfFeasible, 100*s.Feasible.Mean, 100*s.Whole.Mean, s.Allocated, s.PerWork,
			s.Resizes, s.Steady, s.Moves, s.Worst, ahead, s.Alarms)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	for _, s := range list {
		if len(s.Refused) > 0 {
			fmt.Fprintf(w, "%s: admission calls infeasible at submit: %s\n", s.Policy, strings.Join(s.Refused, ", "))
		}
	}
	return nil
}

// WriteCSV prints summaries as comma-separated values, with a head.
func WriteCSV(w io.Writer, list []Summary) error {
	c := csv.NewWriter(w)
	rows := [][]string{{
		"scenario", "policy", "seeds", "jobs", "met", "met_low", "met_high", "met_feasible", "met_feasible_low", "met_feasible_high", "feasible",
		"seeds_all_met", "allocated", "allocated_work", "resizes", "steady_resizes", "moves", "worst_late", "missed", "missed_ahead", "alarms", "refused",
	}}
	for _, s := range list {
		row := []string{s.Scenario, s.Policy, strconv.Itoa(s.Seeds), strconv.Itoa(s.Jobs)}
		for _, v := range []float64{
			s.Met.Mean, s.Met.Low, s.Met.High, s.OfFeasible.Mean, s.OfFeasible.Low, s.OfFeasible.High, s.Feasible.Mean, s.Whole.Mean,
			s.Allocated, s.PerWork, s.Resizes, s.Steady, s.Moves, s.Worst, float64(s.Missed), s.Ahead, s.Alarms,
		} {
			row = append(row, strconv.FormatFloat(v, 'g', 6, 64))
		}
		rows = append(rows, append(row, strings.Join(s.Refused, " ")))
	}
	if err := c.WriteAll(rows); err != nil {
		return fmt.Errorf("write CSV: %w", err)
	}
	return nil
}
