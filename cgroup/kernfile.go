package cgroup

import (
	"errors"
	"fmt"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"
)

// kernFile is a file of the kernel that is kept open: os.File would register it with the poller, and costs 1.4 times the CPU.
type kernFile struct {
	fd   int // -1: closed
	name string
}

var errClosed = errors.New("closed")

// openKern opens a file of the cgroup in dir. A missing directory is ErrGone; a missing file in it is ENOENT.
func openKern(dir, name string, flags int) (kernFile, error) {
	full := filepath.Join(dir, name)
	fd, err := unix.Open(full, flags|unix.O_CLOEXEC|unix.O_NOCTTY, 0)
	if err == nil {
		return kernFile{fd: fd, name: full}, nil
	}
	var st unix.Stat_t
	if err == unix.ENODEV || err == unix.ENOENT && unix.Stat(dir, &st) == unix.ENOENT {
		return kernFile{fd: -1}, fmt.Errorf("open %s: %w", full, ErrGone)
	}
	return kernFile{fd: -1}, denied("open "+full, err)
}

// read reads the file from its beginning into buf and returns what it holds. It allocates nothing unless there is an error.
func (k *kernFile) read(buf []byte) ([]byte, error) {
	if k.fd < 0 {
		return nil, errClosed
	}
	for {
		n, err := syscall.Pread(k.fd, buf, 0)
		switch {
		case err == syscall.EINTR:
			continue
		case err == syscall.ENODEV:
			return nil, fmt.Errorf("read %s: %w", k.name, ErrGone)
		case err != nil:
			return nil, fmt.Errorf("read %s: %w", k.name, err)
		case n == len(buf):
			return nil, fmt.Errorf("read %s: longer than %d bytes", k.name, len(buf))
		}
		return buf[:n], nil
	}
}

func (k *kernFile) close() error {
	if k.fd < 0 {
		return nil
	}
	fd := k.fd
	k.fd = -1
	return unix.Close(fd)
}

// write gives b to the kernel in one write, as its files want it. ENODEV is ErrGone.
func (f *FS) write(k *kernFile, b []byte) error {
	if k.fd < 0 {
		return errClosed
	}
	for {
		_, err := f.pwrite(k.fd, b, 0)
		switch {
		case err == nil:
			return nil
		case errors.Is(err, syscall.EINTR):
			continue
		case errors.Is(err, syscall.ENODEV):
			return fmt.Errorf("write %s: %w", k.name, ErrGone)
		}
		return denied("write "+k.name, err)
	}
}

// writeOnce opens, writes and closes a file of the cgroup in dir.
func (f *FS) writeOnce(dir, name, text string) error {
	k, err := openKern(dir, name, unix.O_WRONLY|unix.O_TRUNC)
	if err != nil {
		return err
	}
	defer k.close()
	return f.write(&k, []byte(text))
}
