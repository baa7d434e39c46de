package cli

import (
	"bytes"
	"context"
	"fmt"
	"os/exec"
	"strings"

	"github.com/spf13/cobra"

	"qosctl/ckpt/ociruntime"
)

func newOCIRuntimeCmd(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "oci-runtime",
		Short: "Register with Docker what restores containers",
		Long: `An OCI runtime that stands before runc: it is runc for everything, but that it creates a container restored where the agent wants it
so. Docker calls it under the name ` + ociruntime.Name + `; the rest of this command registers it, or takes it out.`,
		Example: "  sudo qosctl oci-runtime install",
	}
	p := ociruntime.DefaultPaths()
	install := &cobra.Command{
		Use:   "install",
		Short: "Install it and register it with Docker",
		Long: `Put the runtime in its place, add it to Docker's daemon.json, whose other settings stay as they are and of which a copy is kept, and
have dockerd read it again. No container is touched. Doing it again changes nothing; after an upgrade it replaces the program.`,
		Example: "  sudo qosctl oci-runtime install",
		Args:    args(cobra.NoArgs),
		RunE: run(func(cmd *cobra.Command, _ []string) error {
			return a.runInstall(cmd.Context(), p)
		}),
	}
	uninstall := &cobra.Command{
		Use:     "uninstall",
		Short:   "Take it out of Docker's configuration",
		Long:    "Take the runtime out of Docker's daemon.json and remove it. It is refused while there are containers made by it.",
		Example: "  sudo qosctl oci-runtime uninstall",
		Args:    args(cobra.NoArgs),
		RunE: run(func(cmd *cobra.Command, _ []string) error {
			in, err := ociruntime.Uninstall(cmd.Context(), p, madeByRuntime)
			a.reportInstalled(in, "taken out of")
			return err
		}),
	}
	for _, c := range []*cobra.Command{install, uninstall} {
		c.Flags().StringVar(&p.Daemon, "daemon-json", p.Daemon, "Docker's configuration")
		cmd.AddCommand(c)
	}
	return cmd
}

func (a *app) runInstall(ctx context.Context, p ociruntime.Paths) error {
	in, err := ociruntime.Install(ctx, p, runtimesOfDocker)
	a.reportInstalled(in, "registered in")
	return err
}

func (a *app) reportInstalled(in ociruntime.Installed, what string) {
	switch {
	case in.Changed && in.Copy != "":
		fmt.Fprintf(a.out, "%s is %s Docker's configuration; as it was, it is kept as %s\n", in.Runtime, what, in.Copy)
	case in.Changed:
		fmt.Fprintf(a.out, "%s is %s Docker's configuration\n", in.Runtime, what)
	}
	if in.Reloaded {
		fmt.Fprintln(a.out, "dockerd reads its configuration again")
	}
}

// runtimesOfDocker are the OCI runtimes that Docker has.
func runtimesOfDocker(ctx context.Context) ([]string, error) {
	out, err := exec.CommandContext(ctx, "docker", "info", "--format", "{{range $name, $_ := .Runtimes}}{{$name}} {{end}}").Output()
	if err != nil {
		return nil, fmt.Errorf("docker info: %w", err)
	}
	return strings.Fields(string(out)), nil
}

// madeByRuntime lists the containers that Docker could not even remove without the runtime. The docker command is asked: it is where Docker is.
// One that is removed between the two questions makes the second fail: they are asked again.
func madeByRuntime(ctx context.Context) (list []string, err error) {
	const tries = 5
	for range tries {
		if list, err = askMadeByRuntime(ctx); err == nil {
			return list, nil
		}
	}
	return nil, err
}

func askMadeByRuntime(ctx context.Context) ([]string, error) {
	ids, err := exec.CommandContext(ctx, "docker", "ps", "--all", "--quiet").Output()
	if err != nil {
		return nil, fmt.Errorf("docker ps: %w", err)
	}
	if len(bytes.TrimSpace(ids)) == 0 {
		return nil, nil
	}
	out, err := exec.CommandContext(ctx, "docker", append([]string{"inspect", "--format", "{{.HostConfig.Runtime}} {{.Name}}"}, strings.Fields(string(ids))...)...).Output()
	if err != nil {
		return nil, fmt.Errorf("docker inspect: %w", err)
	}
	var list []string
	for line := range strings.Lines(string(out)) {
		if name, ok := strings.CutPrefix(line, "qosctl /"); ok {
			list = append(list, strings.TrimSpace(name))
		}
	}
	return list, nil
}
