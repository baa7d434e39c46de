package cgroup

import (
	"bytes"
	"strings"
)

// mount is one cgroup mount of /proc/PID/mountinfo.
type mount struct {
	root    string // the cgroup that is mounted
	point   string // where
	unified bool   // cgroup2
	options string // of the super block: v1 lists its controllers here
}

// parseMountinfo finds the cgroup mounts. Lines that it doesn't understand are no cgroup mounts.
// A line is "31 30 0:28 / /sys/fs/cgroup/cpu rw,relatime shared:9 - cgroup cgroup rw,cpu".
func parseMountinfo(b []byte) []mount {
	var out []mount
	for line := range bytes.Lines(b) {
		before, after, ok := bytes.Cut(line, []byte(" - "))
		if !ok {
			continue
		}
		left, right := bytes.Fields(before), bytes.Fields(after)
		if len(left) < 6 || len(right) < 3 {
			continue
		}
		kind := string(right[0])
		if kind != "cgroup" && kind != "cgroup2" {
			continue
		}
		out = append(out, mount{
			root: unescape(string(left[3])), point: unescape(string(left[4])),
			unified: kind == "cgroup2", options: string(right[2]),
		})
	}
	return out
}

// unescape turns the kernel's \040 back into the byte that it stands for.
func unescape(s string) string {
	if !strings.Contains(s, `\`) {
		return s
	}
	var out strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) && octal(s[i+1]) && octal(s[i+2]) && octal(s[i+3]) {
			out.WriteByte((s[i+1]-'0')<<6 | (s[i+2]-'0')<<3 | (s[i+3] - '0'))
			i += 3
			continue
		}
		out.WriteByte(s[i])
	}
	return out.String()
}

func octal(c byte) bool { return c >= '0' && c <= '7' }
