package ckpt

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/docker/docker/api/types/container"
)

// openedFile is a file descriptor of a process.
type openedFile struct {
	pid      int
	name     string // as the process sees it
	size     int64
	mount    int  // id of its mount
	writable bool // it was opened for writing
	regular  bool
	socket   string // inode of a socket; "": it is none
}

// processes looks at what the container's processes hold: locks, connections, and for a container that goes on running files on volumes,
// which would change under the checkpoint.
func (k *Keeper) processes(o Order, s subject) error {
	if !o.Allow.FileLocks {
		if b, err := os.ReadFile(filepath.Join(k.proc(), "locks")); err == nil {
			if pid := lockOf(b, s.pids); pid != 0 {
				return refuse("process %d holds a lock on a file: checkpoint.file_locks: true lets it be carried over", pid)
			}
		}
	}
	for _, pid := range s.pids {
		dir := filepath.Join(k.proc(), strconv.Itoa(pid))
		files := opened(dir, pid)
		if !o.Allow.TCPEstablished && !o.Allow.TCPClose {
			if err := connections(dir, files); err != nil {
				return err
			}
		}
		if o.Keep && o.Allow.Volumes != "shared" {
			if err := onVolumes(dir, files, s.info.Mounts); err != nil {
				return err
			}
		}
	}
	return nil
}

// lockOf finds a lock of one of pids (sorted) in /proc/locks: "1: FLOCK  ADVISORY  WRITE 708 00:19:1234 0 EOF". 0: none. A line with "->" is
// of a process that waits.
func lockOf(b []byte, pids []int) int {
	for line := range bytes.Lines(b) {
		f := strings.Fields(string(line))
		if len(f) < 6 || f[1] == "->" {
			continue
		}
		pid, err := strconv.Atoi(f[4])
		if err == nil && pid > 0 && slices.Contains(pids, pid) {
			return pid
		}
	}
	return 0
}

// opened lists the file descriptors of the process at dir, /proc/PID. A process that is gone has none.
func opened(dir string, pid int) []openedFile {
	names, err := os.ReadDir(filepath.Join(dir, "fd"))
	if err != nil {
		return nil
	}
	var out []openedFile
	for _, n := range names {
		link := filepath.Join(dir, "fd", n.Name())
		target, err := os.Readlink(link)
		if err != nil {
			continue
		}
		f := openedFile{pid: pid, name: target, mount: -1}
		if s, ok := strings.CutPrefix(target, "socket:["); ok {
			f.socket = strings.TrimSuffix(s, "]")
		} else if fi, err := os.Stat(link); err == nil {
			f.regular, f.size = fi.Mode().IsRegular(), fi.Size()
		}
		if b, err := os.ReadFile(filepath.Join(dir, "fdinfo", n.Name())); err == nil {
			f.writable, f.mount = parseFdinfo(b)
		}
		out = append(out, f)
	}
	return out
}

// parseFdinfo reads "flags:\t0100001" (octal) and "mnt_id:\t23".
func parseFdinfo(b []byte) (writable bool, mount int) {
	mount = -1
	for line := range bytes.Lines(b) {
		key, value, _ := strings.Cut(string(line), ":")
		value = strings.TrimSpace(value)
		switch key {
		case "flags":
			flags, err := strconv.ParseInt(value, 8, 64)
			writable = err == nil && flags&syscall.O_ACCMODE != syscall.O_RDONLY
		case "mnt_id":
			if n, err := strconv.Atoi(value); err == nil {
				mount = n
			}
		}
	}
	return writable, mount
}

// connections refuses TCP connections that CRIU would refuse.
func connections(dir string, files []openedFile) error {
	var sockets []string
	for _, f := range files {
		if f.socket != "" {
			sockets = append(sockets, f.socket)
		}
	}
	if len(sockets) == 0 {
		return nil
	}
	for _, name := range []string{"tcp", "tcp6"} {
		b, err := os.ReadFile(filepath.Join(dir, "net", name))
		if err != nil {
			continue
		}
		if inode := connected(b, sockets); inode != "" {
			return refuse("process %d has an open TCP connection: checkpoint.tcp lets it be kept (keep, if the address stays the same) or closed at the restore (close)", files[0].pid)
		}
	}
	return nil
}

// connected finds one of the sockets, by inode, that is neither listening (0A) nor closed (07) in /proc/PID/net/tcp.
func connected(b []byte, sockets []string) string {
	lines := bufio.NewScanner(bytes.NewReader(b))
	for lines.Scan() {
		f := strings.Fields(lines.Text())
		if len(f) < 10 || f[3] == "0A" || f[3] == "07" || f[3] == "st" {
			continue
		}
		if slices.Contains(sockets, f[9]) {
			return f[9]
		}
	}
	return ""
}

// onVolumes refuses files that are open for writing on binds and volumes.
func onVolumes(dir string, files []openedFile, mounts []container.MountPoint) error {
	b, err := os.ReadFile(filepath.Join(dir, "mountinfo"))
	if err != nil {
		return nil // the process is gone
	}
	points := mountPoints(b)
	var names []string
	for _, f := range files {
		at, ok := points[f.mount]
		if !f.regular || !f.writable || !ok {
			continue
		}
		outside := slices.ContainsFunc(mounts, func(m container.MountPoint) bool {
			return m.Type != "tmpfs" && path.Clean(m.Destination) == at
		})
		if outside {
			names = append(names, fmt.Sprintf("%s (%d bytes)", f.name, f.size))
		}
	}
	if len(names) == 0 {
		return nil
	}
	slices.Sort(names)
	return refuse("open for writing on a bind mount or volume: %s. It would change after the checkpoint; checkpoint.volumes: shared says that the program can bear it",
		strings.Join(slices.Compact(names), ", "))
}

// mountPoints reads /proc/PID/mountinfo: "36 35 98:0 /mnt1 /mnt2 rw …".
func mountPoints(b []byte) map[int]string {
	out := make(map[int]string)
	for line := range bytes.Lines(b) {
		f := strings.Fields(string(line))
		if len(f) < 5 {
			continue
		}
		if id, err := strconv.Atoi(f[0]); err == nil {
			out[id] = unescape(f[4])
		}
	}
	return out
}

// unescape turns the kernel's \040 back into the byte that it stands for.
func unescape(s string) string {
	return strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(s)
}

// resident is how much memory processes have, in bytes, shared pages counted once: Pss of smaps_rollup, else the sum of what each has.
func resident(proc string, pids []int) int64 {
	var sum int64
	for _, pid := range pids {
		dir := filepath.Join(proc, strconv.Itoa(pid))
		if b, err := os.ReadFile(filepath.Join(dir, "smaps_rollup")); err == nil && len(b) > 0 {
			sum += kib(b, "Pss:")
		} else if b, err = os.ReadFile(filepath.Join(dir, "status")); err == nil {
			sum += kib(b, "VmRSS:")
		}
	}
	return sum
}

// kib reads "Pss:   123 kB" as bytes.
func kib(b []byte, key string) int64 {
	for line := range bytes.Lines(b) {
		if f := strings.Fields(string(line)); len(f) >= 2 && f[0] == key {
			if n, err := strconv.ParseInt(f[1], 10, 64); err == nil && n >= 0 && n < 1<<40 {
				return n << 10
			}
		}
	}
	return 0
}
