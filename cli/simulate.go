package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"qosctl/qos"
	"qosctl/sim"
)

type simulateOpts struct {
	scenario string
	policies []string
	seeds    int
	seed     uint64
	form     simForm
	plot     string
}

// simForm is the flag -o of simulate.
type simForm string

func (f *simForm) String() string { return string(*f) }

// Type is what the help shows as the flag's value.
func (f *simForm) Type() string { return "form" }

// Set takes the flag's value.
func (f *simForm) Set(s string) error {
	switch s {
	case formTable, formJSON, formCSV:
		*f = simForm(s)
		return nil
	}
	return errors.New("must be table, json or csv")
}

const formCSV = "csv"

func newSimulateCmd(a *app) *cobra.Command {
	o := simulateOpts{form: formTable}
	cmd := &cobra.Command{
		Use:   "simulate SCENARIO",
		Short: "Try policies on a simulated cluster",
		Long: `Try policies on a simulated cluster; no agent is needed. SCENARIO is a YAML file (docs/control.md lists its keys) or one of
those that are shipped:

    ` + wrapNames(sim.Shipped()) + `

Each seed draws what the scenario leaves open; every policy sees the same jobs. The policies are the agent's own code. The policy
oracle is deadline, told the true durations; FEASIBLE is the share of jobs that meet their deadline alone on a node with
max_cpus. Shares come with their 95 % confidence interval over the seeds.`,
		Example: `  qosctl simulate case-i --policy step,deadline,oracle --seeds 300
  qosctl simulate case-iii --plot figures
  qosctl simulate mine.yaml --seeds 100 --seed 1 -o csv`,
		Args: args(cobra.ExactArgs(1)),
		ValidArgsFunction: func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
			return sim.Shipped(), cobra.ShellCompDirectiveDefault
		},
		RunE: run(func(cmd *cobra.Command, args []string) error {
			o.scenario = args[0]
			return a.runSimulate(cmd.Context(), o)
		}),
	}
	f := cmd.Flags()
	f.StringSliceVar(&o.policies, "policy", []string{qos.PolicyDeadline}, strings.Join(sim.Policies(), ", ")+"; several with commas")
	f.IntVar(&o.seeds, "seeds", 100, "simulate so many seeds")
	f.Uint64Var(&o.seed, "seed", 0, "the first of them")
	f.VarP(&o.form, "output", "o", "table, json or csv")
	f.StringVar(&o.plot, "plot", "", "draw the first seed under the first policy into this directory, as SVG (the thesis' figures 21 to 31)")
	return cmd
}

// wrapNames lays a list of names out in lines.
func wrapNames(names []string) string {
	var b strings.Builder
	column := 0
	for i, n := range names {
		switch {
		case i == 0:
		case column+len(n) > 100:
			b.WriteString(",\n    ")
			column = 0
		default:
			b.WriteString(", ")
		}
		b.WriteString(n)
		column += len(n) + 2
	}
	return b.String()
}

func (a *app) runSimulate(ctx context.Context, o simulateOpts) error {
	if o.seeds < 1 {
		return &usageError{fmt.Errorf("--seeds must be positive (got %d)", o.seeds), ""}
	}
	s, err := loadScenario(o.scenario)
	if err != nil {
		return err
	}
	m, end := a.meter(ctx, o.seeds*len(o.policies), "runs")
	runs, err := sim.Simulate(ctx, s, sim.Options{Policies: o.policies, Seeds: o.seeds, Seed: o.seed, Done: m.add})
	end()
	if errors.Is(err, context.Canceled) {
		return err
	}
	if err != nil {
		return &usageError{err, "`qosctl simulate --help` lists the policies and the bounds"}
	}
	list := sim.Summarize(s, runs)
	switch o.form {
	case formJSON:
		err = printJSON(a.out, list)
	case formCSV:
		err = sim.WriteCSV(a.out, list)
	default:
		fmt.Fprintf(a.out, "%s: %s\n%d seeds from %d\n\n", s.Name, s.About, o.seeds, o.seed)
		err = sim.WriteTable(a.out, list)
	}
	if err != nil || o.plot == "" {
		return err
	}
	t, err := sim.Record(ctx, s, o.policies[0], qos.Params{}, o.seed)
	if err != nil {
		return err
	}
	return writeFigures(a.err, o.plot, t.Figures())
}

// loadScenario reads a scenario from a file, or takes the shipped one of that name.
func loadScenario(name string) (*sim.Scenario, error) {
	f, err := os.Open(name)
	switch {
	case errors.Is(err, os.ErrNotExist) && !strings.ContainsAny(name, "/."):
		s, err := sim.Ship(name)
		if err != nil {
			return nil, &usageError{err, "write a scenario file, as docs/control.md describes it"}
		}
		return s, nil
	case err != nil:
		return nil, fmt.Errorf("open scenario: %w", err)
	}
	defer f.Close()
	s, err := sim.Read(f)
	if err != nil {
		return nil, &exitStatus{code: exitInvalid, err: fmt.Errorf("%s: %w", name, err)}
	}
	return s, nil
}

// writeFigures writes drawings into a directory, which is made if need be, and says where they are.
func writeFigures(said io.Writer, dir string, figures []sim.Figure) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("make the directory of the figures: %w", err)
	}
	for _, f := range figures {
		if err := os.WriteFile(filepath.Join(dir, f.Name+".svg"), f.SVG, 0o644); err != nil {
			return fmt.Errorf("write a figure: %w", err)
		}
	}
	fmt.Fprintf(said, "%d figures in %s\n", len(figures), dir)
	return nil
}
