package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"qosctl/agent/api"
	"qosctl/qos"
)

type migrateOpts struct {
	job     string
	request api.Migrate
	wait    bool
	timeout time.Duration
	form    form
}

func newMigrateCmd(a *app) *cobra.Command {
	var o migrateOpts
	cmd := &cobra.Command{
		Use:   "migrate JOB",
		Short: "Move a job to another node",
		Long: `Move a job to another node: its framework is told which host may have it, its process state is saved here and restored there, and its
account goes with it. Without --to, the node with the most free CPUs that can restore it gets it. A series of a Chronos job that can't
be saved moves between two iterations. A move that brings no task in time is taken back.

With --wait the command ends when the job runs there, with exit code 1 if it does not get there.`,
		Example: `  qosctl migrate linpack1
  qosctl migrate linpack1 --to node2 --wait`,
		Args:              args(cobra.ExactArgs(1)),
		ValidArgsFunction: a.completeJobs(1, false),
		RunE: run(func(cmd *cobra.Command, args []string) error {
			o.job = args[0]
			return a.runMigrate(cmd.Context(), o)
		}),
	}
	cmd.Flags().StringVar(&o.request.To, "to", "", "node that is to have it")
	cmd.Flags().StringVar(&o.request.Reason, "reason", "", "is noted in what qosctl explain shows")
	addWait(cmd, &o.wait, &o.timeout)
	a.completeNodeFlag(cmd, "to")
	addForm(cmd, &o.form)
	return cmd
}

// addWait gives a command the flags of one that can wait.
func addWait(cmd *cobra.Command, wait *bool, timeout *time.Duration) {
	cmd.Flags().BoolVar(wait, "wait", false, "wait until it is done")
	cmd.Flags().DurationVar(timeout, "timeout", 0, "with --wait: give up after this time, with exit code 1; 0: never")
}

// waiting bounds a wait by --timeout.
func waiting(ctx context.Context, wait bool, timeout time.Duration) (context.Context, context.CancelFunc, error) {
	switch {
	case timeout < 0:
		return ctx, nil, &usageError{fmt.Errorf("--timeout must not be negative (got %s)", timeout), ""}
	case timeout > 0 && !wait:
		return ctx, nil, &usageError{errors.New("--timeout is of --wait only"), ""}
	case timeout > 0:
		ctx, cancel := context.WithTimeoutCause(ctx, timeout, errWaited)
		return ctx, cancel, nil
	}
	return ctx, func() {}, nil
}

// waitedOut is what a wait's error is when its time is over.
func waitedOut(ctx context.Context, err error, timeout time.Duration, what string) error {
	if err != nil && errors.Is(context.Cause(ctx), errWaited) {
		return fmt.Errorf("%w of %s, and %s", errWaited, timeout, what)
	}
	return err
}

func (a *app) runMigrate(ctx context.Context, o migrateOpts) error {
	ctx, cancel, err := waiting(ctx, o.wait, o.timeout)
	if err != nil {
		return err
	}
	defer cancel()
	c, err := a.client(ctx)
	if err != nil {
		return err
	}
	defer c.Close()
	j, err := findJob(ctx, c, o.job)
	if err != nil {
		return err
	}
	m, err := c.Migrate(ctx, j.ID, o.request)
	if err != nil {
		return err
	}
	if o.wait && o.form == formTable {
		fmt.Fprintf(a.out, "%s goes from %s to %s: %s\n", j.Name, orDash(j.Owner), m.To, m.How)
	}
	if o.wait {
		p := a.progress(o.form)
		m.Job, err = arrival(ctx, c, m.Job, m.To, p)
		p.end()
		if err = waitedOut(ctx, err, o.timeout, j.Name+" is not there yet"); err != nil {
			return err
		}
	}
	return o.form.print(a.out, m, func(w io.Writer) error {
		text := fmt.Sprintf("%s goes from %s to %s: %s\n", j.Name, orDash(j.Owner), m.To, m.How)
		switch {
		case o.wait && m.Job.Phase.Terminal():
			text = outcomeText(m.Job) + "\n"
		case o.wait:
			text = fmt.Sprintf("%s runs on %s\n", j.Name, m.Job.Owner)
		}
		_, err := io.WriteString(w, text)
		return err
	})
}

// moveLook is how often a job that moves is looked at.
const moveLook = time.Second

// arrival waits until a job runs on a node, has ended, or has been given back.
func arrival(ctx context.Context, c *api.Client, j api.Job, to string, p *progress) (api.Job, error) {
	errThere := errors.New("it is there")
	started := false
	last, err := watch(ctx, c, j, moveLook, func(j api.Job) error {
		started = started || j.Moving != ""
		switch {
		case j.Owner == to && j.Phase == qos.PhaseRunning:
			return errThere
		case j.Owner != to && j.Moving == "" && started && j.Away == "":
			return notMoved(ctx, c, j, to)
		}
		return p.show(wayOf(j, to), fmt.Sprintf("%s is %s on %s", j.Name, phaseText(j), orDash(j.Owner)))
	})
	if errors.Is(err, errThere) {
		err = nil
	}
	return last, err
}

// wayOf is how far a job has come that moves, in quarters: it is to be saved; it is saved; its node has it; it runs there.
func wayOf(j api.Job, to string) float64 {
	switch {
	case j.Owner == to:
		return 0.75
	case j.Phase != qos.PhaseRunning:
		return 0.5
	case j.Moving != "":
		return 0.25
	}
	return 0
}

// notMoved says why a job did not get to a node, in the words of its last move event.
func notMoved(ctx context.Context, c *api.Client, j api.Job, to string) error {
	why := "its move has ended"
	if e, err := c.Explain(ctx, j.ID); err == nil { // the reason is nice to have
		for _, ev := range e.Events {
			if ev.Kind == "move" {
				why = ev.Text
			}
		}
	}
	return withHint(fmt.Errorf("%s did not get to %s: %s", j.Name, to, why), "`qosctl explain "+j.Name+"` tells what happened")
}
