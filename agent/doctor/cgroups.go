package doctor

import (
	"context"

	"qosctl/agent/api"
	"qosctl/cgroup"
)

// Cgroups says where cgroups are, and what is wanted of them.
type Cgroups struct {
	Root, Proc, Parent string
	Observe            bool // nothing is to be written
}

// Probe looks at the hierarchies, the cpu controller and the rights.
func (c Cgroups) Probe() Probe {
	return Probe{Entry: CgroupHierarchy, Look: func(context.Context) []api.Check { return c.look() }}
}

func (c Cgroups) look() []api.Check {
	fs, err := cgroup.New(cgroup.Options{Root: c.Root, Proc: c.Proc})
	if err != nil {
		return []api.Check{
			CgroupHierarchy.fault("", "no cgroups that an agent can use", err, ""),
			CgroupCPU.skip("", "there are no cgroups"), CgroupWrite.skip("", "there are no cgroups"),
		}
	}
	list := []api.Check{CgroupHierarchy.ok("", "cgroup %s at %s", fs.Mode(), fs.Root())}
	if err := fs.Quotas(c.Parent); err != nil {
		list = append(list, CgroupCPU.fault("", "jobs' CPU can't be limited", err, ""))
	} else {
		list = append(list, CgroupCPU.ok("", "the cpu controller takes quotas"))
	}
	err = fs.AccessBelow(c.Parent)
	switch {
	case err == nil:
		list = append(list, CgroupWrite.ok("", "cgroups can be made below %s", c.Parent))
	case c.Observe:
		list = append(list, CgroupWrite.warn("", "cgroups can't be made below "+c.Parent+"; control.mode is observe, so only plain processes of jobs need it", err, ""))
	default:
		list = append(list, CgroupWrite.fault("", "cgroups can't be made below "+c.Parent, err, ""))
	}
	return list
}
