package cli

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"qosctl/agent"
	"qosctl/agent/api"
	"qosctl/agent/bundle"
)

// explained are the jobs that a bundle explains: those that have not ended, then the newest.
func explained(jobs []api.Job) []api.Job {
	list := slices.Clone(jobs)
	slices.SortStableFunc(list, func(x, y api.Job) int {
		if a, b := x.Phase.Terminal(), y.Phase.Terminal(); a != b {
			if b {
				return -1
			}
			return 1
		}
		return cmp.Or(y.Submitted.Compare(x.Submitted), strings.Compare(x.ID, y.ID))
	})
	list = slices.DeleteFunc(list, func(j api.Job) bool {
		return j.ID == "" || strings.ContainsAny(j.ID, `/\`) || strings.Contains(j.ID, "..")
	})
	return list[:min(len(list), mostJobs)]
}

// hostParts are what is seen from outside the agent.
func hostParts(cfg agent.Config, lines int) []bundle.Part {
	return []bundle.Part{
		{Name: "journal.txt", Collect: func(ctx context.Context) ([]byte, error) {
			return output(ctx, "journalctl", "--no-pager", "--output=short-iso-precise", "--lines="+strconv.Itoa(lines),
				"--unit=qosctl-agent.service", "--unit=qosctl-dump.socket", "--unit=qosctl-dump@*.service", "--unit=qosctl-job.socket", "--unit=qosctl-job@*.service")
		}},
		{Name: "system.txt", Collect: system},
		{Name: "cgroups.txt", Collect: func(context.Context) ([]byte, error) { return cgroupLayout(cfg.Cgroup) }},
	}
}

// output runs a program and returns what it writes, an error with it.
func output(ctx context.Context, argv ...string) ([]byte, error) {
	path, err := exec.LookPath(argv[0])
	if err != nil {
		return nil, fmt.Errorf("there is no %s here", argv[0])
	}
	cmd := exec.CommandContext(ctx, path, argv[1:]...)
	cmd.WaitDelay = time.Second
	text, err := cmd.CombinedOutput()
	if err != nil {
		err = fmt.Errorf("%s: %w", strings.Join(argv, " "), err)
	}
	return text, err
}

// system is versions and load; what is not there is said in its place.
func system(ctx context.Context) ([]byte, error) {
	var b bytes.Buffer
	for _, file := range []string{"/etc/os-release", "/proc/version", "/proc/loadavg", "/proc/meminfo", "/proc/pressure/cpu", "/proc/pressure/memory", "/proc/pressure/io", "/proc/swaps"} {
		text, err := os.ReadFile(file)
		section(&b, file, text, err)
	}
	for _, argv := range [][]string{
		{"docker", "version"},
		{"containerd", "--version"},
		{"runc", "--version"},
		{"criu", "--version"},
		{"systemctl", "--version"},
		{"systemctl", "status", "--no-pager", "--lines=0", "qosctl-agent.service", "qosctl-dump.socket", "qosctl-job.socket", "docker.service"},
		{"df", "-h"},
	} {
		within, stop := context.WithTimeout(ctx, 5*time.Second)
		text, err := output(within, argv...)
		stop()
		section(&b, strings.Join(argv, " "), text, err)
	}
	return b.Bytes(), ctx.Err()
}

func section(b *bytes.Buffer, title string, text []byte, err error) {
	fmt.Fprintf(b, "==> %s\n%s\n", title, bytes.TrimSpace(text))
	if err != nil {
		fmt.Fprintf(b, "(%v)\n", err)
	}
	b.WriteByte('\n')
}

// mostCgroups bounds the cgroups that are listed.
const mostCgroups = 2000

// cgroupLayout is how hierarchies are mounted, and what stands below our parent in each.
func cgroupLayout(c agent.CgroupConfig) ([]byte, error) {
	var b bytes.Buffer
	text, err := os.ReadFile(filepath.Join(c.Proc, "cgroups"))
	section(&b, filepath.Join(c.Proc, "cgroups"), text, err)
	mounts, err := os.ReadFile(filepath.Join(c.Proc, "self/mountinfo"))
	if err != nil {
		return b.Bytes(), err
	}
	var errs []error
	count := 0
	for line := range strings.Lines(string(mounts)) {
		fields := strings.Fields(line)
		if len(fields) < 5 || !strings.Contains(line, " - cgroup") {
			continue
		}
		b.WriteString(line)
		errs = append(errs, listCgroups(&b, filepath.Join(fields[4], c.Parent), &count))
	}
	return b.Bytes(), errors.Join(errs...)
}

// limits are the files of a cgroup that are shown.
var limits = []string{"cpu.cfs_quota_us", "cpu.cfs_period_us", "cpu.shares", "cpu.max", "cpu.weight", "cpuset.cpus", "memory.limit_in_bytes", "memory.max", "freezer.state", "cgroup.freeze", "cgroup.controllers", "cgroup.subtree_control"}

// listCgroups lists the cgroups at and below dir, each with its processes and limits.
func listCgroups(b *bytes.Buffer, dir string, count *int) error {
	return filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		switch {
		case errors.Is(err, fs.ErrNotExist): // never made, or just removed
			return nil
		case err != nil:
			return err
		case !d.IsDir():
			return nil
		}
		if *count++; *count > mostCgroups {
			return fmt.Errorf("more than %d cgroups", mostCgroups)
		}
		fmt.Fprintf(b, "  %s", path)
		if text, err := os.ReadFile(filepath.Join(path, "cgroup.procs")); err == nil {
			fmt.Fprintf(b, " procs=[%s]", strings.Join(strings.Fields(string(text)), " "))
		}
		for _, name := range limits {
			if text, err := os.ReadFile(filepath.Join(path, name)); err == nil {
				fmt.Fprintf(b, " %s=%q", name, strings.TrimSpace(string(text)))
			}
		}
		b.WriteByte('\n')
		return nil
	})
}
