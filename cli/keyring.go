package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"qosctl/agent"
	"qosctl/agent/api"
)

func newKeyringCmd(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "keyring",
		Short: "The cluster's key: make it, show it by its fingerprint, exchange it",
		Long: `The cluster's key gives the nodes their encryption and their identity. Keys are never shown, only their fingerprints.

To exchange the key of a cluster that runs, each step is taken on all nodes before the next:

  qosctl keyring add                  # all nodes get a new key, and decrypt with it too
  qosctl keyring use FINGERPRINT      # all nodes encrypt with it
  qosctl keyring remove FINGERPRINT   # all nodes forget the old one

A step is refused while a node has not taken the one before. One that failed on some nodes may be taken again.`,
		Example: "  qosctl keyring generate /etc/qosctl/cluster.key\n  qosctl keyring list",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 0 {
				return &usageError{fmt.Errorf("unknown command %q of keyring", args[0]), "`qosctl keyring --help` lists them"}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newKeyringGenerateCmd(a), newKeyringListCmd(a), newKeyringAddCmd(a), newKeyringStepCmd(a, api.KeyUse), newKeyringStepCmd(a, api.KeyRemove))
	return cmd
}

func newKeyringGenerateCmd(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "generate FILE",
		Short: "Make a file with a new key; needs no agent",
		Long: `Make a file with a new key that only its owner may read. It is to be copied to every node of the cluster, and named there by
cluster.key_file. A file that is there already is left as it is.`,
		Example: "  qosctl keyring generate /etc/qosctl/cluster.key",
		Args:    args(cobra.ExactArgs(1)),
		RunE: run(func(_ *cobra.Command, args []string) error {
			mark, err := agent.GenerateKeyFile(args[0])
			if err != nil {
				return keyFileError(err)
			}
			_, err = fmt.Fprintf(a.out, "%s has key %s; copy it to every node, mode 0600\n", args[0], mark)
			return err
		}),
	}
}

// keyFileError gives an error of the file its exit code.
func keyFileError(err error) error {
	if errors.Is(err, os.ErrPermission) {
		return &exitStatus{exitForbidden, err}
	}
	if errors.Is(err, os.ErrExist) {
		return &exitStatus{exitConflict, withHint(err, "`qosctl keyring add` exchanges the key of a cluster that runs")}
	}
	return err
}

func newKeyringListCmd(a *app) *cobra.Command {
	var f form
	cmd := &cobra.Command{
		Use:     "list",
		Short:   "Show which node has which keys, by their fingerprints",
		Long:    "Show which node has which keys, by their fingerprints. The one that encrypts is marked by an asterisk.",
		Example: "  qosctl keyring list\n  qosctl keyring list -o json",
		Args:    args(cobra.NoArgs),
		RunE: run(func(cmd *cobra.Command, _ []string) error {
			return a.runKeyring(cmd.Context(), nil, f)
		}),
	}
	addForm(cmd, &f)
	return cmd
}

func newKeyringAddCmd(a *app) *cobra.Command {
	var (
		f    form
		file string
	)
	cmd := &cobra.Command{
		Use:   "add [FINGERPRINT]",
		Short: "Give all nodes a further key",
		Long: `Give all nodes a further key, which they decrypt with and do not encrypt with yet: a new one that the agent makes, one from a file
(--file; - is standard input), or one that the node has already, by its FINGERPRINT, for nodes that do not have it yet.`,
		Example: `  qosctl keyring add
  qosctl keyring add --file new.key
  qosctl keyring add 3f9a1c                  # again, for nodes that were away`,
		Args:              args(cobra.MaximumNArgs(1)),
		ValidArgsFunction: a.completeKeys,
		RunE: run(func(cmd *cobra.Command, args []string) error {
			c := api.KeyChange{Do: api.KeyAdd}
			switch {
			case len(args) > 0 && file != "":
				return &usageError{errors.New("want either FINGERPRINT or --file"), ""}
			case len(args) > 0:
				c.Fingerprint = args[0]
			case file != "":
				key, err := a.readKey(file)
				if err != nil {
					return err
				}
				c.Key = key
			}
			return a.runKeyring(cmd.Context(), &c, f)
		}),
	}
	cmd.Flags().StringVar(&file, "file", "", "file with the key, in base64 or hex")
	addForm(cmd, &f)
	return cmd
}

