package ckpt

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
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

// Digest is what nodes tell each other of their class: nodes with the same one can restore each other's checkpoints.
func (c Class) Digest() (d [8]byte) {
	h := sha256.New()
	for _, f := range c.needed() {
		fmt.Fprintf(h, "%s %d %s\n", f.name, len(f.value), f.value)
	}
	copy(d[:], h.Sum(nil))
	return d
}

// Compatible says why a node of class c can't restore a checkpoint that was taken on one of class taken, in words; nil: nothing is known against it.
func (c Class) Compatible(taken Class) error {
	if d := differs(taken, c); len(d) > 0 {
		return refuse("it was taken on another kind of node: %s", strings.Join(d, "; "))
	}
	return nil
}

type feature struct{ name, value string }

// needed is what two nodes must have in common. Docker's own version may differ: it is CRIU and runc that read a checkpoint.
func (c Class) needed() []feature {
	return []feature{{"driver", c.Driver}, {"architecture", c.Arch}, {"CPU features", c.CPU}, {"kernel", c.Kernel}, {"CRIU", c.CRIU}, {"runc", c.Runc}}
}

// differs says in words what two nodes do not have in common that a restore needs.
func differs(taken, here Class) []string {
	var out []string
	other := here.needed()
	for n, f := range taken.needed() {
		if f.value != other[n].value {
			out = append(out, fmt.Sprintf("%s %s, here %s", f.name, cmp.Or(f.value, "unknown"), cmp.Or(other[n].value, "unknown")))
		}
	}
	return out
}
