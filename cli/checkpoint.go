package cli

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"qosctl/agent/api"
)

type checkpointOpts struct {
	job     string
	request api.CheckpointRequest
	form    form
}

func newCheckpointCmd(a *app) *cobra.Command {
	var o checkpointOpts
	cmd := &cobra.Command{
		Use:   "checkpoint JOB",
		Short: "Save a job's process state",
		Long: `Save the process state of a job that runs in Docker: its memory, its open files and the files that it has changed. The job goes
on running; with --stop its container ends, and the job goes on from the checkpoint with its next task, which Marathon starts at once.
An error means that nothing was saved, and that the job runs on.`,
		Example: `  qosctl checkpoint linpack1
  qosctl checkpoint linpack1 --stop --reason "kernel update"`,
		Args:              args(cobra.ExactArgs(1)),
		ValidArgsFunction: a.completeJobs(1, false),
		RunE: run(func(cmd *cobra.Command, args []string) error {
			o.job = args[0]
			return a.runCheckpoint(cmd.Context(), o)
		}),
	}
	cmd.Flags().BoolVar(&o.request.Stop, "stop", false, "end the container; the next task goes on from the checkpoint")
	cmd.Flags().StringVar(&o.request.Reason, "reason", "", "is noted in the checkpoint")
	addForm(cmd, &o.form)
	return cmd
}

func (a *app) runCheckpoint(ctx context.Context, o checkpointOpts) error {
	c, err := a.client(ctx)
	if err != nil {
		return err
	}
	defer c.Close()
	j, err := findJob(ctx, c, o.job)
	if err != nil {
		return err
	}
	p, err := a.checkpointShown(ctx, c, j, o)
	if err != nil {
		return err
	}
	return o.form.print(a.out, p, func(w io.Writer) error {
		_, err := fmt.Fprintf(w, "%s is saved in checkpoint %d: %.1f s of CPU time, %s, frozen for %s\n", p.Name, p.Sequence, p.CPU, bytesText(p.Resident), seconds(p.Frozen))
		return err
	})
}

// checkpointShown takes a checkpoint and shows on a terminal how that goes, by the time that the job's last one took; elsewhere the answer says all.
func (a *app) checkpointShown(ctx context.Context, c *api.Client, j api.Job, o checkpointOpts) (p api.Checkpoint, err error) {
	bar := a.progress(o.form)
	if !bar.live {
		return c.Checkpoint(ctx, j.ID, o.request)
	}
	last := 0.0
	if list, err := c.Checkpoints(ctx, j.ID, false); err == nil && len(list) > 0 { // it is nice to have
		last = slices.MaxFunc(list, func(x, y api.Checkpoint) int { return cmp.Compare(x.Sequence, y.Sequence) }).Took
	}
	watched, cancel := context.WithCancel(ctx)
	var shown sync.WaitGroup
	shown.Go(func() {
		for sleep(watched, meterTick) == nil {
			share, text := -1.0, j.Name+" is being saved"
			if took := time.Since(bar.begun).Seconds(); last > 0 && took <= last {
				share, text = took/last, fmt.Sprintf("%s; the last one took %s", text, seconds(last))
			}
			_ = bar.show(share, text) // what can't be shown is no reason to stop
		}
	})
	p, err = c.Checkpoint(ctx, j.ID, o.request)
	cancel()
	shown.Wait()
	bar.end()
	return p, err
}

// seconds is a short time for people.
func seconds(s float64) string {
	return time.Duration(s * float64(time.Second)).Round(time.Millisecond).String()
}

// bytesText is a size for people.
func bytesText(n int64) string { return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20)) }
