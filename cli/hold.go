package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"

	"github.com/spf13/cobra"

	"qosctl/agent/api"
)

// holdOpts says what is put on hold, or let go on.
type holdOpts struct {
	request api.Hold
	form    form
}

func newHoldCmd(a *app) *cobra.Command {
	o := holdOpts{request: api.Hold{On: true}}
	cmd := &cobra.Command{
		Use:   "hold [JOB]",
		Short: "Decide nothing and move nothing: for a job, a node or all",
		Long: `Put a job, a node (--node) or the whole cluster (--all) on hold: its jobs run on as they are, but nothing is decided about them and
nothing is moved, until qosctl resume. All nodes know within seconds, and it stands over restarts. Without any of them, what is on
hold is listed.`,
		Example: `  qosctl hold linpack1 --reason "a measurement"
  qosctl hold --node node2
  qosctl hold --all --reason maintenance
  qosctl hold                         # what is on hold?`,
		Args:              args(cobra.MaximumNArgs(1)),
		ValidArgsFunction: a.completeJobs(1, false),
		RunE: run(func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				o.request.Job = args[0]
			}
			return a.runHold(cmd.Context(), o)
		}),
	}
	cmd.Flags().StringVar(&o.request.Reason, "reason", "", "is shown wherever the hold is")
	a.addHoldFlags(cmd, &o)
	return cmd
}

func newResumeCmd(a *app) *cobra.Command {
	var o holdOpts
	cmd := &cobra.Command{
		Use:   "resume [JOB]",
		Short: "End a hold: of a job, a node or all",
		Long:  "End what qosctl hold began. Holds are independent of each other: a job on hold stays so when --all ends.",
		Example: `  qosctl resume linpack1
  qosctl resume --node node2
  qosctl resume --all`,
		Args:              args(cobra.MaximumNArgs(1)),
		ValidArgsFunction: a.completeJobs(1, false),
		RunE: run(func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				o.request.Job = args[0]
			}
			return a.runHold(cmd.Context(), o)
		}),
	}
	a.addHoldFlags(cmd, &o)
	return cmd
}

func (a *app) addHoldFlags(cmd *cobra.Command, o *holdOpts) {
	cmd.Flags().StringVar(&o.request.Node, "node", "", "all jobs of this node")
	cmd.Flags().BoolVar(&o.request.All, "all", false, "all jobs of the cluster")
	a.completeNodeFlag(cmd, "node")
	addForm(cmd, &o.form)
}

func (a *app) runHold(ctx context.Context, o holdOpts) error {
	given := 0
	for _, is := range []bool{o.request.All, o.request.Node != "", o.request.Job != ""} {
		if is {
			given++
		}
	}
	switch {
	case given > 1:
		return &usageError{errors.New("want one of JOB, --node and --all"), ""}
	case given == 0 && !o.request.On:
		return &usageError{errors.New("want JOB, --node or --all"), "`qosctl hold` lists what is on hold"}
	case given == 0 && o.request.Reason != "":
		return &usageError{errors.New("--reason of what? Want JOB, --node or --all"), ""}
	}
	c, err := a.client(ctx)
	if err != nil {
		return err
	}
	defer c.Close()
	names := map[string]string{} // of jobs, by ID
	var holds api.Holds
	if given == 0 {
		holds, err = c.Holds(ctx)
	} else {
		if o.request.Job != "" {
			j, err := findJob(ctx, c, o.request.Job)
			if err != nil {
				return err
			}
			o.request.Job, names[j.ID] = j.ID, j.Name
		}
		holds, err = c.Hold(ctx, o.request)
	}
	if err != nil {
		return err
	}
	if len(holds.Jobs) > len(names) { // those of others: their names are nice to have
		jobs, err := c.Jobs(ctx, true)
		if err != nil {
			return err
		}
		for _, j := range jobs {
			names[j.ID] = j.Name
		}
	}
	return o.form.print(a.out, holds, func(w io.Writer) error { return holdsTable(w, holds, names) })
}

// holdsTable lists what is on hold, and what is being drained.
func holdsTable(w io.Writer, h api.Holds, names map[string]string) error {
	rows := []string{row("ON HOLD", "WHAT", "WHY")}
	if h.All != "" {
		rows = append(rows, row("cluster", "all", h.All))
	}
	for _, n := range slices.Sorted(maps.Keys(h.Nodes)) {
		rows = append(rows, row("node", n, h.Nodes[n]))
	}
	for _, id := range slices.Sorted(maps.Keys(h.Jobs)) {
		name := shortID(id)
		if names[id] != "" {
			name = names[id] + " (" + name + ")"
		}
		rows = append(rows, row("job", name, h.Jobs[id]))
	}
	if len(rows) == 1 {
		_, err := fmt.Fprintln(w, "nothing is on hold")
		return err
	}
	return table(w, rows...)
}
