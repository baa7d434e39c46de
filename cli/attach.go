package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"slices"

	"github.com/spf13/cobra"

	"qosctl/agent/api"
	"qosctl/qos"
)

type attachOpts struct {
	app       string
	framework string
	deadline  string
	qos       qos.QoS
	form      form
}

func newAttachCmd(a *app) *cobra.Command {
	var o attachOpts
	cmd := &cobra.Command{
		Use:   "attach APP --duration S --deadline D",
		Short: "Give QoS to an app or job that runs already",
		Long: `Give QoS to an app of Marathon, or a job of Chronos, that runs already. It isn't restarted and its definition isn't
changed: its container stays with Mesos and is only resized.`,
		Example: `  qosctl attach /web --duration 400 --deadline 8m
  qosctl attach nightly --framework chronos --duration 130 --deadline 30m --deviation 0.2`,
		Args: args(cobra.ExactArgs(1)),
		RunE: run(func(cmd *cobra.Command, args []string) error {
			o.app = args[0]
			return a.runAttach(cmd.Context(), o)
		}),
	}
	f := cmd.Flags()
	f.StringVar(&o.framework, "framework", "marathon", "marathon or chronos")
	f.Float64Var(&o.qos.Duration, "duration", 0, "CPU seconds that one execution or iteration needs")
	f.StringVar(&o.deadline, "deadline", "", "seconds, a time span such as 30m, or a time such as 2026-12-24T18:00:00Z")
	f.Float64Var(&o.qos.Deviation, "deviation", 0.1, "tolerated deviation, from 0 to below 1")
	f.Float64Var(&o.qos.MinCPUs, "min-cpus", 0, "least CPUs; 0: the agent's default")
	f.Float64Var(&o.qos.MaxCPUs, "max-cpus", 0, "most CPUs; 0: the agent's default")
	f.Float64Var(&o.qos.Weight, "weight", 0, "of the deadline when not all can be met; 0: 1")
	f.StringVar(&o.qos.Policy, "policy", "", policyList()+", instead of the agent's")
	must(cmd.RegisterFlagCompletionFunc("framework", cobra.FixedCompletions([]string{"marathon", "chronos"}, cobra.ShellCompDirectiveNoFileComp)))
	addForm(cmd, &o.form)
	return cmd
}

func (a *app) runAttach(ctx context.Context, o attachOpts) error {
	if err := o.check(); err != nil {
		return &usageError{err, "`qosctl attach --help` has examples"}
	}
	o.qos.Elasticity = qos.ElasticityInPlace
	c, err := a.client(ctx)
	if err != nil {
		return err
	}
	defer c.Close()
	j, err := c.Attach(ctx, api.Attach{ID: newUUID(), Framework: qos.Framework(o.framework), Name: o.app, QoS: o.qos})
	if err != nil {
		return err
	}
	return o.form.print(a.out, j, func(w io.Writer) error {
		_, err := fmt.Fprintf(w, "%s of %s has QoS now, as %s: %s\n", j.Name, j.Framework, j.ID, qosText(j.QoS))
		return err
	})
}

// check completes the options, or says what is wrong with them.
func (o *attachOpts) check() error {
	q := &o.qos
	if o.framework != "marathon" && o.framework != "chronos" {
		return fmt.Errorf("--framework must be marathon or chronos (got %q)", o.framework)
	}
	if o.deadline == "" {
		return errors.New("--deadline is missing")
	}
	d, err := qos.ParseDeadline(o.deadline)
	if err != nil {
		return fmt.Errorf("--deadline %q: %w", o.deadline, err)
	}
	q.Deadline = d
	for name, v := range map[string]float64{"--duration": q.Duration, "--min-cpus": q.MinCPUs, "--max-cpus": q.MaxCPUs, "--weight": q.Weight} {
		if !(v >= 0) || math.IsInf(v, 0) {
			return fmt.Errorf("%s must be a number that is not negative (got %g)", name, v)
		}
	}
	switch {
	case q.Duration == 0:
		return errors.New("--duration must be given and be more than 0")
	case !(q.Deviation >= 0 && q.Deviation < 1):
		return fmt.Errorf("--deviation must be from 0 to below 1 (got %g)", q.Deviation)
	case q.MaxCPUs > 0 && q.MinCPUs > q.MaxCPUs:
		return fmt.Errorf("--min-cpus %g must not be more than --max-cpus %g", q.MinCPUs, q.MaxCPUs)
	case q.Policy != "" && !slices.Contains(qos.PolicyNames(), q.Policy):
		return fmt.Errorf("--policy must be %s (got %q)", policyList(), q.Policy)
	}
	return nil
}

func newDetachCmd(a *app) *cobra.Command {
	return &cobra.Command{
		Use:               "detach APP",
		Short:             "Take the QoS of an attached app or job away",
		Long:              "Take the QoS of an attached app or job away. It runs on, with the CPUs that it requested.",
		Example:           "  qosctl detach /web",
		Args:              args(cobra.ExactArgs(1)),
		ValidArgsFunction: a.completeJobs(1, false),
		RunE: run(func(cmd *cobra.Command, args []string) error {
			return a.runDetach(cmd.Context(), args[0])
		}),
	}
}

func (a *app) runDetach(ctx context.Context, ref string) error {
	c, err := a.client(ctx)
	if err != nil {
		return err
	}
	defer c.Close()
	j, err := findJob(ctx, c, ref)
	if err != nil {
		return err
	}
	if err := c.Detach(ctx, j.ID); err != nil {
		if api.IsStatus(err, http.StatusConflict) && hintOf(err) == "" {
			return withHint(err, "`qosctl cancel` ends a job that was submitted")
		}
		return err
	}
	fmt.Fprintf(a.out, "%s has no QoS any more\n", j.Name)
	return nil
}
