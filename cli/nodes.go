package cli

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"qosctl/agent/api"
)

func newNodesCmd(a *app) *cobra.Command {
	var f form
	cmd := &cobra.Command{
		Use:   "nodes",
		Short: "List the nodes of the cluster",
		Long: `List the nodes of the cluster as the node that answers sees them; it is marked by an asterisk. FREE are the CPUs that are neither
sold nor lent, OWNED the jobs that a node looks after, for a node that is gone too. Nodes of one CLASS can restore each other's
checkpoints.`,
		Example: "  qosctl nodes\n  qosctl nodes -o json",
		Args:    args(cobra.NoArgs),
		RunE: run(func(cmd *cobra.Command, _ []string) error {
			return a.runNodes(cmd.Context(), f)
		}),
	}
	addForm(cmd, &f)
	return cmd
}

func (a *app) runNodes(ctx context.Context, f form) error {
	c, err := a.client(ctx)
	if err != nil {
		return err
	}
	defer c.Close()
	list, err := c.Nodes(ctx)
	if err != nil {
		return err
	}
	slices.SortFunc(list.Nodes, func(x, y api.Peer) int { return cmp.Compare(x.Name, y.Name) })
	if list.Nodes == nil {
		list.Nodes = []api.Peer{}
	}
	return f.print(a.out, list, func(w io.Writer) error { return nodesTable(w, list, time.Now()) })
}

func nodesTable(w io.Writer, list api.PeerList, now time.Time) error {
	rows := []string{row("NODE", "STATE", "CPUS", "FREE", "JOBS", "OWNED", "CLASS", "VERSION", "ADDRESS", "NOTE")}
	for _, n := range list.Nodes {
		name := n.Name
		if n.Here {
			name += "*"
		}
		rows = append(rows, row(name, nodeState(n, now), cores(n.CPUs), cores(n.Headroom), strconv.Itoa(n.Jobs), strconv.Itoa(n.Owned),
			shortID(n.Class), n.Version, n.Address, nodeNote(n)))
	}
	if err := table(w, rows...); err != nil {
		return err
	}
	var text []string
	if list.Alone {
		text = append(text, "this agent is alone: cluster.key_file in the configuration makes it one of several")
	}
	if !list.Settled {
		text = append(text, "this node has not heard all of its peers yet: it takes nothing over")
	}
	if !list.Quorate {
		text = append(text, "this node sees less than half of the nodes that it knew: it takes nothing over")
	}
	for _, t := range text {
		if _, err := fmt.Fprintln(w, t); err != nil {
			return err
		}
	}
	return nil
}

// nodeState is a node's state, and since when it is not alive.
func nodeState(n api.Peer, now time.Time) string {
	if n.State == "alive" || n.Since.IsZero() {
		return n.State
	}
	return n.State + " for " + span(now.Sub(n.Since))
}

// nodeNote says what is special about a node.
func nodeNote(n api.Peer) string {
	var notes []string
	if n.Draining != "" {
		notes = append(notes, "draining: "+n.Draining)
	}
	if n.Held != "" {
		notes = append(notes, "on hold: "+n.Held)
	}
	return strings.Join(notes, "; ")
}

// completeNodes completes names of nodes, as the only argument or as a flag's value.
func (a *app) completeNodes(cmd *cobra.Command, args []string, toComplete string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	c, err := a.client(cmd.Context())
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(cmd.Context(), 2*time.Second)
	defer cancel()
	list, err := c.Nodes(ctx)
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	var names []string
	for _, n := range list.Nodes {
		if strings.HasPrefix(n.Name, toComplete) {
			names = append(names, n.Name+"\t"+n.State)
		}
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}

// completeNodeFlag completes a flag with names of nodes.
func (a *app) completeNodeFlag(cmd *cobra.Command, flag string) {
	complete := func(cmd *cobra.Command, _ []string, toComplete string) ([]string, cobra.ShellCompDirective) {
		return a.completeNodes(cmd, nil, toComplete)
	}
	if err := cmd.RegisterFlagCompletionFunc(flag, complete); err != nil {
		panic(err) // the flag was made by the caller
	}
}
