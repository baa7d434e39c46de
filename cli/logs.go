package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"qosctl/agent/api"
)

type logsOpts struct {
	job    string
	follow bool
	stream string
}

func newLogsCmd(a *app) *cobra.Command {
	var o logsOpts
	cmd := &cobra.Command{
		Use:   "logs JOB",
		Short: "Print what a job writes",
		Long:  "Print what a job writes, its standard output and error to ours.",
		Example: `  qosctl logs linpack1
  qosctl logs linpack1 -f --stream stderr`,
		Args:              args(cobra.ExactArgs(1)),
		ValidArgsFunction: a.completeJobs(1, true),
		RunE: run(func(cmd *cobra.Command, args []string) error {
			o.job = args[0]
			return a.runLogs(cmd.Context(), o)
		}),
	}
	cmd.Flags().BoolVarP(&o.follow, "follow", "f", false, "go on until the job has ended")
	cmd.Flags().StringVar(&o.stream, "stream", "", "stdout or stderr; empty: both")
	must(cmd.RegisterFlagCompletionFunc("stream", cobra.FixedCompletions([]string{"stdout", "stderr"}, cobra.ShellCompDirectiveNoFileComp)))
	return cmd
}

func (a *app) runLogs(ctx context.Context, o logsOpts) error {
	if o.stream != "" && o.stream != "stdout" && o.stream != "stderr" {
		return &usageError{fmt.Errorf("--stream must be stdout or stderr (got %q)", o.stream), ""}
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
	r := api.LogsRequest{Stream: o.stream, Follow: o.follow}
	again := newBackoff(250*time.Millisecond, 5*time.Second)
	for {
		err := a.copyLogs(ctx, c, j.ID, &r, again)
		if !o.follow || !errors.Is(err, api.ErrUnreachable) || again.elapsed() > giveUpAfter {
			return err
		}
		if err := again.wait(ctx); err != nil {
			return err
		}
	}
}

// copyLogs prints one stream to its end, and keeps in r where it got to.
func (a *app) copyLogs(ctx context.Context, c *api.Client, id string, r *api.LogsRequest, again *backoff) error {
	s, err := c.Logs(ctx, id, *r)
	if err != nil {
		return err
	}
	defer s.Close()
	for {
		line, err := s.Next(ctx)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		again.reset()
		w := a.out
		if line.Stream == "stderr" {
			w = a.err
		}
		if _, err := w.Write(line.Data); err != nil {
			return fmt.Errorf("print the job's output: %w", err)
		}
		if line.Cursor != "" {
			r.Cursor = line.Cursor
		}
	}
}

// must is for what only a mistake in this package makes fail, when commands are built.
func must(err error) {
	if err != nil {
		panic(err)
	}
}
