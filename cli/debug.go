package cli

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"qosctl/agent"
	"qosctl/agent/api"
	"qosctl/agent/bundle"
)

func newDebugCmd(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "debug",
		Short:   "Gather what is needed to find a fault",
		Example: "  sudo qosctl debug bundle",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 0 {
				return &usageError{fmt.Errorf("unknown command %q", "debug "+args[0]), "it is `qosctl debug bundle`"}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newBundleCmd(a))
	return cmd
}

type bundleOpts struct {
	file   string
	lines  int
	config configOpts
}

func newBundleCmd(a *app) *cobra.Command {
	var o bundleOpts
	cmd := &cobra.Command{
		Use:   "bundle",
		Short: "Write a debug bundle: one file for whoever is to find a fault",
		Long: `Write one tar.gz (mode 0600) with the versions, the configuration in force, what the doctor finds, the cluster, the jobs and why each was
treated as it was, metrics, the last lines of the agent's journal, the cgroups, and the agent's goroutines, heap and store. Secrets are masked: by
their values (those of the files that the configuration names, as far as they can be read), by the names of their keys, and every value of a job's
environment. Each part is bounded in size and time; one that fails is noted in manifest.json, and the rest is there. Nothing is sent anywhere. Look
through it before you hand it on: names of jobs, nodes and users, addresses and command lines are in it.

Run it as root: others can read neither the journal nor the files whose secrets are to be looked for.`,
		Example: "  sudo qosctl debug bundle\n  sudo qosctl debug bundle -o /tmp/bundle.tar.gz --lines 20000",
		Args:    args(cobra.NoArgs),
		RunE: run(func(cmd *cobra.Command, _ []string) error {
			return a.runBundle(cmd.Context(), o)
		}),
	}
	cmd.Flags().StringVarP(&o.file, "output", "o", "", "file to write (default: qosctl-debug-HOST-TIME.tar.gz here)")
	cmd.Flags().IntVar(&o.lines, "lines", 5000, "of the journal, the last")
	o.config.add(cmd)
	return cmd
}

func (a *app) runBundle(ctx context.Context, o bundleOpts) error {
	if o.lines < 0 || o.lines > 1_000_000 {
		return &usageError{fmt.Errorf("--lines must be between 0 and 1000000 (got %d)", o.lines), ""}
	}
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	now := time.Now()
	name := "qosctl-debug-" + host + "-" + now.UTC().Format("20060102T150405Z")
	if o.file == "" {
		o.file = name + ".tar.gz"
	}
	c, err := a.client(ctx)
	if err != nil {
		return err
	}
	defer c.Close()
	cfg, cfgErr := o.config.load(a.environ)
	if cfgErr != nil {
		cfg = agent.Default()
	}
	mask, notes := a.masker(cfg)
	if cfgErr != nil {
		notes = append(notes, "the configuration file can't be used, so that the values of the secrets that it names are not known: "+cfgErr.Error())
	}
	parts := append(a.agentParts(ctx, c, cfg, o), hostParts(cfg, o.lines)...)
	m, err := bundle.Write(ctx, o.file, parts, bundle.Options{Masker: mask, Root: name, Now: now, Notes: notes})
	if err != nil {
		return err
	}
	return a.reportBundle(o.file, m)
}

func (a *app) reportBundle(file string, m bundle.Manifest) error {
	var b strings.Builder
	for _, p := range m.Parts {
		switch {
		case p.Error != "":
			fmt.Fprintf(&b, "without %s: %s\n", p.Name, strings.ReplaceAll(p.Error, "\n", "; "))
		case p.Cut:
			fmt.Fprintf(&b, "only the beginning of %s\n", p.Name)
		}
	}
	for _, n := range m.Notes {
		fmt.Fprintf(&b, "note: %s\n", n)
	}
	info, err := os.Stat(file)
	if err != nil {
		return err
	}
	fmt.Fprintf(&b, "%s: %.1f MiB. Look through it before you hand it on.\n", filepath.Clean(file), float64(info.Size())/(1<<20))
	_, err = fmt.Fprint(a.out, b.String())
	return err
}

// masker knows the secrets that this command can read.
func (a *app) masker(cfg agent.Config) (m *bundle.Masker, notes []string) {
	m = bundle.NewMasker()
	files := cfg.SecretFiles()
	for _, f := range files {
		if err := m.AddFile(f.Path); err != nil {
			notes = append(notes, fmt.Sprintf("the secret of %s could not be read, so that its value was not looked for: %v", f.Key, err))
		}
	}
	for _, path := range []string{a.tokenFile, a.getenv("QOSCTL_TOKEN_FILE")} {
		if path != "" {
			_ = m.AddFile(path) // without it no agent would answer
		}
	}
	return m, notes
}

// mostJobs bounds the jobs that are explained; those that run come first, then the newest.
const mostJobs = 200

// agentParts are what the agent tells. Of one that does not answer each part is an error.
func (a *app) agentParts(ctx context.Context, c *api.Client, cfg agent.Config, o bundleOpts) []bundle.Part {
	parts := []bundle.Part{
		jsonPart("version.json", func(context.Context) (any, error) { return thisVersion(), nil }),
		jsonPart("node.json", func(ctx context.Context) (any, error) { return c.Node(ctx) }),
		{Name: "config.yaml", Kind: bundle.YAML, Collect: func(ctx context.Context) ([]byte, error) {
			text, err := c.DebugConfig(ctx)
			if err == nil {
				return text, nil
			}
			file, ferr := cfg.YAML()
			if ferr != nil {
				return nil, ferr
			}
			return file, fmt.Errorf("this is the configuration file's: %w", err)
		}},
		jsonPart("doctor.json", func(ctx context.Context) (any, error) { return a.examined(ctx, doctorOpts{config: o.config}) }),
		jsonPart("nodes.json", func(ctx context.Context) (any, error) { return c.Nodes(ctx) }),
		jsonPart("hold.json", func(ctx context.Context) (any, error) { return c.Holds(ctx) }),
		jsonPart("checkpoints.json", func(ctx context.Context) (any, error) { return c.Checkpoints(ctx, "", false) }),
		{Name: "metrics.txt", Collect: c.Metrics},
		jsonPart("state.json", func(ctx context.Context) (any, error) { return c.DebugState(ctx) }),
		{Name: "goroutines.txt", Collect: func(ctx context.Context) ([]byte, error) { return c.Profile(ctx, "goroutine", 2) }},
		{Name: "heap.txt", Collect: func(ctx context.Context) ([]byte, error) { return c.Profile(ctx, "heap", 1) }},
	}
	within, stop := context.WithTimeout(ctx, jobsTime)
	defer stop()
	jobs, err := c.Jobs(within, true)
	parts = append(parts, jsonPart("jobs.json", func(context.Context) (any, error) { return jobs, err }))
	for _, j := range explained(jobs) {
		parts = append(parts, jsonPart("explain/"+j.ID+".json", func(ctx context.Context) (any, error) { return c.Explain(ctx, j.ID) }))
	}
	return parts
}

const jobsTime = 15 * time.Second

// jsonPart is a part that is a value.
func jsonPart(name string, get func(context.Context) (any, error)) bundle.Part {
	return bundle.Part{Name: name, Kind: bundle.JSON, Collect: func(ctx context.Context) ([]byte, error) {
		v, err := get(ctx)
		if err != nil {
			return nil, err
		}
		var b strings.Builder
		err = printJSON(&b, v)
		return []byte(b.String()), err
	}}
}
