// Package zkfence makes claims of jobs exclusive by ZooKeeper: each is a conditional write of a znode of the job's, so that of two nodes
// that claim the same epoch, on whatever sides of a partition, one alone succeeds. A node that ZooKeeper does not answer can claim nothing.
//
// A job's znode is <Path>/jobs/<id>; its data is the JSON of the epoch and the node that has it.
package zkfence

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"path"
	"strings"
	"sync"
	"time"

	"github.com/go-zookeeper/zk"
)

// ErrFenced says that another node has the epoch, or a later one. What it is wrapped by is a *FencedError.
var ErrFenced = errors.New("another node has claimed it")

// FencedError says who has what of a job that was claimed.
type FencedError struct {
	Node   string
	Epoch  uint64 // that it has
	Wanted uint64
}

func (e *FencedError) Error() string {
	return fmt.Sprintf("%s: node %s has epoch %d, not below %d", ErrFenced, e.Node, e.Epoch, e.Wanted)
}

// Unwrap is ErrFenced.
func (e *FencedError) Unwrap() error { return ErrFenced }

// Options set a Fence up.
type Options struct {
	Servers []string      // host:port
	Path    string        // znode below which everything stands: "/qosctl"
	Session time.Duration // 0: 10 s
	Logger  *slog.Logger  // nil: nothing is logged
}

// Fence claims jobs. Its methods may be called at once.
type Fence struct {
	root  string
	conn  *zk.Conn
	calls sync.WaitGroup // under way
}

// claim is the data of a job's znode.
type claim struct {
	Epoch uint64 `json:"epoch"`
	Node  string `json:"node"`
}

// Bounds of a claim.
const (
	maxData = 4 << 10
	tries   = 5 // of a write that others come before
)

// New begins a session; it need not be there yet when New returns.
func New(o Options) (*Fence, error) {
	if len(o.Servers) == 0 || !strings.HasPrefix(o.Path, "/") || path.Clean(o.Path) != o.Path {
		return nil, fmt.Errorf("zookeeper: want at least one server and an absolute path (got %v, %q)", o.Servers, o.Path)
	}
	if o.Session == 0 {
		o.Session = 10 * time.Second
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	conn, _, err := zk.Connect(o.Servers, o.Session, zk.WithLogger(logger{o.Logger.With("pkg", "zkfence")}), zk.WithLogInfo(false))
	if err != nil {
		return nil, fmt.Errorf("zookeeper: %w", err)
	}
	return &Fence{root: path.Join(o.Path, "jobs"), conn: conn}, nil
}

// Close ends the session. What was claimed stays claimed.
func (f *Fence) Close() error {
	f.conn.Close()
	f.calls.Wait()
	return nil
}

// logger passes the client's words on; they are of connections that come and go.
type logger struct{ log *slog.Logger }

// Printf logs a line.
func (l logger) Printf(format string, args ...any) {
	l.log.Debug("zookeeper", "text", fmt.Sprintf(format, args...))
}

// Claim takes an epoch of a job for a node. To claim again what the node has is no error; what another node has, or a later epoch, is
// a *FencedError. Any other error says that it is not known whether the claim holds: to repeat it tells.
func (f *Fence) Claim(ctx context.Context, job string, epoch uint64, node string) error {
	at, err := f.znode(job)
	if err != nil {
		return err
	}
	data, err := json.Marshal(claim{epoch, node})
	if err != nil {
		return fmt.Errorf("zookeeper: %w", err)
	}
	for lost := 0; lost < tries; {
		done, err := f.within(ctx, func() (bool, error) { return f.try(at, claim{epoch, node}, data) })
		switch {
		case away(err):
			if err := again(ctx); err != nil {
				return err
			}
		case err != nil:
			return err
		case done:
			return nil
		default:
			lost++
		}
	}
	return fmt.Errorf("zookeeper: job %s: others came before in %d tries", job, tries)
}

// away says whether no server could be asked.
func away(err error) bool {
	return errors.Is(err, zk.ErrNoServer) || errors.Is(err, zk.ErrConnectionClosed) || errors.Is(err, zk.ErrSessionExpired)
}

// againAfter is the pause before a server is looked for once more.
const againAfter = 200 * time.Millisecond

// again waits before the next try.
func again(ctx context.Context) error {
	t := time.NewTimer(againAfter)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("zookeeper can't be reached: %w", context.Cause(ctx))
	}
}

