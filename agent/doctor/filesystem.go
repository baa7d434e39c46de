package doctor

import (
	"bytes"
	"cmp"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// sameFileSystem says whether two directories are on one file system, which the kernel writes back as a whole. The device that stat tells does not
// do: each subvolume of btrfs has one of its own.
func sameFileSystem(a, b string) (bool, error) {
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return false, err
	}
	of := map[string]string{}
	for _, dir := range []string{a, b} {
		if of[dir], err = deviceOf(dir, mounts); err != nil {
			return false, err
		}
	}
	return of[a] == of[b], nil
}

// deviceOf is the device, "8:1", of the file system that a directory is on: by its mount, as mountinfo has it.
func deviceOf(dir string, mounts []byte) (string, error) {
	fd, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return "", &fs.PathError{Op: "open", Path: dir, Err: err}
	}
	defer unix.Close(fd) //nolint:errcheck // nothing was written through it
	info, err := os.ReadFile(fmt.Sprintf("/proc/self/fdinfo/%d", fd))
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(string(info)) {
		if id, ok := strings.CutPrefix(line, "mnt_id:"); ok {
			return cmp.Or(mountDevice(mounts, strings.TrimSpace(id)), "of mount "+id), nil
		}
	}
	return "", fmt.Errorf("/proc does not say on which mount %s is", dir)
}

// mountDevice finds a mount by its id in mountinfo: "36 35 98:0 /mnt1 /mnt2 rw …". "": it is not there.
func mountDevice(mounts []byte, id string) string {
	for line := range bytes.Lines(mounts) {
		if f := strings.Fields(string(line)); len(f) > 2 && f[0] == id {
			return f[2]
		}
	}
	return ""
}
