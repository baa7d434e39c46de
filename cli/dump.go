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
