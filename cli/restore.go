package cli

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"qosctl/agent/api"
)

func newRestoreCmd(a *app) *cobra.Command {
	var r api.RestoreRequest
	cmd := &cobra.Command{
		Use:   "restore JOB",
		Short: "Let a job go on from a checkpoint",
		Long: `End a job's container and let the job go on, in a new one, from a checkpoint of its present run. What it has done since is saved in
another checkpoint before; with --discard it is lost. The CPU time stays in the account in either case.`,
		Example: `  qosctl restore linpack1
  qosctl restore linpack1 --checkpoint 3 --discard`,
		Args:              args(cobra.ExactArgs(1)),
		ValidArgsFunction: a.completeJobs(1, false),
		RunE: run(func(cmd *cobra.Command, args []string) error {
			if r.Sequence < 0 {
				return &usageError{fmt.Errorf("--checkpoint must be a checkpoint's number, from 1 (got %d)", r.Sequence), "`qosctl checkpoints` lists them"}
			}
			return a.runRestore(cmd.Context(), args[0], r)
		}),
	}
	cmd.Flags().IntVar(&r.Sequence, "checkpoint", 0, "number of the checkpoint; 0: the newest")
	cmd.Flags().BoolVar(&r.Discard, "discard", false, "don't save what the job has done since")
	return cmd
}

func (a *app) runRestore(ctx context.Context, ref string, r api.RestoreRequest) error {
	c, err := a.client(ctx)
	if err != nil {
		return err
	}
	defer c.Close()
	j, err := findJob(ctx, c, ref)
	if err == nil {
		j, err = c.Restore(ctx, j.ID, r)
	}
	if err == nil {
		fmt.Fprintf(a.out, "%s is being restored; `qosctl explain %s` says how it went\n", j.Name, ref)
	}
	return err
}
