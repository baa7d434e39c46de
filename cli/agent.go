package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"qosctl/agent"
)

func newAgentCmd(a *app) *cobra.Command {
	var o configOpts
	cmd := &cobra.Command{
		Use:   "agent",
		Short: "Run this node's agent",
		Long: `Run this node's agent until SIGTERM or SIGINT; a second one kills. Its jobs run on meanwhile, and the next agent takes
them up. It tells systemd when it is ready (Type=notify) and that it lives (WatchdogSec).`,
		Example: `  qosctl agent --config /etc/qosctl/qosctl.yaml
  qosctl agent --set control.mode=advise --set log.level=debug`,
		Args: args(cobra.NoArgs),
		RunE: run(func(cmd *cobra.Command, _ []string) error {
			return a.runAgent(cmd.Context(), o)
		}),
	}
	o.add(cmd)
	return cmd
}

func (a *app) runAgent(ctx context.Context, o configOpts) error {
	defer surviveBrokenPipe()()
	cfg, err := o.load(a.environ)
	if err != nil {
		return err
	}
	logger := newLogger(a.err, cfg.Log)
	systemd := &notifier{socket: a.getenv("NOTIFY_SOCKET")}
	ready := func() {
		if err := systemd.send("READY=1"); err != nil {
			logger.Warn("tell systemd", "err", err)
		}
	}
	node, err := agent.New(agent.Options{Config: cfg, Version: Version(), Logger: logger, Ready: ready})
	if err != nil {
		return agentError(err)
	}
	watched, stopWatching := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer stopWatching()
	wg.Go(func() { systemd.watchdog(watched, a.getenv("WATCHDOG_USEC"), a.getenv("WATCHDOG_PID")) })
	stopping := context.AfterFunc(ctx, func() { _ = systemd.send("STOPPING=1") }) // nobody needs to know that it failed
	defer stopping()
	if err := node.Run(ctx); err != nil && (ctx.Err() == nil || !errors.Is(err, context.Canceled)) {
		return agentError(err)
	}
	return nil
}

// agentError adds a remedy to why an agent can't start.
func agentError(err error) error {
	switch {
	case hintOf(err) != "":
		return err
	case errors.Is(err, syscall.EADDRINUSE):
		return withHint(err, "another program has that address: `listen` in the configuration is the agent's")
	case isNoCgroups(err):
		return &exitStatus{exitForbidden, withHint(err, cgroupHint)}
	}
	return err
}

// newLogger makes the agent's logger.
func newLogger(w io.Writer, c agent.LogConfig) *slog.Logger {
	var level slog.Level
	_ = level.UnmarshalText([]byte(c.Level)) // validated; info if not
	o := &slog.HandlerOptions{Level: level}
	if c.Format == "json" {
		return slog.New(slog.NewJSONHandler(w, o))
	}
	return slog.New(slog.NewTextHandler(w, o))
}

func newReleaseCmd(a *app) *cobra.Command {
	var o configOpts
	cmd := &cobra.Command{
		Use:   "release",
		Short: "Give every job back the CPUs that it requested (when the agent stops for good)",
		Long: `Give every job whose allocation is below its request the request back. systemd runs this when the agent has stopped for
good (ExecStopPost), so that no job stays slow with nobody to speed it up. It changes nothing else, and needs no agent.`,
		Example: "  qosctl release --config /etc/qosctl/qosctl.yaml",
		Args:    args(cobra.NoArgs),
		RunE: run(func(cmd *cobra.Command, _ []string) error {
			cfg, err := o.load(a.environ)
			if err != nil {
				return err
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), 30*time.Second)
			defer cancel()
			n, err := agent.Release(ctx, cfg, newLogger(a.err, cfg.Log))
			if err != nil {
				return agentError(err)
			}
			_, err = fmt.Fprintf(a.out, "%d containers given back their request\n", n)
			return err
		}),
	}
	o.add(cmd)
	return cmd
}
