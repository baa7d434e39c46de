package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"qosctl/agent/api"
)

type checkpointsOpts struct {
	job    string
	verify bool
	form   form
}

func newCheckpointsCmd(a *app) *cobra.Command {
	var o checkpointsOpts
	cmd := &cobra.Command{
		Use:   "checkpoints [JOB]",
		Short: "List the checkpoints of this node",
		Long: `List the checkpoints of this node, or of a job. One that is not sealed yet can be restored on this node only. With --verify each is
read whole and compared with the digests in its manifest; a damaged one is an error.`,
		Example: `  qosctl checkpoints
  qosctl checkpoints linpack1 --verify`,
		Args:              args(cobra.MaximumNArgs(1)),
		ValidArgsFunction: a.completeJobs(1, true),
		RunE: run(func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				o.job = args[0]
			}
			return a.runCheckpoints(cmd.Context(), o)
		}),
	}
	cmd.Flags().BoolVar(&o.verify, "verify", false, "read each whole and compare it with its manifest")
	addForm(cmd, &o.form)
	cmd.AddCommand(newCheckpointsRemoveCmd(a))
	return cmd
}

func newCheckpointsRemoveCmd(a *app) *cobra.Command {
	return &cobra.Command{
		Use:     "remove JOB NUMBER",
		Short:   "Remove a checkpoint",
		Long:    "Remove a checkpoint. The one that a suspended job goes on from is not removed.",
		Example: "  qosctl checkpoints remove linpack1 3",
		Args:    args(cobra.ExactArgs(2)),
		RunE: run(func(cmd *cobra.Command, args []string) error {
			n, err := strconv.Atoi(args[1])
			if err != nil || n < 1 {
				return &usageError{fmt.Errorf("NUMBER must be a checkpoint's, from 1 (got %q)", args[1]), "`qosctl checkpoints` lists them"}
			}
			return a.runRemoveCheckpoint(cmd.Context(), args[0], n)
		}),
	}
}

func (a *app) runRemoveCheckpoint(ctx context.Context, ref string, n int) error {
	c, err := a.client(ctx)
	if err != nil {
		return err
	}
	defer c.Close()
	j, err := findJob(ctx, c, ref)
	if err == nil {
		err = c.RemoveCheckpoint(ctx, j.ID, n)
	}
	if err == nil {
		fmt.Fprintf(a.out, "checkpoint %d of %s is removed\n", n, j.Name)
	}
	return err
}

func (a *app) runCheckpoints(ctx context.Context, o checkpointsOpts) error {
	c, err := a.client(ctx)
	if err != nil {
		return err
	}
	defer c.Close()
	id := ""
	if o.job != "" {
		j, err := findJob(ctx, c, o.job)
		if err != nil {
			return err
		}
		id = j.ID
	}
	list, err := c.Checkpoints(ctx, id, o.verify)
	if err != nil {
		return err
	}
	if list == nil {
		list = []api.Checkpoint{}
	}
	if err := o.form.print(a.out, list, func(w io.Writer) error { return checkpointTable(w, list, o.verify, time.Now()) }); err != nil {
		return err
	}
	for _, p := range list {
		if o.verify && p.Verified != "" && p.Verified != "ok" {
			return errors.New("a checkpoint is damaged")
		}
	}
	return nil
}

func checkpointTable(w io.Writer, list []api.Checkpoint, verified bool, now time.Time) error {
	if len(list) == 0 {
		_, err := fmt.Fprintln(w, "no checkpoints")
		return err
	}
	rows := []string{row("JOB", "NUMBER", "RUN", "TAKEN", "CPU TIME", "MEMORY", "FROZEN", "STATE", "WHY")}
	for _, p := range list {
		state := "sealed"
		switch {
		case !p.Sealed:
			state = "not sealed"
		case verified:
			state = p.Verified
		}
		rows = append(rows, row(p.Name, strconv.Itoa(p.Sequence), fmt.Sprintf("%d.%d", p.Execution, p.Incarnation), moment(p.Taken, now),
			fmt.Sprintf("%.1f s", p.CPU), bytesText(p.Resident), seconds(p.Frozen), state, p.Reason))
	}
	return table(w, rows...)
}
