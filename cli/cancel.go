package cli

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"
)

func newCancelCmd(a *app) *cobra.Command {
	return &cobra.Command{
		Use:               "cancel JOB...",
		Short:             "End jobs for good",
		Long:              "End jobs for good: their processes are stopped and their apps deleted. A job that has ended already stays as it is.",
		Example:           "  qosctl cancel linpack1\n  qosctl cancel linpack1 linpack2",
		Args:              args(cobra.MinimumNArgs(1)),
		ValidArgsFunction: a.completeJobs(0, false),
		RunE: run(func(cmd *cobra.Command, args []string) error {
			return a.runCancel(cmd.Context(), args)
		}),
	}
}

func (a *app) runCancel(ctx context.Context, refs []string) error {
	c, err := a.client(ctx)
	if err != nil {
		return err
	}
	defer c.Close()
	var errs []error
	for _, ref := range refs {
		j, err := findJob(ctx, c, ref)
		if err == nil && j.Phase.Terminal() {
			fmt.Fprintf(a.out, "%s has ended already: %s\n", j.Name, j.Phase)
			continue
		}
		if err == nil {
			j, err = c.Cancel(ctx, j.ID)
		}
		if err != nil {
			errs = append(errs, err)
			continue
		}
		fmt.Fprintf(a.out, "%s is cancelled\n", j.Name)
	}
	if len(errs) == 1 {
		return errs[0]
	}
	return errors.Join(errs...)
}
