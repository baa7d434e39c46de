package cli

import (
	"context"
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"qosctl/agent"
)

// releaseTime bounds what release does.
const releaseTime = 30 * time.Second

func newReleaseCmd(a *app) *cobra.Command {
	var o configOpts
	var unit string
	cmd := &cobra.Command{
		Use:   "release",
		Short: "Give every job back the CPUs that it requested (when the agent stops for good)",
		Long: `Give every job whose allocation is below its request the request back. systemd runs this when the agent has stopped for
good (ExecStopPost), so that no job stays slow with nobody to speed it up. It changes nothing else, and needs no agent.`,
		Example: "  qosctl release --config /etc/qosctl/agent.yaml",
		Args:    args(cobra.NoArgs),
		RunE: run(func(cmd *cobra.Command, _ []string) error {
			ctx, cancel := context.WithTimeout(cmd.Context(), releaseTime)
			defer cancel()
			if unit != "" && startsAgain(ctx, unit) {
				_, err := fmt.Fprintf(a.out, "systemd starts %s again: nothing is given back\n", unit)
				return err
			}
			cfg, err := o.load(a.environ)
			if err != nil {
				return err
			}
			n, err := agent.Release(ctx, cfg, newLogger(a.err, cfg.Log))
			if err != nil {
				return agentError(err)
			}
			_, err = fmt.Fprintf(a.out, "%d containers given back their request\n", n)
			return err
		}),
	}
	o.add(cmd)
	cmd.Flags().StringVar(&unit, "unless-restarted", "", "do nothing if systemd is restarting this unit: the next agent goes on")
	return cmd
}

// startsAgain says whether systemd is about to start a unit. If it can't be asked, it is not.
func startsAgain(ctx context.Context, unit string) bool {
	out, err := exec.CommandContext(ctx, "systemctl", "list-jobs", "--no-legend", "--no-pager", unit).Output()
	return err == nil && jobStarts(string(out), unit)
}

// jobStarts finds a unit's start or restart among systemd's jobs, lines "123 name.service restart running".
func jobStarts(list, unit string) bool {
	for line := range strings.Lines(list) {
		f := strings.Fields(line)
		if len(f) >= 3 && f[1] == unit && slices.Contains([]string{"start", "restart", "try-restart"}, f[2]) {
			return true
		}
	}
	return false
}
