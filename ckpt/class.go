package ckpt

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// askTime bounds one question to Docker or to a program's --version.
const askTime = 30 * time.Second

// class finds out what this node is. What can't be found out stays empty, and fits only a node where it can't be found out either.
func (k *Keeper) class(ctx context.Context, driver string) Class {
	ctx, stop := context.WithTimeout(ctx, askTime)
	defer stop()
	c := Class{Arch: runtime.GOARCH, Driver: driver}
	var u unix.Utsname
	if err := unix.Uname(&u); err == nil {
		c.Kernel = unix.ByteSliceToString(u.Release[:])
	}
	if b, err := os.ReadFile(filepath.Join(k.proc(), "cpuinfo")); err == nil {
		c.CPU = cpuFeatures(b)
	}
	if out, err := exec.CommandContext(ctx, "criu", "--version").Output(); err == nil {
		c.CRIU = criuVersion(out)
	}
	if k.docker == nil {
		return c
	}
	v, err := k.docker.ServerVersion(ctx)
	if err != nil {
		k.log.Warn("docker does not say its version", "err", err)
		return c
	}
	c.Docker = v.Version
	for _, part := range v.Components {
		if part.Name == "runc" {
			c.Runc = part.Version
		}
	}
	return c
}

// cpuFeatures is the digest of the features that every CPU of /proc/cpuinfo has (flags on x86, Features on ARM); "" if it names none.
func cpuFeatures(cpuinfo []byte) string {
	var common []string
	lines := bufio.NewScanner(bytes.NewReader(cpuinfo))
	lines.Buffer(nil, 1<<20)
	first := true
	for lines.Scan() {
		key, value, ok := strings.Cut(lines.Text(), ":")
		if key = strings.TrimSpace(key); !ok || key != "flags" && key != "Features" {
			continue
		}
		flags := strings.Fields(value)
		slices.Sort(flags)
		if first {
			common, first = slices.Compact(flags), false
			continue
		}
		common = slices.DeleteFunc(common, func(f string) bool {
			_, found := slices.BinarySearch(flags, f)
			return !found
		})
	}
	if first {
		return ""
	}
	return digest([]byte(strings.Join(common, " ")))[:16]
}

// criuVersion reads "Version: 4.1.1".
func criuVersion(out []byte) string {
	for line := range strings.Lines(string(out)) {
		if v, ok := strings.CutPrefix(line, "Version:"); ok {
			return strings.TrimSpace(v)
		}
	}
	return ""
}

// differs says in words what two nodes do not have in common that a restore needs. Docker's own version may differ: it is CRIU and runc that
// read a checkpoint.
func differs(taken, here Class) []string {
	var out []string
	for _, f := range []struct{ name, taken, here string }{
		{"driver", taken.Driver, here.Driver},
		{"architecture", taken.Arch, here.Arch},
		{"CPU features", taken.CPU, here.CPU},
		{"kernel", taken.Kernel, here.Kernel},
		{"CRIU", taken.CRIU, here.CRIU},
		{"runc", taken.Runc, here.Runc},
	} {
		if f.taken != f.here {
			out = append(out, fmt.Sprintf("%s %s, here %s", f.name, cmp.Or(f.taken, "unknown"), cmp.Or(f.here, "unknown")))
		}
	}
	return out
}
