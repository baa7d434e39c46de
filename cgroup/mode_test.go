package cgroup

import (
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestMountsTellWhereEachControllerIs(t *testing.T) {
	t.Parallel()
	const sys = "/sys/fs/cgroup"
	for _, tc := range []struct {
		name, file, text string
		want             map[string]hierarchy
	}{
		{"debian 9", "testdata/v1-debian9/proc/self/mountinfo", "", map[string]hierarchy{
			"cpu": {dir: sys + "/cpu,cpuacct"}, "cpuacct": {dir: sys + "/cpu,cpuacct"}, "freezer": {dir: sys + "/freezer"},
			"memory": {dir: sys + "/memory"}, "": {},
		}},
		{"v2", "testdata/v2-6.1/proc/self/mountinfo", "", map[string]hierarchy{"": {dir: sys, unified: true}, "cpu": {}}},
		{"hybrid", "testdata/hybrid/proc/self/mountinfo", "", map[string]hierarchy{
			"cpu": {dir: sys + "/cpu"}, "cpuacct": {dir: sys + "/cpuacct"}, "": {dir: sys + "/unified", unified: true},
		}},
		{
			"a container without a cgroup namespace", "",
			"1 2 0:1 /docker/abc /sys/fs/cgroup/cpu,cpuacct ro,nosuid - cgroup cgroup rw,cpu,cpuacct\n",
			map[string]hierarchy{"cpu": {dir: sys + "/cpu,cpuacct", prefix: "/docker/abc"}},
		},
		{
			"a part of it mounted besides", "",
			"1 2 0:1 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n1 2 0:1 /x /sys/fs/cgroup/part rw - cgroup cgroup rw,cpu\n",
			map[string]hierarchy{"cpu": {dir: sys + "/cpu"}},
		},
		{
			"others and broken lines", "",
			"nonsense\n1 2 - cgroup\n1 2 0:1 / /elsewhere/cpu rw - cgroup cgroup rw,cpu\n1 2 0:1 / /sys/fs/cgroupish/cpu rw - cgroup cgroup rw,cpu\n1 2 0:1 / /sys/fs/cgroup/x rw - tmpfs t rw\n",
			map[string]hierarchy{"cpu": {}},
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			b := []byte(tc.text)
			if tc.file != "" {
				var err error
				if b, err = os.ReadFile(tc.file); err != nil {
					t.Fatal(err)
				}
			}
			got := map[string]*hierarchy{}
			fromMountinfo(b, sys, got)
			for name, want := range tc.want {
				have := hierarchy{}
				if got[name] != nil {
					have = *got[name]
				}
				if d := cmp.Diff(want, have, cmp.AllowUnexported(hierarchy{})); d != "" {
					t.Errorf("%q: %s", name, d)
				}
			}
		})
	}
}

func TestMountPointsAreUnescaped(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{`/a\040b`: "/a b", `/a\134`: `/a\`, `\04`: `\04`, `\999`: `\999`, "": ""} {
		if got := unescape(in); got != want {
			t.Errorf("unescape(%q) = %q, want %q", in, got, want)
		}
	}
}

func TestPathsOfAPartlyMountedHierarchyAreMadeVisible(t *testing.T) {
	t.Parallel()
	h := hierarchy{prefix: "/docker/abc"}
	for in, want := range map[string]string{"/docker/abc": "/", "/docker/abc/x": "/x", "/docker/abcd": "", "/": ""} {
		got, err := h.visible(in)
		if (err != nil) != (want == "") || got != want {
			t.Errorf("visible(%q) = %q, %v; want %q", in, got, err, want)
		}
	}
}
