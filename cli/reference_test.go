package cli

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"
)

// everyCommand lists a command and all below it.
func everyCommand(c *cobra.Command) []*cobra.Command {
	list := []*cobra.Command{c}
	for _, sub := range c.Commands() {
		list = append(list, everyCommand(sub)...)
	}
	return list
}

// reference is docs/cli.md.
func reference(root *cobra.Command) string {
	var b strings.Builder
	b.WriteString("# The commands\n\nThis page is written by `go test ./cli -run TestEveryCommandIsDocumented -update`.\n")
	for _, c := range everyCommand(root) {
		if c.Hidden || c.Name() == "help" || !c.IsAvailableCommand() && c != root && c.Name() != "exit-codes" {
			continue
		}
		long := c.Long
		if long == "" {
			long = c.Short + "."
		}
		if c.Name() == "exit-codes" {
			fmt.Fprintf(&b, "\n## qosctl help exit-codes\n\n```\n%s```\n", c.Long)
			continue
		}
		fmt.Fprintf(&b, "\n## %s\n\n%s\n", c.CommandPath(), long)
		if c.Runnable() && c != root && !c.HasSubCommands() {
			fmt.Fprintf(&b, "\n```\n%s\n```\n", c.UseLine())
		}
		if c.Example != "" {
			fmt.Fprintf(&b, "\nExamples:\n\n```\n%s\n```\n", c.Example)
		}
		if flags := c.LocalFlags(); flags.HasAvailableFlags() {
			fmt.Fprintf(&b, "\nFlags:\n\n```\n%s```\n", flags.FlagUsages())
		}
	}
	return b.String()
}
