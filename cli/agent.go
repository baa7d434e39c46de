package cli

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"runtime/debug"
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
them up. It tells systemd when it is ready (Type=notify) and that its loop turns (WatchdogSec). At SIGHUP it reads the cluster's key file
and the certificates of its network address and of its peer API again.`,
		Example: `  qosctl agent --config /etc/qosctl/agent.yaml
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
		giveBack(logger) // what recovery took
	}
	if a.getenv("GOGC") == "" {
		debug.SetGCPercent(agent.GCPercent)
	}
	node, err := agent.New(agent.Options{Config: cfg, Version: Version(), Logger: logger, Ready: ready, File: o.file(), Credentials: a.getenv("CREDENTIALS_DIRECTORY")})
	if err != nil {
		return agentError(err)
	}
	watched, stopWatching := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer stopWatching()
	wg.Go(func() {
		systemd.watchdog(watched, a.getenv("WATCHDOG_USEC"), a.getenv("WATCHDOG_PID"), func() bool { return node.Stalled() < stalledAfter })
	})
	wg.Go(func() { reloadOnHangup(watched, node, logger) })
	wg.Go(func() {
		if sleep(watched, takenUp) == nil {
			giveBack(logger)
		}
	})
	stopping := context.AfterFunc(ctx, func() { _ = systemd.send("STOPPING=1") }) // nobody needs to know that it failed
	defer stopping()
	if err := node.Run(ctx); err != nil && (ctx.Err() == nil || !errors.Is(err, context.Canceled)) {
		return agentError(err)
	}
	return nil
}

// takenUp is when the containers of the agent before this one have been taken up, which needs memory as nothing does after it.
const takenUp = 10 * time.Second

// giveBack returns memory to the kernel that was needed for a moment: Go itself takes minutes for that.
func giveBack(logger *slog.Logger) {
	debug.FreeOSMemory()
	if err := letGoOfStart(); err != nil {
		logger.Debug("memory", "err", err)
	}
}

// stalledAfter is how long the agent's loop may stand still before systemd is no longer told that it lives. It turns once a second, and
// takes no longer than an engine's slowest answer.
const stalledAfter = 45 * time.Second

// reloadOnHangup has the agent read its key ring and certificates again at each SIGHUP.
func reloadOnHangup(ctx context.Context, node *agent.Agent, logger *slog.Logger) {
	hangup := make(chan os.Signal, 1)
	signal.Notify(hangup, syscall.SIGHUP)
	defer signal.Stop(hangup)
	for {
		select {
		case <-ctx.Done():
			return
		case <-hangup:
			if err := node.ReloadKeys(); err != nil {
				logger.Error("the key ring is as it was", "err", err)
			}
			if err := node.ReloadTLS(); err != nil {
				logger.Error("the certificates are as they were", "err", err)
			}
		}
	}
}

// agentError adds a remedy to why an agent can't start.
func agentError(err error) error {
	switch {
	case hintOf(err) != "":
		return err
	case errors.Is(err, syscall.EADDRINUSE):
		return withHint(err, "another program has that address: `listen` in the configuration is the agent's")
	case isNoCgroups(err):
		return &exitStatus{exitForbidden, withHint(err, agentCgroupHint)}
	}
	return err
}

// agentCgroupHint is cgroupHint for an agent that was started by itself.
const agentCgroupHint = "run it as root, or in a delegated subtree (Delegate=yes in its unit), named by `cgroup.parent` in the configuration"

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
