package cli

import (
	"crypto/rand"
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"qosctl/agent"
)

type tokenOpts struct {
	tenant   string
	operator bool
	out      string
}

func newTokenCmd(a *app) *cobra.Command {
	var o tokenOpts
	cmd := &cobra.Command{
		Use:   "token NAME --operator|--tenant TENANT",
		Short: "Make a token for the agents' network address",
		Long: `Make a bearer token for the HTTP API on the network, and print the lines for access.tokens in the agents' configuration: they have its
hash only. An operator's token opens everything; a tenant's the jobs of a Marathon group or a Chronos owner. Whoever has the token
gives it to commands with --token-file.`,
		Example: `  qosctl token alice --operator --out alice.token
  qosctl token team-a --tenant /team-a --out team-a.token`,
		Args: args(cobra.ExactArgs(1)),
		RunE: run(func(_ *cobra.Command, args []string) error {
			return a.runToken(o, args[0])
		}),
	}
	f := cmd.Flags()
	f.StringVar(&o.tenant, "tenant", "", "whose jobs it opens: a Marathon group, as /team-a, or a Chronos owner")
	f.BoolVar(&o.operator, "operator", false, "it opens everything")
	f.StringVar(&o.out, "out", "", "file for the token, made with mode 0600; default: it is printed")
	return cmd
}

func (a *app) runToken(o tokenOpts, name string) error {
	if o.operator == (o.tenant != "") {
		return &usageError{errors.New("a token is either an operator's or a tenant's"), "give --operator or --tenant"}
	}
	token := rand.Text()
	c := agent.Default()
	c.Access.Tokens = map[string]agent.TokenConfig{name: {Hash: agent.HashToken(token), Operator: o.operator, Tenant: o.tenant}}
	if err := c.Validate(); err != nil {
		return &exitStatus{exitInvalid, err}
	}
	if err := a.giveToken(o.out, token); err != nil {
		return err
	}
	whose := "operator: true"
	if o.tenant != "" {
		whose = fmt.Sprintf("tenant: %q", o.tenant)
	}
	_, err := fmt.Fprintf(a.out, "access:\n  tokens:\n    %s: {hash: %q, %s}\n", name, agent.HashToken(token), whose)
	return err
}

// giveToken writes the token to a new file, or prints it.
func (a *app) giveToken(file, token string) (err error) {
	if file == "" {
		_, err := fmt.Fprintf(a.out, "# token: %s\n", token)
		return err
	}
	f, err := os.OpenFile(file, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("write the token: %w", err)
	}
	_, err = fmt.Fprintln(f, token)
	return errors.Join(err, f.Close())
}
