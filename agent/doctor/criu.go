package doctor

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"time"

	"qosctl/agent/api"
	"qosctl/ckpt"
)

// CRIU says what is known of this node's checkpoints.
type CRIU struct {
	Off    string       // why there are none; "": there may be
	Tested bool         // the agent's self-test has come to its end
	Report *ckpt.Report // of the self-test; nil: no agent answers
}

// Probes ask CRIU itself, and tell of the self-test.
func (c CRIU) Probes() []Probe {
	if c.Off != "" {
		return []Probe{Skip(CRIUVersion, c.Off), Skip(Driver, c.Off)}
	}
	list := []Probe{{Entry: CRIUVersion, Look: func(ctx context.Context) []api.Check { return []api.Check{criuVersion(ctx)} }}}
	if c.Report == nil {
		return append(list, Probe{Entry: CRIUCheck, Look: func(ctx context.Context) []api.Check { return []api.Check{criuCheck(ctx)} }},
			Skip(Driver, "the agent finds out when it starts"))
	}
	return append(list, Probe{Entry: SelfTest, Look: func(context.Context) []api.Check { return c.findings() }})
}

var criuSays = regexp.MustCompile(`(?m)^Version: *(\S+)`)

func criuVersion(ctx context.Context) api.Check {
	out, err := exec.CommandContext(ctx, "criu", "--version").CombinedOutput()
	if err != nil {
		return CRIUVersion.warn("", "CRIU can't be called: jobs are resized in place only", said(err, out), "")
	}
	m := criuSays.FindSubmatch(out)
	if m == nil {
		return CRIUVersion.warn("", "criu --version says nothing of a version", errors.New(firstLine(out)), "")
	}
	v, ok := parseVersion(string(m[1]))
	if !ok || v.before(version{3, 11}) {
		return CRIUVersion.warn("", "CRIU "+string(m[1])+" is older than 3.11", nil, "")
	}
	return CRIUVersion.ok("", "CRIU %s", m[1])
}

func criuCheck(ctx context.Context) api.Check {
	if os.Geteuid() != 0 {
		return CRIUCheck.skip("", "only root can ask it")
	}
	if _, err := exec.LookPath("criu"); err != nil {
		return CRIUCheck.skip("", "CRIU is missing")
	}
	cmd := exec.CommandContext(ctx, "criu", "check")
	cmd.WaitDelay = time.Second
	out, err := cmd.CombinedOutput()
	if err != nil {
		return CRIUCheck.warn("", "criu check is not content", said(err, out), "")
	}
	return CRIUCheck.ok("", "%s", firstLine(out))
}

// findings are those of the self-test.
func (c CRIU) findings() []api.Check {
	if !c.Tested {
		return []api.Check{SelfTest.warn("", "it is under way", nil, "ask again in a minute")}
	}
	var list []api.Check
	for _, f := range c.Report.Checks {
		step := SelfTest.ok(f.Name, "%s", f.Text)
		if !f.OK {
			step = SelfTest.warn(f.Name, f.Text, nil, f.Remedy)
		}
		step.Took = f.Took.Seconds()
		list = append(list, step)
	}
	if c.Report.Driver == "" {
		return append(list, Driver.warn("", "jobs of this node are resized in place only", errors.New("no driver has passed the self-test"), ""))
	}
	return append(list, Driver.ok("", "jobs in Docker can be checkpointed, by the driver %s", c.Report.Driver))
}

// said is an error of a program, with what it has written.
func said(err error, out []byte) error {
	if line := firstLine(out); line != "" {
		return errors.New(err.Error() + ": " + line)
	}
	return err
}

// firstLine is what a program said first that is not empty, bounded.
func firstLine(out []byte) string {
	for line := range strings.Lines(string(out)) {
		if line = strings.TrimSpace(line); line != "" {
			return line[:min(len(line), 300)]
		}
	}
	return ""
}
