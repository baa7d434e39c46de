package doctor

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"qosctl/agent/api"
)

// version is the first two numbers of a version; what is not there is 0.
type version [2]int

func (v version) before(w version) bool { return v[0] < w[0] || v[0] == w[0] && v[1] < w[1] }

// parseVersion reads the numbers that a text begins with, as "6.12.0-1-amd64" does; false: none.
func parseVersion(text string) (v version, ok bool) {
	text = strings.TrimLeft(text, "v ")
	for i, part := range strings.SplitN(text, ".", 3)[:min(2, strings.Count(text, ".")+1)] {
		digits := part
		if end := strings.IndexFunc(part, func(r rune) bool { return r < '0' || r > '9' }); end >= 0 {
			digits = part[:end]
		}
		n, err := strconv.Atoi(digits)
		if err != nil {
			return v, i > 0
		}
		v[i] = n
	}
	return v, true
}

// Kernel looks at the kernel's release, and at what CRIU needs of it.
func Kernel(proc string) []Probe {
	return []Probe{
		{Entry: KernelVersion, Look: func(context.Context) []api.Check { return []api.Check{kernelVersion(proc)} }},
		{Entry: KernelRestore, Look: func(context.Context) []api.Check { return []api.Check{kernelRestore(proc)} }},
	}
}

func kernelVersion(proc string) api.Check {
	text, err := os.ReadFile(filepath.Join(proc, "sys/kernel/osrelease"))
	release := strings.TrimSpace(string(text))
	v, ok := parseVersion(release)
	switch {
	case err != nil:
		return KernelVersion.warn("", "the kernel's release can't be read", err, "cgroup.proc in the configuration says where /proc is")
	case !ok:
		return KernelVersion.warn("", fmt.Sprintf("the kernel's release, %q, can't be understood", release), nil, "")
	case v.before(version{3, 10}):
		return KernelVersion.fault("", "Linux "+release+" is too old", errors.New("cgroups, namespaces and CRIU need 3.10"), "")
	case v.before(version{4, 9}):
		return KernelVersion.warn("", "Linux "+release+" is older than any that this was tested on", nil, "")
	}
	return KernelVersion.ok("", "Linux %s", release)
}

func kernelRestore(proc string) api.Check {
	if _, err := os.Stat(filepath.Join(proc, "sys/kernel/ns_last_pid")); err != nil {
		return KernelRestore.warn("", "the kernel was made without CONFIG_CHECKPOINT_RESTORE: jobs can't be checkpointed", err, "")
	}
	return KernelRestore.ok("", "the kernel can restore processes")
}
