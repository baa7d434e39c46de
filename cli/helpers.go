package cli

import (
	"io"

	"github.com/spf13/cobra"

	"qosctl/agent"
)

// newDumpCmd is what qosctl-dump@.service starts for each connection.
func newDumpCmd(a *app) *cobra.Command {
	var o configOpts
	cmd := &cobra.Command{
		Use:   "dump",
		Short: "Take one dump of a container for the agent (systemd starts this)",
		Long: `Take one dump of a container for a confined agent: an order comes in on standard input, a connection, and is answered there. It
takes a container's id and directories of checkpoints, nothing else.`,
		Example: "  qosctl dump --config /etc/qosctl/agent.yaml",
		Args:    args(cobra.NoArgs),
		RunE: run(func(cmd *cobra.Command, _ []string) error {
			cfg, err := o.load(a.environ)
			if err != nil {
				return err
			}
			return agent.ServeDump(cmd.Context(), cfg, struct {
				io.Reader
				io.Writer
			}{a.in, a.out})
		}),
	}
	o.add(cmd)
	return cmd
}

// newJobCmd is what qosctl-job@.service starts for each connection.
func newJobCmd(a *app) *cobra.Command {
	var o configOpts
	cmd := &cobra.Command{
		Use:   "start-job",
		Short: "Start one plain process for the agent, and hold it (systemd starts this)",
		Long: `Start one job that is a plain process for a confined agent, and hold it: the order comes in on descriptor 3, a connection, and is answered
there. It takes the id of a container that the agent has made, nothing else.`,
		Example: "  qosctl start-job --config /etc/qosctl/agent.yaml",
		Args:    args(cobra.NoArgs),
		RunE: run(func(*cobra.Command, []string) error {
			cfg, err := o.load(a.environ)
			if err != nil {
				return err
			}
			return agent.ServeJob(cfg)
		}),
	}
	o.add(cmd)
	return cmd
}
