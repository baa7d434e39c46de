package cgroup

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/containerd/cgroups/v3"
)

// detect finds the mode and where each controller's hierarchy is mounted.
func (f *FS) detect() error {
	byName := map[string]*hierarchy{} // by controller, and "" for the unified hierarchy
	if !f.fromMounts(byName) {
		if err := f.fromTree(byName); err != nil {
			return fmt.Errorf("find cgroup hierarchies: %w", err)
		}
	}
	f.mode = f.modeOf(byName)
	unified := byName[""]
	if f.mode == V2 {
		if unified == nil {
			return fmt.Errorf("the cgroup v2 hierarchy is not mounted under %s", f.root)
		}
		f.cpu, f.cpuacct, f.freezer, f.memory, f.cpuset = unified, unified, unified, unified, unified
		return nil
	}
	f.cpu, f.cpuacct = byName["cpu"], byName["cpuacct"]
	f.freezer, f.memory, f.cpuset = byName["freezer"], byName["memory"], byName["cpuset"]
	// A v1 host whose cpu controller was handed to v2 (cgroup_no_v1=cpu,cpuacct) counts and limits there.
	if f.cpu == nil && unified != nil && f.unifiedHas(unified, "cpu") {
		f.cpu, f.cpuacct = unified, unified
	}
	if f.cpu == nil || f.cpuacct == nil || f.cpu.unified != f.cpuacct.unified {
		return fmt.Errorf("no cpu and cpuacct controllers under %s (mount them, or boot without cgroup_disable)", f.root)
	}
	return nil
}

// modeOf names the mode. For the real root the file system's type decides, which a name can't forge; an injected root is judged by what was found.
func (f *FS) modeOf(byName map[string]*hierarchy) Mode {
	if f.root == defaultRoot {
		switch cgroups.Mode() {
		case cgroups.Unified:
			return V2
		case cgroups.Hybrid:
			return Hybrid
		}
	}
	switch unified := byName[""]; {
	case unified == nil:
		return V1
	case unified.dir == f.root:
		return V2
	}
	return Hybrid
}

// fromMounts takes the hierarchies that are mounted at or below the root. It is false when there are none: a fixture, or a /proc that can't be read.
func (f *FS) fromMounts(byName map[string]*hierarchy) bool {
	b, err := os.ReadFile(filepath.Join(f.proc, "self/mountinfo"))
	if err != nil {
		f.log.Debug("mounts can't be read, looking at the tree", "err", err)
		return false
	}
	return fromMountinfo(b, f.root, byName)
}

func fromMountinfo(b []byte, root string, byName map[string]*hierarchy) bool {
	for _, m := range parseMountinfo(b) {
		if _, ok := cutDir(m.point, root); !ok || strings.Contains(m.root, "..") {
			continue
		}
		h := &hierarchy{dir: m.point, unified: m.unified}
		if m.root != "/" {
			h.prefix = m.root
		}
		names := []string{""}
		if !m.unified {
			names = strings.Split(m.options, ",")
		}
		for _, n := range names {
			// A whole hierarchy is better than a part that is mounted beside it.
			if old := byName[n]; old == nil || old.prefix != "" || h.prefix == "" && old.dir == h.dir {
				byName[n] = h
			}
		}
	}
	return len(byName) > 0
}

// fromTree judges by names: v2 has cgroup.controllers at its root, v1 a directory per hierarchy, named by its controllers.
func (f *FS) fromTree(byName map[string]*hierarchy) error {
	if exists(filepath.Join(f.root, "cgroup.controllers")) {
		byName[""] = &hierarchy{dir: f.root, unified: true}
		return nil
	}
	entries, err := os.ReadDir(f.root)
	if err != nil {
		return err
	}
	byDir := map[string]*hierarchy{}
	for _, e := range entries {
		// cpu and cpuacct are links to cpu,cpuacct where both are mounted together.
		dir, err := filepath.EvalSymlinks(filepath.Join(f.root, e.Name()))
		if err != nil {
			continue
		}
		if st, err := os.Stat(dir); err != nil || !st.IsDir() {
			continue
		}
		h := byDir[dir]
		if h == nil {
			h = &hierarchy{dir: dir, unified: exists(filepath.Join(dir, "cgroup.controllers"))}
			byDir[dir] = h
		}
		if h.unified {
			byName[""] = h
			continue
		}
		for n := range strings.SplitSeq(e.Name(), ",") {
			byName[n] = h
		}
	}
	if len(byName) == 0 {
		return errors.New("nothing is mounted under " + f.root)
	}
	return nil
}

// unifiedHas reports whether a v2 hierarchy has a controller.
func (f *FS) unifiedHas(h *hierarchy, controller string) bool {
	b, err := os.ReadFile(filepath.Join(h.dir, "cgroup.controllers"))
	return err == nil && slices.Contains(strings.Fields(string(b)), controller)
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
