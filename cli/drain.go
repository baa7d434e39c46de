package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"qosctl/agent/api"
)

type drainOpts struct {
	request api.Drain
	wait    bool
	timeout time.Duration
	form    form
}

func newDrainCmd(a *app) *cobra.Command {
	o := drainOpts{request: api.Drain{On: true}}
	cmd := &cobra.Command{
		Use:   "drain NODE",
		Short: "Empty a node of its jobs",
		Long: `Empty a node: its agent moves its jobs away, one after the other, those first whose margin is the smallest, and no job is moved to it.
What can't be moved is named and stays. The node stays so until qosctl undrain, over restarts too. The answer says by which means it
is done.

With --wait the command ends when all jobs have left; exit code 8 if some can't be moved.`,
		Example: `  qosctl drain node2 --reason "new kernel" --wait
  qosctl drain node2 --wait --timeout 10m`,
		Args:              args(cobra.ExactArgs(1)),
		ValidArgsFunction: a.completeNodes,
		RunE: run(func(cmd *cobra.Command, args []string) error {
			o.request.Node = args[0]
			return a.runDrain(cmd.Context(), o)
		}),
	}
	cmd.Flags().StringVar(&o.request.Reason, "reason", "", "is shown wherever the node is")
	addWait(cmd, &o.wait, &o.timeout)
	addForm(cmd, &o.form)
	return cmd
}

func newUndrainCmd(a *app) *cobra.Command {
	var o drainOpts
	cmd := &cobra.Command{
		Use:               "undrain NODE",
		Short:             "Use a node again that was drained",
		Long:              "Use a node again that was drained. Jobs that have left stay where they are; a move under way is brought to its end.",
		Example:           "  qosctl undrain node2",
		Args:              args(cobra.ExactArgs(1)),
		ValidArgsFunction: a.completeNodes,
		RunE: run(func(cmd *cobra.Command, args []string) error {
			o.request.Node = args[0]
			return a.runDrain(cmd.Context(), o)
		}),
	}
	addForm(cmd, &o.form)
	return cmd
}

func (a *app) runDrain(ctx context.Context, o drainOpts) error {
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
	d, err := c.Drain(ctx, o.request)
	if err != nil {
		return err
	}
	if !o.wait {
		return o.form.print(a.out, d, func(w io.Writer) error { return drainText(w, o.request, d) })
	}
	if o.form == formTable {
		if err := drainText(a.out, o.request, d); err != nil {
			return err
		}
	}
	p := a.progress(o.form)
	s, err := a.emptied(ctx, c, o.request.Node, p)
	p.end()
	if err != nil {
		return waitedOut(ctx, err, o.timeout, "node "+o.request.Node+" is not empty yet: "+leftText(s))
	}
	if err := o.form.print(a.out, s, func(w io.Writer) error {
		text := "node " + s.Node + " is empty\n"
		if len(s.Left) > 0 {
			text = "node " + s.Node + " keeps " + leftText(s) + "\n"
		}
		_, err := io.WriteString(w, text)
		return err
	}); err != nil || len(s.Left) == 0 {
		return err
	}
	return &exitStatus{exitConflict, fmt.Errorf("%d job(s) can't be moved", len(s.Left))}
}

func drainText(w io.Writer, r api.Drain, d api.DrainResponse) error {
	text := fmt.Sprintf("node %s may have jobs again: %s\n", r.Node, d.How)
	if r.On {
		text = fmt.Sprintf("node %s is being drained of %d running job(s): %s\n", r.Node, d.Jobs, d.How)
	}
	_, err := io.WriteString(w, text)
	return err
}

// emptied waits until no job is left on a node but those that stay, at two looks in a row: between two iterations a job is nowhere.
func (a *app) emptied(ctx context.Context, c *api.Client, node string, p *progress) (s api.DrainStatus, err error) {
	again, empty, begun, first := newBackoff(250*time.Millisecond, 5*time.Second), 0, false, 0
	for empty < 2 {
		next, err := c.DrainStatus(ctx, node)
		switch {
		case (errors.Is(err, api.ErrUnreachable) || api.IsStatus(err, http.StatusBadGateway)) && again.elapsed() < giveUpAfter:
			if err := again.wait(ctx); err != nil {
				return s, err
			}
			continue
		case err != nil:
			return s, err
		}
		again.reset()
		s = next
		if begun && s.Draining == "" {
			return s, withHint(fmt.Errorf("node %s is not being drained any more", node), "somebody has called `qosctl undrain "+node+"`")
		}
		begun = begun || s.Draining != "" // a node learns of it within seconds
		empty++
		if !begun || slices.ContainsFunc(s.Left, func(l api.Leaving) bool { return !l.Stays }) {
			empty = 0
		}
		if len(s.Left) > 0 {
			first = max(first, len(s.Left))
			if err := p.show(1-float64(len(s.Left))/float64(first), "left: "+leftText(s)); err != nil {
				return s, err
			}
		}
		if empty < 2 {
			if err := sleep(ctx, moveLook); err != nil {
				return s, err
			}
		}
	}
	return s, nil
}

// leftText names the jobs that are left on a node, and what each waits for.
func leftText(s api.DrainStatus) string {
	var list []string
	for _, l := range s.Left {
		text := l.Name + " " + strings.ToLower(string(l.Phase))
		switch {
		case l.To != "":
			text += ", on its way to " + l.To
		case l.Text != "":
			text += " (" + l.Text + ")"
		}
		list = append(list, text)
	}
	return strings.Join(list, "; ")
}
