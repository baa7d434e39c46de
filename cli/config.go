package cli

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"qosctl/agent"
)

// systemConfig is read when no --config is given and it is there.
const systemConfig = "/etc/qosctl/agent.yaml"

// configOpts are the flags of every command that needs the agent's configuration.
type configOpts struct {
	path string
	set  []string
}

func (o *configOpts) add(cmd *cobra.Command) {
	cmd.Flags().StringVarP(&o.path, "config", "c", "", "configuration file (default: "+systemConfig+" if it is there)")
	cmd.Flags().StringArrayVar(&o.set, "set", nil, "set a key, as in control.period=2s; may be repeated")
	must(cmd.RegisterFlagCompletionFunc("config", completeFiles("yaml", "yml")))
}

// file is where the configuration is read from; "": there is none.
func (o configOpts) file() string {
	if o.path == "" {
		if _, err := os.Stat(systemConfig); err == nil {
			return systemConfig
		}
	}
	return o.path
}

// load reads and checks the configuration.
func (o configOpts) load(environ []string) (agent.Config, error) {
	path := o.file()
	c, err := agent.Load(path, environ, o.set...)
	if err != nil {
		hint := "docs/qosctl.yaml lists every key"
		if errors.Is(err, fs.ErrNotExist) {
			hint = "give the file with --config; docs/qosctl.yaml is one to begin with"
		}
		return c, &exitStatus{exitInvalid, withHint(err, hint)}
	}
	if err := c.Validate(); err != nil {
		from := path
		if from == "" {
			from = "(defaults)"
		}
		return c, &exitStatus{exitInvalid, withHint(fmt.Errorf("configuration %s:\n  %s", from, strings.ReplaceAll(err.Error(), "\n", "\n  ")), "docs/qosctl.yaml lists every key")}
	}
	return c, nil
}

func newConfigCmd(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "config",
		Short:   "Check or show the agent's configuration",
		Example: "  qosctl config check /etc/qosctl/agent.yaml\n  qosctl config show",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 0 {
				return &usageError{fmt.Errorf("unknown command %q", "config "+args[0]), "it is `qosctl config check` or `qosctl config show`"}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newConfigCheckCmd(a), newConfigShowCmd(a))
	return cmd
}

func newConfigCheckCmd(a *app) *cobra.Command {
	return &cobra.Command{
		Use:               "check FILE",
		Short:             "Check a configuration file; exit code 6 if it has problems",
		Example:           "  qosctl config check /etc/qosctl/agent.yaml",
		Args:              args(cobra.ExactArgs(1)),
		ValidArgsFunction: completeFiles("yaml", "yml"),
		RunE: run(func(_ *cobra.Command, args []string) error {
			c, err := (configOpts{path: args[0]}).load(nil)
			if err != nil {
				return err
			}
			for _, note := range c.Notes() {
				fmt.Fprintf(a.err, "note: %s\n", note)
			}
			_, err = fmt.Fprintf(a.out, "%s: ok\n", args[0])
			return err
		}),
	}
}

func newConfigShowCmd(a *app) *cobra.Command {
	var o configOpts
	cmd := &cobra.Command{
		Use:     "show",
		Short:   "Print the configuration in force: defaults, file, environment and --set; secrets masked",
		Example: "  qosctl config show\n  QOSCTL_CONTROL_MODE=advise qosctl config show --config my.yaml",
		Args:    args(cobra.NoArgs),
		RunE: run(func(*cobra.Command, []string) error {
			c, err := o.load(a.environ)
			if err != nil {
				return err
			}
			data, err := c.YAML()
			if err != nil {
				return err
			}
			_, err = a.out.Write(data)
			return err
		}),
	}
	o.add(cmd)
	return cmd
}
