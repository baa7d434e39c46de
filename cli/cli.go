package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"qosctl/agent/api"
	"qosctl/ckpt/ociruntime"
	"qosctl/qos"
)

// The groups of the short help.
const (
	groupJobs = "jobs"
	groupMore = "more"
)

// app is what all commands share: where they read and print, and which agent they talk to.
type app struct {
	in        io.Reader
	out, err  io.Writer
	environ   []string
	agent     string // --agent
	tokenFile string // --token-file
	ca        string // --ca
	cert, key string // --cert, --key
}

// Main runs the command line of this process and returns its exit code.
func Main() int {
	if filepath.Base(os.Args[0]) == ociruntime.Name { // Docker calls it so: nothing else is to be done then
		return ociruntime.Main(os.Args[1:], os.Stderr)
	}
	cobra.EnableCommandSorting = false // the help shows the order in which a job lives
	a := &app{in: os.Stdin, out: os.Stdout, err: os.Stderr, environ: os.Environ()}
	return a.main(context.Background(), os.Args[1:])
}

// Commands is the whole command line, for what is made of it: manual pages and completions. It is not to be run.
func Commands() *cobra.Command {
	return (&app{in: strings.NewReader(""), out: io.Discard, err: io.Discard}).rootCmd()
}

func (a *app) main(ctx context.Context, args []string) int {
	root := a.rootCmd() //nolint:contextcheck // commands get theirs when they run
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	a.report(err)
	return exitCodeOf(err)
}

// getenv looks a variable up.
func (a *app) getenv(key string) string {
	for _, e := range slices.Backward(a.environ) {
		if v, ok := strings.CutPrefix(e, key+"="); ok {
			return v
		}
	}
	return ""
}

// report prints an error: what is wrong, what is wrong in particular, and what to do.
func (a *app) report(err error) {
	if e, ok := errors.AsType[*exitStatus](err); err == nil || ok && e.err == nil || errors.Is(err, context.Canceled) {
		return
	}
	fmt.Fprintf(a.err, "qosctl: %v\n", err)
	if s, ok := errors.AsType[*api.StatusError](err); ok {
		for _, p := range s.Body.Problems {
			fmt.Fprintf(a.err, "  %s\n", problemLine(p))
		}
	}
	if hint := hintOf(err); hint != "" {
		fmt.Fprintf(a.err, "hint: %s\n", hint)
	}
}

// problemLine is an agent's problem in the form that local ones have.
func problemLine(p api.Problem) string {
	return qos.Problem{Path: p.Path, Value: p.Value, Text: p.Text, Remedy: p.Remedy}.Error()
}

func (a *app) rootCmd() *cobra.Command {
	root := &cobra.Command{
		Use:   "qosctl",
		Short: "Keep jobs on Apache Mesos to their deadlines",
		Long: `qosctl keeps jobs on Apache Mesos to their deadlines: a job file for Marathon or Chronos gets a qos block with
the CPU time that the job needs and its deadline, and the agent of the node that runs it gives it the CPU for that.`,
		Example: `  qosctl dev                          # a cluster of one node, to try things out
  qosctl submit job.json --follow     # hand a job in and see how it does
  qosctl explain myjob                # what was decided about it, and why`,
		SilenceErrors: true,
		SilenceUsage:  true,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 0 {
				return &usageError{fmt.Errorf("unknown command %q", args[0]), "`qosctl help` lists the commands"}
			}
			return nil
		},
		RunE:              func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
		CompletionOptions: cobra.CompletionOptions{DisableDefaultCmd: true},
	}
	root.SetIn(a.in)
	root.SetOut(a.out)
	root.SetErr(a.err)
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return &usageError{err, fmt.Sprintf("`%s --help` lists the flags", cmd.CommandPath())}
	})
	root.PersistentFlags().StringVar(&a.agent, "agent", "", "the agent's socket or URL (default: $QOSCTL_AGENT, else the one found on this machine)")
	root.PersistentFlags().StringVar(&a.tokenFile, "token-file", "", "file with the token for an agent's TCP address (default: $QOSCTL_TOKEN_FILE)")
	root.PersistentFlags().StringVar(&a.ca, "ca", "", "file with the authorities that an agent's https address is checked against (default: $QOSCTL_CA, else the system's)")
	root.PersistentFlags().StringVar(&a.cert, "cert", "", "file with the certificate that says who you are to an agent's https address (default: $QOSCTL_CERT)")
	root.PersistentFlags().StringVar(&a.key, "key", "", "file with the key of --cert (default: $QOSCTL_KEY)")
	root.AddGroup(&cobra.Group{ID: groupJobs, Title: "Commands:"}, &cobra.Group{ID: groupMore, Title: "More commands:"})
	a.addCommands(root)
	return root
}

func (a *app) addCommands(root *cobra.Command) {
	jobs := []*cobra.Command{
		newSubmitCmd(a), newJobsCmd(a), newStatusCmd(a), newTopCmd(a),
		newExplainCmd(a), newLogsCmd(a), newCancelCmd(a), newWaitCmd(a),
	}
	more := []*cobra.Command{
		newNodesCmd(a), newUsageCmd(a), newMigrateCmd(a), newDrainCmd(a), newUndrainCmd(a), newHoldCmd(a), newResumeCmd(a), newKeyringCmd(a), newTokenCmd(a), newTLSCmd(a),
		newCheckpointCmd(a), newCheckpointsCmd(a), newRestoreCmd(a), newDoctorCmd(a), newDebugCmd(a), newOCIRuntimeCmd(a),
		newValidateCmd(a), newSimulateCmd(a), newAttachCmd(a), newDetachCmd(a), newConfigCmd(a), newVersionCmd(a),
		newDevCmd(a), newAgentCmd(a), newRunCmd(a), newReleaseCmd(a), newCompletionCmd(a),
	}
	hidden := []*cobra.Command{newShimCmd(a), newDevmesosCmd(a), newGuardCmd(a), newDumpCmd(a), newJobCmd(a)}
	for _, c := range jobs {
		c.GroupID = groupJobs
		root.AddCommand(c)
	}
	for _, c := range more {
		c.GroupID = groupMore
		root.AddCommand(c)
	}
	for _, c := range hidden {
		c.Hidden = true
		root.AddCommand(c)
	}
	root.SetHelpCommandGroupID(groupMore)
	root.AddCommand(&cobra.Command{Use: "exit-codes", Short: "The exit codes of qosctl", Long: exitCodes})
}

// run wraps a command's function: its wrong arguments are wrong use, and SIGINT and SIGTERM end its context.
func run(f func(cmd *cobra.Command, args []string) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM)
		defer stop()
		// A second signal kills, but not one that comes with the first: who is told of its parent's death is told by each of its threads.
		defer context.AfterFunc(ctx, func() { time.AfterFunc(time.Second, stop) })()
		cmd.SetContext(ctx)
		err := f(cmd, args)
		if err != nil && ctx.Err() != nil && cmd.Parent() != nil && errors.Is(err, context.Canceled) {
			return &exitStatus{code: exitInterrupted}
		}
		return err
	}
}

// args wraps a check of positional arguments, so that its error is wrong use.
func args(check cobra.PositionalArgs) cobra.PositionalArgs {
	return func(cmd *cobra.Command, given []string) error {
		if err := check(cmd, given); err != nil {
			return &usageError{err, "use: " + cmd.UseLine()}
		}
		return nil
	}
}
