package ckpt

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// detachBelow unmounts what is mounted in or below a directory. CRIU mounts the cgroup hierarchies in its work directory for a while; one that
// was killed leaves them there, and whoever removed that directory tree would remove other people's cgroups.
func detachBelow(dir string) error {
	b, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return fmt.Errorf("look for mounts below %s: %w", dir, err)
	}
	var points []string
	for line := range bytes.Lines(b) {
		f := strings.Fields(string(line))
		if len(f) < 5 {
			continue
		}
		if p := unescapeMount(f[4]); p == dir || strings.HasPrefix(p, strings.TrimSuffix(dir, "/")+"/") {
			points = append(points, p)
		}
	}
	slices.Sort(points)
	for _, p := range slices.Backward(points) { // the innermost first
		if err := unix.Unmount(p, unix.MNT_DETACH); err != nil && !errors.Is(err, unix.EINVAL) {
			return fmt.Errorf("unmount %s: %w", p, err)
		}
	}
	return nil
}

// unescapeMount undoes the kernel's \040 and the like.
func unescapeMount(s string) string {
	for _, c := range []string{`\040`, `\011`, `\012`, `\134`} {
		n, err := strconv.ParseUint(c[1:], 8, 8)
		if err == nil {
			s = strings.ReplaceAll(s, c, string(rune(n)))
		}
	}
	return s
}

// RemoveAll removes a directory of checkpoints, and what CRIU may have left mounted in it.
func RemoveAll(dir string) error {
	if target, err := filepath.EvalSymlinks(dir); err == nil {
		if err := detachBelow(target); err != nil {
			return err
		}
	}
	return os.RemoveAll(dir)
}
