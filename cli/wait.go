package cli

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"qosctl/agent/api"
	"qosctl/qos"
)

type waitOpts struct {
	jobs    []string
	timeout time.Duration
}

func newWaitCmd(a *app) *cobra.Command {
	var o waitOpts
	cmd := &cobra.Command{
		Use:   "wait JOB...",
		Short: "Wait until jobs have ended, and exit with how",
		Long: `Wait until jobs have ended. The exit code tells how: 0 all met their deadlines, 3 one missed it, 4 one failed or was
cancelled. A Marathon job without qos.executions runs again and again, so it ends only when it is cancelled or fails.`,
		Example: `  qosctl wait linpack1 && echo in time
  qosctl wait linpack1 linpack2 --timeout 10m`,
		Args:              args(cobra.MinimumNArgs(1)),
		ValidArgsFunction: a.completeJobs(0, true),
		RunE: run(func(cmd *cobra.Command, args []string) error {
			o.jobs = args
			return a.runWait(cmd.Context(), o)
		}),
	}
	cmd.Flags().DurationVar(&o.timeout, "timeout", 0, "give up after this time, with exit code 1; 0: never")
	return cmd
}

// errWaited is why wait gives up.
var errWaited = errors.New("waited for the whole --timeout")

func (a *app) runWait(ctx context.Context, o waitOpts) error {
	if o.timeout < 0 {
		return &usageError{fmt.Errorf("--timeout must not be negative (got %s)", o.timeout), ""}
	}
	c, err := a.client(ctx)
	if err != nil {
		return err
	}
	defer c.Close()
	if o.timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, o.timeout, errWaited)
		defer cancel()
	}
	jobs := make([]api.Job, len(o.jobs))
	for i, ref := range o.jobs {
		if jobs[i], err = findJob(ctx, c, ref); err != nil {
			return err
		}
		if j := jobs[i]; j.Framework == qos.Marathon && j.QoS.Executions == 0 && !j.Phase.Terminal() {
			fmt.Fprintf(a.err, "qosctl: %s has no qos.executions: it runs again and again until it is cancelled\n", j.Name)
		}
	}
	var (
		mu    sync.Mutex // of out and worst
		worst = exitOK
	)
	g, gctx := errgroup.WithContext(ctx)
	for _, j := range jobs {
		g.Go(func() error {
			j, err := watch(gctx, c, j, 30*time.Second, func(api.Job) error { return nil })
			if err != nil {
				return err
			}
			mu.Lock()
			defer mu.Unlock()
			worst = max(worst, outcomeCode(j))
			_, err = fmt.Fprintln(a.out, outcomeText(j))
			return err
		})
	}
	if err := g.Wait(); err != nil {
		if errors.Is(context.Cause(ctx), errWaited) {
			return fmt.Errorf("%w of %s, and not all jobs have ended", errWaited, o.timeout)
		}
		return err
	}
	if worst != exitOK {
		return &exitStatus{code: worst}
	}
	return nil
}