// try reads what is claimed and writes over just that; false: somebody else wrote meanwhile.
func (f *Fence) try(at string, c claim, data []byte) (bool, error) {
	old, stat, err := f.conn.Get(at)
	switch {
	case errors.Is(err, zk.ErrNoNode):
		err = f.create(at, data)
		if errors.Is(err, zk.ErrNodeExists) {
			return false, nil
		}
		return err == nil, wrap(at, err)
	case err != nil:
		return false, wrap(at, err)
	}
	had, err := parse(old)
	if err != nil {
		return false, fmt.Errorf("zookeeper: %s: %w", at, err)
	}
	if had == c {
		return true, nil
	}
	if had.Epoch >= c.Epoch {
		return false, &FencedError{Node: had.Node, Epoch: had.Epoch, Wanted: c.Epoch}
	}
	_, err = f.conn.Set(at, data, stat.Version)
	if errors.Is(err, zk.ErrBadVersion) || errors.Is(err, zk.ErrNoNode) {
		return false, nil
	}
	return err == nil, wrap(at, err)
}

// create makes a job's znode, and those above it if they are not there.
func (f *Fence) create(at string, data []byte) error {
	_, err := f.conn.Create(at, data, 0, zk.WorldACL(zk.PermAll))
	if !errors.Is(err, zk.ErrNoNode) {
		return err
	}
	var above strings.Builder
	for part := range strings.SplitSeq(strings.Trim(path.Dir(at), "/"), "/") {
		above.WriteString("/" + part)
		if _, err := f.conn.Create(above.String(), nil, 0, zk.WorldACL(zk.PermAll)); err != nil && !errors.Is(err, zk.ErrNodeExists) {
			return err
		}
	}
	_, err = f.conn.Create(at, data, 0, zk.WorldACL(zk.PermAll))
	return err
}

// Forget removes what is kept of a job.
func (f *Fence) Forget(ctx context.Context, job string) error {
	at, err := f.znode(job)
	if err != nil {
		return err
	}
	_, err = f.within(ctx, func() (bool, error) { return true, f.conn.Delete(at, -1) })
	if errors.Is(err, zk.ErrNoNode) {
		return nil
	}
	return wrap(at, err)
}

func (f *Fence) znode(job string) (string, error) {
	if job == "" || strings.ContainsAny(job, "/\x00") || job == "." || job == ".." {
		return "", fmt.Errorf("zookeeper: %q is no job's id", job)
	}
	return f.root + "/" + job, nil
}

// parse reads a znode's data, which anybody may have written.
func parse(data []byte) (c claim, err error) {
	if len(data) > maxData {
		return c, fmt.Errorf("it has %d bytes: no claim of ours", len(data))
	}
	if err := json.Unmarshal(data, &c); err != nil || c.Node == "" {
		return claim{}, fmt.Errorf("%.80q is no claim of ours: remove the znode if no job of that id runs", data)
	}
	return c, nil
}

func wrap(at string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("zookeeper: %s: %w", at, err)
}

// within waits for a call of a client that knows no contexts, until ctx ends. A call that goes on then ends with the session at the latest.
func (f *Fence) within(ctx context.Context, call func() (bool, error)) (bool, error) {
	type result struct {
		ok  bool
		err error
	}
	done := make(chan result, 1)
	f.calls.Go(func() {
		ok, err := call()
		done <- result{ok, err}
	})
	select {
	case r := <-done:
		return r.ok, r.err
	case <-ctx.Done():
		return false, fmt.Errorf("zookeeper does not answer: %w", context.Cause(ctx))
	}
}
