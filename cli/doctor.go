package cli

import (
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"qosctl/agent/api"
)

type doctorOpts struct {
	again bool
	form  form
}

func newDoctorCmd(a *app) *cobra.Command {
	var o doctorOpts
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Say what a node lacks for checkpoints, and how to get it",
		Long: `Say what the agent's self-test found: whether Docker, runc and CRIU of this node can checkpoint and restore a container, by which
driver, and what is missing. The agent runs the test when it starts; --again runs it anew. The exit code is 1 if jobs of this node can't be
checkpointed.`,
		Example: "  qosctl doctor\n  qosctl doctor --again",
		Args:    args(cobra.NoArgs),
		RunE: run(func(cmd *cobra.Command, _ []string) error {
			return a.runDoctor(cmd.Context(), o)
		}),
	}
	cmd.Flags().BoolVar(&o.again, "again", false, "run the self-test anew")
	addForm(cmd, &o.form)
	return cmd
}

func (a *app) runDoctor(ctx context.Context, o doctorOpts) error {
	c, err := a.client(ctx)
	if err != nil {
		return err
	}
	defer c.Close()
	ask := c.Doctor
	if o.again {
		ask = c.Examine
	}
	d, err := ask(ctx)
	if err != nil {
		return err
	}
	if err := o.form.print(a.out, d, func(w io.Writer) error { return printDoctor(w, d) }); err != nil {
		return err
	}
	if d.Driver == "" {
		return &exitStatus{exitError, nil}
	}
	return nil
}

func printDoctor(w io.Writer, d api.Doctor) error {
	for _, c := range d.Checks {
		mark := "ok"
		if !c.OK {
			mark = "MISSING"
		}
		if _, err := fmt.Fprintf(w, "%-8s %s: %s\n", mark, c.Name, c.Text); err != nil {
			return err
		}
		if !c.OK && c.Remedy != "" {
			if _, err := fmt.Fprintf(w, "         remedy: %s\n", c.Remedy); err != nil {
				return err
			}
		}
	}
	text := "jobs in Docker can be checkpointed, by the driver " + d.Driver
	if d.Driver == "" {
		text = "jobs of this node are resized in place only"
	}
	_, err := fmt.Fprintln(w, text)
	return err
}
