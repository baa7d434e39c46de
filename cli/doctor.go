package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"qosctl/agent"
	"qosctl/agent/api"
)

type doctorOpts struct {
	again  bool
	form   form
	config configOpts
}

func newDoctorCmd(a *app) *cobra.Command {
	var o doctorOpts
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Examine a node: what is wrong, why, and what helps",
		Long: `Examine a node: kernel, cgroups, Docker, CRIU, Mesos, frameworks, Keystone, Monasca, ports, clocks, disks and rights. What is wrong comes
with its cause and a remedy. The agent looks, with its own rights; where none answers on this machine, the command looks itself, with the
configuration file. Nothing is changed. docs/doctor.md lists the checks.

The agent's self-test of checkpoints is run when it starts, and what it found then is told; --again runs it anew, which starts and removes tiny
containers.

The exit code is 0 if all is well, 11 if the worst finding is a warning, 12 if it is a fault.`,
		Example: "  qosctl doctor\n  qosctl doctor -o json\n  qosctl doctor --again",
		Args:    args(cobra.NoArgs),
		RunE: run(func(cmd *cobra.Command, _ []string) error {
			return a.runDoctor(cmd.Context(), o)
		}),
	}
	cmd.Flags().BoolVar(&o.again, "again", false, "run the self-test of checkpoints anew")
	o.config.add(cmd)
	addForm(cmd, &o.form)
	return cmd
}

func (a *app) runDoctor(ctx context.Context, o doctorOpts) error {
	d, err := a.examined(ctx, o)
	if err != nil {
		return err
	}
	if err := o.form.print(a.out, d, func(w io.Writer) error { return printDoctor(w, d) }); err != nil {
		return err
	}
	switch d.Worst() {
	case api.LevelFault:
		return &exitStatus{exitFault, nil}
	case api.LevelWarning:
		return &exitStatus{exitWarning, nil}
	}
	return nil
}

// examined has the agent look, or looks itself where none answers on this machine.
func (a *app) examined(ctx context.Context, o doctorOpts) (api.Doctor, error) {
	c, err := a.client(ctx)
	if err != nil {
		return api.Doctor{}, err
	}
	defer c.Close()
	ask := c.Doctor
	if o.again {
		ask = c.Examine
	}
	d, err := ask(ctx)
	_, here := api.SocketPath(c.Address())
	switch {
	case err == nil:
		a.compareVersions(ctx, c, &d)
		return d, nil
	case errors.Is(err, api.ErrUnreachable) && here && !o.again:
		return a.lookedOutside(ctx, o.config, err), nil
	}
	return d, err
}

// lookedOutside is what this command finds itself.
func (a *app) lookedOutside(ctx context.Context, o configOpts, why error) api.Doctor {
	cfg, err := o.load(a.environ)
	return agent.Outside{Config: cfg, File: o.file(), Err: err, Why: why}.Examine(ctx)
}

// compareVersions adds what the agent can't know.
func (a *app) compareVersions(ctx context.Context, c *api.Client, d *api.Doctor) {
	n, err := c.Node(ctx)
	if err != nil {
		return // the agent has answered a moment ago: the next run says
	}
	at := 0
	for i, f := range d.Checks {
		if strings.HasPrefix(f.Name, "agent.") {
			at = i + 1
		}
	}
	d.Checks = append(d.Checks[:at:at], append([]api.Check{agent.SameVersion(n.Version, Version())}, d.Checks[at:]...)...)
}

// marks of findings.
var marks = map[api.Level]string{api.LevelOK: "ok", api.LevelSkipped: "skipped", api.LevelWarning: "WARNING", api.LevelFault: "FAULT"}

func printDoctor(w io.Writer, d api.Doctor) error {
	var b strings.Builder
	count := map[api.Level]int{}
	outside := len(d.Checks) > 0 && d.Checks[0].Name == "agent.answers" && !d.Checks[0].OK
	for _, c := range d.Checks {
		level := c.Severity()
		count[level]++
		name := c.Name
		if c.Of != "" {
			name += " " + c.Of
		}
		fmt.Fprintf(&b, "%-8s %s: %s\n", marks[level], name, c.Text)
		if level != api.LevelWarning && level != api.LevelFault {
			continue
		}
		if c.Cause != "" {
			fmt.Fprintf(&b, "         cause: %s\n", strings.ReplaceAll(c.Cause, "\n", "\n                "))
		}
		if c.Remedy != "" {
			fmt.Fprintf(&b, "         remedy: %s\n", c.Remedy)
		}
	}
	fmt.Fprintf(&b, "%d faults, %d warnings", count[api.LevelFault], count[api.LevelWarning])
	switch {
	case d.Driver != "":
		b.WriteString("; jobs in Docker can be checkpointed, by the driver " + d.Driver)
	case !outside:
		b.WriteString("; jobs of this node are resized in place only")
	}
	b.WriteString("\n")
	_, err := io.WriteString(w, b.String())
	return err
}
