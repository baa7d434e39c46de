package cli

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"qosctl/agent/api"
	"qosctl/qos"
)

type explainOpts struct {
	job  string
	last int
	form form
}

func newExplainCmd(a *app) *cobra.Command {
	var o explainOpts
	cmd := &cobra.Command{
		Use:   "explain JOB",
		Short: "Tell what was decided about a job, and why",
		Long: `Tell what was decided about a job, and why. Of a Chronos series that has ended, and of a Marathon app's last execution, it says why the
deadline was met or missed: what the time was spent on. The parts add up, but for "short", the time within them in which the job had less
than it needed to be in time.`,
		Example: `  qosctl explain linpack1
  qosctl explain linpack1 --last 3`,
		Args:              args(cobra.ExactArgs(1)),
		ValidArgsFunction: a.completeJobs(1, true),
		RunE: run(func(cmd *cobra.Command, args []string) error {
			o.job = args[0]
			return a.runExplain(cmd.Context(), o)
		}),
	}
	cmd.Flags().IntVarP(&o.last, "last", "n", 10, "show so many decisions; 0: all that are kept")
	addForm(cmd, &o.form)
	return cmd
}

func (a *app) runExplain(ctx context.Context, o explainOpts) error {
	if o.last < 0 {
		return &usageError{fmt.Errorf("--last must not be negative (got %d)", o.last), ""}
	}
	c, err := a.client(ctx)
	if err != nil {
		return err
	}
	defer c.Close()
	j, err := findJob(ctx, c, o.job)
	if err != nil {
		return err
	}
	e, err := c.Explain(ctx, j.ID)
	if err != nil {
		return err
	}
	if n := len(e.Decisions); o.last > 0 && n > o.last {
		e.Decisions = e.Decisions[n-o.last:]
	}
	return o.form.print(a.out, e, func(w io.Writer) error { return explainText(w, e, time.Now()) })
}

// judgementText says where the time of what has ended went.
func judgementText(w io.Writer, v *qos.Judgement) error {
	if v == nil {
		return nil
	}
	rows := []string{v.Text()}
	for _, c := range v.Causes {
		rows = append(rows, row("  "+span(time.Duration(c.Seconds*float64(time.Second))), c.Kind, c.Text))
	}
	return table(w, rows...)
}

func explainText(w io.Writer, e api.Explanation, now time.Time) error {
	head := fmt.Sprintf("%s is %s", e.Job.Name, phaseText(e.Job))
	if v := verdict(e.Job, time.Now()); v != "" {
		head += ", " + v
	}
	if _, err := fmt.Fprintln(w, head); err != nil {
		return err
	}
	if aside := asideRows(e.Job); len(aside) > 0 {
		if err := table(w, aside...); err != nil {
			return err
		}
	}
	if err := judgementText(w, e.Judgement); err != nil {
		return err
	}
	if len(e.Decisions) == 0 {
		if _, err := fmt.Fprintln(w, "nothing was decided yet"); err != nil {
			return err
		}
	}
	rows := []string{""}
	for _, d := range e.Decisions {
		change := cores(d.To)
		if d.To != d.From {
			change = cores(d.From) + " → " + cores(d.To)
		}
		state := string(d.State)
		if d.Late {
			state += " late"
		}
		if d.Infeasible {
			state += " infeasible"
		}
		rows = append(rows, row(moment(d.At, now), state, "need "+cores(d.Need), change, d.Rule, d.Reason))
	}
	if len(rows) > 1 {
		if err := table(w, rows...); err != nil {
			return err
		}
	}
	rows = []string{""}
	for _, ev := range e.Events {
		rows = append(rows, row(moment(ev.At, now), ev.Kind, ev.Text))
	}
	if len(rows) > 1 {
		if err := table(w, rows...); err != nil {
			return err
		}
	}
	if !e.NextLook.IsZero() && !e.Job.Phase.Terminal() {
		_, err := fmt.Fprintf(w, "\nnext look at %s\n", moment(e.NextLook, now))
		return err
	}
	return nil
}
