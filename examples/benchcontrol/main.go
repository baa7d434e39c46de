// Command benchcontrol prints the table that a change of a policy has to bring: the scenarios that are shipped, on odd seeds that
// nothing was tuned on, under the thesis' law, ours, and an oracle that knows the true durations, beside what is to be reached.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"text/tabwriter"
	"time"

	"qosctl/qos"
	"qosctl/sim"
)

// firstSeed is the first of the seeds that are reported; policies are tuned on even ones.
const firstSeed = 1001

// measure is one figure of a scenario's row.
type measure struct {
	name string
	of   func(sim.Summary) float64
	goal float64
	most bool // the goal is not to be exceeded; else it is to be reached
}

var (
	ofFeasible = func(goal float64) measure {
		return measure{"% of the feasible met", func(s sim.Summary) float64 { return 100 * s.OfFeasible.Mean }, goal, false}
	}
	met = func(goal float64) measure {
		return measure{"% met", func(s sim.Summary) float64 { return 100 * s.Met.Mean }, goal, false}
	}
	whole = func(goal float64) measure {
		return measure{"% of seeds with all met", func(s sim.Summary) float64 { return 100 * s.Whole.Mean }, goal, false}
	}
	perWork = func(goal float64) measure {
		return measure{"CPU-s allocated per CPU-s of work", func(s sim.Summary) float64 { return s.PerWork }, goal, true}
	}
	resizes = func(goal float64) measure {
		return measure{"resizes per job", func(s sim.Summary) float64 { return s.Resizes }, goal, true}
	}
	steady = measure{"resizes per job-hour in steady state", func(s sim.Summary) float64 { return s.Steady }, 6, true}
	ahead  = measure{"% of the missed flagged 25 % ahead", func(s sim.Summary) float64 { return 100 * s.Ahead }, 100, false}
	named  = measure{"jobs called infeasible at submit", func(s sim.Summary) float64 { return float64(len(s.Refused)) }, 2, false}
)

var rows = []struct {
	scenario string
	measures []measure
}{
	{"case-i", []measure{ofFeasible(95)}},
	{"case-i-known", []measure{ofFeasible(95), named}},
	{"case-i-warm", []measure{whole(99.5), perWork(1.20), steady}},
	{"case-i-warm-shares", []measure{whole(99.5), steady}},
	{"case-ii", []measure{ofFeasible(96)}},
	{"case-ii-warm", []measure{ofFeasible(99), perWork(1.20), steady}},
	{"case-iii-family", []measure{met(97), perWork(1.20), steady}},
	{"case-iii-family-known", []measure{met(99.5), perWork(1.08), resizes(1)}},
	{"case-iii-family-crash", []measure{met(99.5), perWork(1.20)}},
	{"random-12", []measure{met(99), perWork(1.20), steady}},
	{"random-20", []measure{met(90), ahead, steady}},
}

func main() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) }

func run(args []string, out, errs io.Writer) int {
	set := flag.NewFlagSet("benchcontrol", flag.ContinueOnError)
	set.SetOutput(errs)
	seeds := set.Int("seeds", 300, "odd seeds of each scenario")
	only := set.String("only", "", "scenarios, with commas; default: all of the table")
	if err := set.Parse(args); err != nil {
		return 2
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	missed, err := bench(ctx, out, *seeds, *only)
	if err != nil && !errors.Is(err, context.Canceled) {
		fmt.Fprintf(errs, "benchcontrol: %v\n", err)
	}
	if err != nil {
		return 1
	}
	fmt.Fprintf(out, "\n%d figures are not reached\n", missed)
	return 0
}

// bench prints the table and returns how many of its figures ours does not reach.
func bench(ctx context.Context, out io.Writer, seeds int, only string) (missed int, err error) {
	fmt.Fprintf(out, "odd seeds from %d, %d of each scenario; hard quotas unless said\n\n", firstSeed, seeds)
	t := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	fmt.Fprintln(t, "SCENARIO\tFIGURE\tSTEP\tSTEP-CODE\tDEADLINE\tORACLE\tFEASIBLE %\tGOAL\t\tTIME")
	for _, r := range rows {
		if only != "" && !strings.Contains(","+only+",", ","+r.scenario+",") {
			continue
		}
		s, err := sim.Ship(r.scenario)
		if err != nil {
			return missed, err
		}
		begin := time.Now()
		policies := []string{qos.PolicyStep, qos.PolicyStepCode, qos.PolicyDeadline, sim.Oracle}
		runs, err := sim.Simulate(ctx, s, sim.Options{Policies: policies, Seeds: seeds, Seed: firstSeed, Stride: 2})
		if err != nil {
			return missed, err
		}
		list := sim.Summarize(s, runs)
		for i, m := range r.measures {
			ours := m.of(list[2])
			verdict, sign := "reached", "≥"
			if m.most {
				sign = "≤"
			}
			if m.most && ours > m.goal+0.0005 || !m.most && ours < m.goal-0.0005 {
				verdict = "NOT REACHED"
				missed++
			}
			name, feasible, took := "", "", ""
			if i == 0 {
				name = r.scenario
				feasible = fmt.Sprintf("%.1f", 100*list[2].Feasible.Mean)
				took = time.Since(begin).Round(100 * time.Millisecond).String()
			}
			fmt.Fprintf(t, "%s\t%s\t%.4g\t%.4g\t%.4g\t%.4g\t%s\t%s %g\t%s\t%s\n", name, m.name,
				m.of(list[0]), m.of(list[1]), ours, m.of(list[3]), feasible, sign, m.goal, verdict, took)
		}
	}
	return missed, t.Flush()
}
