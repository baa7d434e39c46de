package cli

import (
	"bytes"
	"cmp"
	"compress/gzip"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"qosctl/agent/api"
	"qosctl/framework"
)

// maxSpec bounds the job's spec that the environment carries, in bytes of JSON.
const maxSpec = 1 << 20

// runOpts are what a stand-in is told, all of it by the environment.
type runOpts struct {
	job    string
	secret string
	socket string
	task   string
	claim  api.Claim
}

func newRunCmd(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "run",
		Short: "Stand in for a job as a framework's task (frameworks start this)",
		Long: `Stand in for a job as the task of a framework, which starts this as "exec qosctl run". The node's agent starts the job's
container; its output is streamed here and its exit code is this command's. SIGTERM has the agent stop the container. While the
agent is away, the container runs on, and this command waits for the agent.

The environment says what to run: QOSCTL_JOB, QOSCTL_SECRET, QOSCTL_SOCKET and, for an agent that doesn't know the job,
QOSCTL_SPEC; MESOS_TASK_ID and MESOS_SANDBOX come from Mesos. On a node whose agent has its sockets elsewhere than the others have, its Mesos
agent's --executor_environment_variables names this node's with QOSCTL_NODE_SOCKET, which counts instead of QOSCTL_SOCKET.`,
		Example: "  exec /usr/bin/qosctl run",
		Args:    args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			o, err := a.standinOpts()
			if err != nil {
				return err
			}
			// A reader of our output that went away must not end us before the job.
			signal.Ignore(syscall.SIGPIPE)
			signals := make(chan os.Signal, 1)
			signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
			defer signal.Stop(signals)
			client, err := api.NewStandin(o.job, api.Options{Address: o.socket, Token: o.secret})
			if err != nil {
				return &usageError{fmt.Errorf("QOSCTL_SOCKET: %w", err), ""}
			}
			defer client.Close()
			s := newStandin(client, o, a.out, a.err)
			code, err := s.run(cmd.Context(), signals)
			if err != nil || code != exitOK {
				return &exitStatus{code, err}
			}
			return nil
		},
	}
}

// standinOpts reads the environment.
func (a *app) standinOpts() (runOpts, error) {
	o := runOpts{job: a.getenv("QOSCTL_JOB"), secret: a.getenv("QOSCTL_SECRET"), socket: cmp.Or(a.getenv(framework.EnvNodeSocket), a.getenv("QOSCTL_SOCKET")), task: a.getenv("MESOS_TASK_ID")}
	if o.task == "" {
		o.task = a.getenv("mesos_task_id") // Chronos
	}
	for name, value := range map[string]string{"QOSCTL_JOB": o.job, "QOSCTL_SECRET": o.secret, "QOSCTL_SOCKET": o.socket, "MESOS_TASK_ID": o.task} {
		if value == "" {
			return o, &usageError{fmt.Errorf("%s is not set", name), "`qosctl run` is started by a framework; hand a job in with `qosctl submit`"}
		}
	}
	sandbox := a.getenv("MESOS_SANDBOX")
	if sandbox == "" {
		dir, err := os.Getwd()
		if err != nil {
			return o, fmt.Errorf("find the task's sandbox: %w", err)
		}
		sandbox = dir
	}
	o.claim = api.Claim{Task: o.task, Sandbox: sandbox, Env: publicEnv(a.environ), CPUs: taskCPUs(a)}
	if text := a.getenv("QOSCTL_SPEC"); text != "" {
		spec, err := decodeSpec(text)
		if err != nil {
			fmt.Fprintf(a.err, "qosctl: QOSCTL_SPEC is left out: %v\n", err) // the agent most likely knows the job
		}
		o.claim.Spec = spec
	}
	return o, nil
}

// publicEnv is the environment that the job may see: without what is between the stand-in and the agent.
func publicEnv(environ []string) []string {
	var env []string
	for _, e := range environ {
		name, _, _ := strings.Cut(e, "=")
		switch name {
		case "QOSCTL_SECRET", "QOSCTL_SPEC", "QOSCTL_SOCKET", framework.EnvNodeSocket:
		default:
			env = append(env, e)
		}
	}
	return env
}

// taskCPUs is what the framework says that it gave this task; 0: it says nothing.
func taskCPUs(a *app) float64 {
	for _, name := range []string{"MARATHON_APP_RESOURCE_CPUS", "CHRONOS_RESOURCE_CPU"} {
		if f, err := strconv.ParseFloat(a.getenv(name), 64); err == nil && f > 0 && f < 1e6 {
			return f
		}
	}
	return 0
}

// decodeSpec undoes base64(gzip(JSON)).
func decodeSpec(text string) ([]byte, error) {
	packed, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return nil, err
	}
	z, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		return nil, err
	}
	spec, err := io.ReadAll(io.LimitReader(z, maxSpec+1))
	if err != nil {
		return nil, err
	}
	if len(spec) > maxSpec {
		return nil, errors.New("it is too long")
	}
	return spec, nil
}
