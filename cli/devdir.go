package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"time"
)

// devDirectory is the directory of a development setup, locked for as long as that runs.
type devDirectory struct {
	path string
	lock *os.File
	made bool     // by us: it goes again
	dead *devMark // of one that was killed here, until it is swept
}

// openDevDir makes and locks the directory. One that another user could have laid out is refused.
func openDevDir(ctx context.Context, path string) (*devDirectory, error) {
	for {
		d, err := tryDevDir(ctx, path)
		if !errors.Is(err, errMoved) && !errors.Is(err, os.ErrNotExist) || ctx.Err() != nil {
			return d, err
		}
		if _, err := os.Stat(filepath.Dir(path)); err != nil {
			return nil, withHint(fmt.Errorf("make the directory of dev: %w", err), "give another one with --dir")
		}
	}
}

func tryDevDir(ctx context.Context, path string) (*devDirectory, error) {
	d := &devDirectory{path: path}
	switch err := os.Mkdir(path, 0o755); {
	case err == nil:
		d.made = true
	case !errors.Is(err, os.ErrExist):
		return nil, withHint(fmt.Errorf("make the directory of dev: %w", err), "give another one with --dir")
	case !ownDir(path):
		return nil, withHint(fmt.Errorf("%s is not a directory of yours", path), "give another one with --dir")
	}
	if _, err := os.Lstat(filepath.Join(path, "lock")); err == nil {
		d.made = true // by one that was killed
	}
	lock, err := os.OpenFile(filepath.Join(path, "lock"), os.O_RDWR|os.O_CREATE|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock the directory of dev: %w", err)
	}
	d.lock = lock
	if err := d.take(ctx); err != nil {
		_ = lock.Close() // it was never ours
		return nil, err
	}
	d.dead = readMark(io.NewSectionReader(lock, 0, 64<<10))
	return d, nil
}

// take takes the lock. The guard of one that was killed is waited for.
func (d *devDirectory) take(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, lastsAtMost+15*time.Second)
	defer cancel()
	for {
		err := syscall.Flock(int(d.lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			return d.same()
		}
		if readMark(io.NewSectionReader(d.lock, 0, 64<<10)).lives() || sleep(ctx, 100*time.Millisecond) != nil {
			return &exitStatus{exitConflict, withHint(fmt.Errorf("another `qosctl dev` runs in %s", d.path), "stop it, or give this one its own --dir and addresses")}
		}
	}
}

// same checks that the lock is still the directory's: its former holder may have removed it while it was waited for.
func (d *devDirectory) same() error {
	ours, err := d.lock.Stat()
	if err != nil {
		return fmt.Errorf("lock the directory of dev: %w", err)
	}
	if there, err := os.Lstat(filepath.Join(d.path, "lock")); err == nil && os.SameFile(ours, there) {
		return nil
	}
	return errMoved
}

// errMoved says that the directory was removed while its lock was waited for.
var errMoved = errors.New("the directory of dev was removed by another one that ended")

// mark notes in the lock who runs here and what is to be swept if that is killed.
func (d *devDirectory) mark(m devMark) error {
	data, err := json.Marshal(m)
	if err == nil {
		_, err = d.lock.WriteAt(append(data, '\n'), 0)
	}
	if err != nil {
		return fmt.Errorf("mark the directory of dev: %w", err)
	}
	return nil
}

// clear takes away what a setup made, but for the lock, unless it is to be kept. Nobody runs here afterwards.
func (d *devDirectory) clear(keep bool) error {
	var errs []error
	names := []string{"run", "data", "devmesos", "agent.yaml", "nodes.json", "cluster.key", "qosctl"}
	for i := 2; i <= maxDevNodes; i++ {
		names = append(names, "node"+strconv.Itoa(i))
	}
	for _, name := range names {
		if !keep {
			errs = append(errs, removeAll(filepath.Join(d.path, name)))
		}
	}
	errs = append(errs, d.lock.Truncate(0))
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("remove what is in the directory of dev: %w", err)
	}
	return nil
}

// removeAll removes a directory tree into which somebody may still write: a shim notes how its container ended after that was killed.
func removeAll(path string) error {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for until := time.Now().Add(5 * time.Second); ; <-tick.C {
		err := os.RemoveAll(path)
		if !errors.Is(err, syscall.ENOTEMPTY) || time.Now().After(until) {
			return err
		}
	}
}

// remove takes away what the setup made and the directory, unless they are to be kept.
func (d *devDirectory) remove(keep bool) error {
	errs := []error{d.clear(keep)}
	if keep {
		return errs[0]
	}
	errs = append(errs, os.Remove(filepath.Join(d.path, "lock")))
	if d.made {
		if err := os.Remove(d.path); err != nil && !errors.Is(err, syscall.ENOTEMPTY) {
			errs = append(errs, err)
		}
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("remove the directory of dev: %w", err)
	}
	return nil
}

// close lets the lock go.
func (d *devDirectory) close() {
	_ = d.lock.Close() // nothing was written to it
}

// checkPorts says which address is taken, before anything is started.
func (o devOpts) checkPorts(nodes []devNode) error {
	type port struct{ flag, address string }
	ports := []port{{"marathon", o.marathon}, {"chronos", o.chronos}, {"mesos-master", o.master}}
	for _, n := range nodes {
		ports = append(ports, port{"listen", n.listen}, port{"mesos", n.mesos}, port{"gossip", n.gossip}, port{"peer", n.peer})
	}
	for _, p := range ports {
		if p.address == "" {
			continue
		}
		l, err := net.Listen("tcp", p.address)
		if err != nil {
			return &exitStatus{exitConflict, withHint(fmt.Errorf("--%s %s: %w", p.flag, p.address, rootCause(err)), fmt.Sprintf("another program has the address; give another one with --%s", p.flag))}
		}
		_ = l.Close() // it was opened to be closed
	}
	return nil
}

// rootCause is the error of the system call.
func rootCause(err error) error {
	if no, ok := errors.AsType[syscall.Errno](err); ok {
		return no
	}
	return err
}
