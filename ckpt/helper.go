package ckpt

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"regexp"
	"sync"
	"time"
)

// dumpOrder is all that a helper is asked: one dump of one of runc's containers into a directory of ours.
type dumpOrder struct {
	Container string `json:"container"` // Docker's id, whole
	Images    string `json:"images"`
	Work      string `json:"work"`
	Keep      bool   `json:"keep,omitempty"`
	Locks     bool   `json:"file_locks,omitempty"`
	TCP       bool   `json:"tcp_established,omitempty"`
}

// result answers an order.
type result struct {
	Error string `json:"error,omitempty"`
}

const (
	maxOrder    = 16 << 10
	helperGrace = 10 * time.Second // for a helper that was told to stop
)

var wholeID = regexp.MustCompile(`^[0-9a-f]{64}$`)

// args are runc's, without its root.
func (o dumpOrder) args() []string {
	args := []string{"checkpoint", "--image-path", o.Images, "--work-path", o.Work}
	if o.Keep {
		args = append(args, "--leave-running")
	}
	if o.Locks {
		args = append(args, "--file-locks")
	}
	if o.TCP {
		args = append(args, "--tcp-established")
	}
	return append(args, o.Container)
}

// check refuses what is not a container, or not a directory below root.
func (o dumpOrder) check(root string) error {
	if !wholeID.MatchString(o.Container) {
		return fmt.Errorf("container %q: want 64 hexadecimal digits", o.Container)
	}
	top, err := filepath.EvalSymlinks(root)
	if err != nil {
		return fmt.Errorf("directory of the checkpoints: %w", err)
	}
	for _, dir := range []string{o.Images, o.Work} {
		is, err := filepath.EvalSymlinks(dir)
		if err != nil {
			return err
		}
		if rel, err := filepath.Rel(top, is); err != nil || rel == "." || !filepath.IsLocal(rel) {
			return fmt.Errorf("%q is not below %s", dir, top)
		}
	}
	return nil
}

// run takes the dump.
func (o dumpOrder) run(ctx context.Context) error {
	root, err := rootOf(o.Container)
	if err != nil {
		return err
	}
	return runOutliving(ctx, o.Work, "runc", append([]string{"--root", root}, o.args()...)...)
}

// ServeDump is a helper's whole life: it takes one order from conn, of a dump into a directory below root, and answers when that has ended. CRIU
// can't dump a container that has a seccomp filter when its own caller has one, as a confined agent has.
//
// The dump is stopped when its client says so, and goes on when the client is gone: a killed agent's successor waits for it.
func ServeDump(ctx context.Context, conn io.ReadWriter, root string) error {
	return serveDump(ctx, conn, root, dumpOrder.run)
}

func serveDump(ctx context.Context, conn io.ReadWriter, root string, run func(dumpOrder, context.Context) error) error {
	in := json.NewDecoder(io.LimitReader(conn, maxOrder))
	in.DisallowUnknownFields()
	var o dumpOrder
	err := in.Decode(&o)
	if err != nil {
		err = fmt.Errorf("the order of a dump: %w", err)
	} else {
		err = o.check(root)
	}
	var wait sync.WaitGroup
	defer wait.Wait() // until the client, which has its answer, closes, or is gone
	if err == nil {
		ctx, stop := context.WithCancel(ctx)
		defer stop()
		wait.Go(func() {
			var s struct{ Stop bool }
			if in.Decode(&s) == nil && s.Stop {
				stop()
			}
		})
		err = run(o, ctx)
	}
	var r result
	if err != nil {
		r.Error = err.Error()
	}
	_ = json.NewEncoder(conn).Encode(r) // the client may be gone
	return err
}

// askDump has a helper that listens on socket take a dump. When ctx ends it is told to stop.
func askDump(ctx context.Context, socket string, o dumpOrder) error {
	conn, err := new(net.Dialer).DialContext(ctx, "unix", socket)
	if err != nil {
		return fmt.Errorf("ask the helper for a dump (systemctl status qosctl-dump.socket): %w", err)
	}
	defer conn.Close() //nolint:errcheck // all was said
	if err := json.NewEncoder(conn).Encode(o); err != nil {
		return fmt.Errorf("ask the helper for a dump: %w", err)
	}
	var wait sync.WaitGroup
	defer wait.Wait()
	over := make(chan struct{})
	defer close(over)
	wait.Go(func() {
		select {
		case <-over:
		case <-ctx.Done():
			_, _ = io.WriteString(conn, `{"stop":true}`) // it may have ended just now
			_ = conn.SetReadDeadline(time.Now().Add(helperGrace))
		}
	})
	var r result
	err = json.NewDecoder(io.LimitReader(conn, maxOrder)).Decode(&r)
	switch {
	case ctx.Err() != nil && (err != nil || r.Error != ""):
		return fmt.Errorf("runc was stopped: %w", context.Cause(ctx))
	case err != nil:
		return fmt.Errorf("the helper's answer about a dump: %w", err)
	case r.Error != "":
		return errors.New(r.Error)
	}
	return nil
}