func newKeyringStepCmd(a *app, do string) *cobra.Command {
	var (
		f form
		c = api.KeyChange{Do: do}
	)
	cmd := &cobra.Command{
		Use:               do + " FINGERPRINT",
		Args:              args(cobra.ExactArgs(1)),
		ValidArgsFunction: a.completeKeys,
		RunE: run(func(cmd *cobra.Command, args []string) error {
			c.Fingerprint = args[0]
			return a.runKeyring(cmd.Context(), &c, f)
		}),
	}
	switch do {
	case api.KeyUse:
		cmd.Short = "Have all nodes encrypt with a key that all have"
		cmd.Example = "  qosctl keyring use 3f9a1c"
	default:
		cmd.Short = "Have all nodes forget a key that none encrypts with"
		cmd.Example = "  qosctl keyring remove 77b0e2"
	}
	cmd.Flags().BoolVar(&c.Force, "force", false, "also if nodes that do not answer are locked out by it")
	addForm(cmd, &f)
	return cmd
}

// maxKeyFile bounds a file with a key, in bytes.
const maxKeyFile = 4096

// readKey reads the one key of a file. The agent checks it; what is in it is never shown.
func (a *app) readKey(path string) (string, error) {
	in := a.in
	if path != "-" {
		f, err := os.Open(path)
		if err != nil {
			return "", fmt.Errorf("read the key: %w", err)
		}
		defer f.Close()
		in = f
	}
	data, err := io.ReadAll(io.LimitReader(in, maxKeyFile+1))
	if err != nil {
		return "", fmt.Errorf("read the key: %w", err)
	}
	var keys []string
	for line := range strings.Lines(string(data)) {
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "#") {
			keys = append(keys, line)
		}
	}
	if len(keys) != 1 || len(data) > maxKeyFile {
		return "", &usageError{fmt.Errorf("--file: want one key in %s, in at most %d bytes (got %d)", path, maxKeyFile, len(keys)), ""}
	}
	return keys[0], nil
}

// runKeyring takes a step, nil: none, and shows the rings.
func (a *app) runKeyring(ctx context.Context, step *api.KeyChange, f form) error {
	c, err := a.client(ctx)
	if err != nil {
		return err
	}
	defer c.Close()
	var k api.Keyring
	if step == nil {
		k, err = c.Keyring(ctx)
	} else {
		k, err = c.ChangeKeyring(ctx, *step)
	}
	if err != nil {
		return err
	}
	if err := f.print(a.out, k, func(w io.Writer) error { return keyringTable(w, k, step) }); err != nil {
		return err
	}
	failed := 0
	for _, n := range k.Nodes {
		if n.Error != "" {
			failed++
		}
	}
	if step != nil && failed > 0 {
		again := "qosctl keyring " + step.Do + " " + k.Fingerprint
		return withHint(fmt.Errorf("%d of %d nodes have not taken the step", failed, len(k.Nodes)), "take it again when they answer: `"+again+"`")
	}
	return nil
}

func keyringTable(w io.Writer, k api.Keyring, step *api.KeyChange) error {
	rows := []string{row("NODE", "KEYS", "FAULT")}
	for _, n := range k.Nodes {
		var prints []string
		for _, key := range n.Keys {
			if key.Primary {
				key.Fingerprint += "*"
			}
			prints = append(prints, key.Fingerprint)
		}
		rows = append(rows, row(n.Node, strings.Join(prints, " "), n.Error))
	}
	if err := table(w, rows...); err != nil || step == nil {
		return err
	}
	text := map[string]string{
		api.KeyAdd:    "key %[1]s is added; once every node has it: qosctl keyring use %[1]s\n",
		api.KeyUse:    "key %[1]s is in use; once every node uses it, remove the old one: qosctl keyring remove FINGERPRINT\n",
		api.KeyRemove: "key %[1]s is removed\n",
	}[step.Do]
	_, err := fmt.Fprintf(w, text, k.Fingerprint)
	return err
}

// completeKeys completes fingerprints of keys.
func (a *app) completeKeys(cmd *cobra.Command, args []string, toComplete string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	c, err := a.client(cmd.Context())
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	defer c.Close()
	k, err := c.Keyring(cmd.Context())
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	seen := map[string]bool{}
	var list []string
	for _, n := range k.Nodes {
		for _, key := range n.Keys {
			if strings.HasPrefix(key.Fingerprint, toComplete) && !seen[key.Fingerprint] {
				seen[key.Fingerprint] = true
				list = append(list, key.Fingerprint)
			}
		}
	}
	return list, cobra.ShellCompDirectiveNoFileComp
}
