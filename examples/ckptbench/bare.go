package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// bare is runc alone, on a bundle equal to that of a Docker container.
type bare struct {
	dir    string
	config map[string]any
}

const bareID = "qosctl-ckptbench"

// newBare takes a bundle from a container of Docker.
func newBare(ctx context.Context, h *host) (b *bare, err error) {
	const id = "bench-bundle"
	dir, err := os.MkdirTemp("/var/lib/qosctl", "bench-runc-")
	if err != nil {
		return nil, fmt.Errorf("make a bundle: %w", err)
	}
	b = &bare{dir: dir}
	defer func() {
		if err = errors.Join(err, h.end(ctx, id)); err != nil {
			err = errors.Join(err, os.RemoveAll(dir))
		}
	}()
	if err := h.start(ctx, spec(id, id, 1)); err != nil {
		return nil, err
	}
	long, err := command(ctx, "docker", "inspect", "--format", "{{.Id}}", id)
	if err != nil {
		return nil, err
	}
	root := filepath.Join(dir, "rootfs")
	if err := os.Mkdir(root, 0o755); err != nil {
		return nil, fmt.Errorf("make a bundle: %w", err)
	}
	if _, err := command(ctx, "sh", "-c", `docker export "$1" | tar -x -C "$2"`, "export", id, root); err != nil {
		return nil, err
	}
	found, err := filepath.Glob("/run/*/containerd/daemon/io.containerd.runtime.v2.task/moby/" + long + "/config.json")
	if err != nil || len(found) == 0 {
		return nil, fmt.Errorf("find the bundle of container %s: %w", id, errors.Join(err, os.ErrNotExist))
	}
	text, err := os.ReadFile(found[0])
	if err == nil {
		err = json.Unmarshal(text, &b.config)
	}
	if err != nil {
		return nil, fmt.Errorf("read a bundle: %w", err)
	}
	return b, b.own()
}

// own makes Docker's configuration ours: what belongs to that container alone is taken out.
func (b *bare) own() error {
	delete(b.config, "hooks")
	delete(b.config, "annotations")
	linux, ok := b.config["linux"].(map[string]any)
	if !ok {
		return errors.New("the bundle has no part linux")
	}
	linux["cgroupsPath"] = parent + "/runc"
	spaces, _ := linux["namespaces"].([]any) //nolint:errcheck // none: an empty list
	for _, n := range spaces {
		if n, ok := n.(map[string]any); ok {
			delete(n, "path")
		}
	}
	var mounts []any
	all, _ := b.config["mounts"].([]any) //nolint:errcheck // none: an empty list
	for _, m := range all {
		if m, ok := m.(map[string]any); ok && strings.HasPrefix(fmt.Sprint(m["source"]), "/") {
			continue // resolv.conf and the like
		}
		mounts = append(mounts, m)
	}
	b.config["mounts"] = mounts
	b.config["root"] = map[string]any{"path": "rootfs"}
	return nil
}

func (*bare) name() string { return "bare runc" }

func (b *bare) close(ctx context.Context) error {
	ctx, stop := context.WithTimeout(ctx, time.Minute)
	defer stop()
	_, err := command(ctx, "runc", "delete", "--force", bareID)
	if err != nil && strings.Contains(err.Error(), "does not exist") {
		err = nil
	}
	return errors.Join(err, os.RemoveAll(b.dir))
}

// write writes the bundle's configuration.
func (b *bare) write(mib int) error {
	process, ok := b.config["process"].(map[string]any)
	if !ok {
		return errors.New("the bundle has no process")
	}
	process["args"] = jobArgs(mib)
	text, err := json.Marshal(b.config)
	if err != nil {
		return fmt.Errorf("write a bundle: %w", err)
	}
	return os.WriteFile(filepath.Join(b.dir, "config.json"), text, 0o600)
}

func (b *bare) once(ctx context.Context, mib int) (s sample, err error) {
	if err := b.write(mib); err != nil {
		return s, err
	}
	images, work := filepath.Join(b.dir, "images"), filepath.Join(b.dir, "work")
	for _, d := range []string{images, work} {
		if err := os.Mkdir(d, 0o700); err != nil {
			return s, fmt.Errorf("make a directory: %w", err)
		}
	}
	defer func() { err = errors.Join(err, os.RemoveAll(images), os.RemoveAll(work)) }()
	one, err := b.runc(ctx, "run", "--detach", "--bundle", b.dir, bareID)
	if err != nil {
		return s, err
	}
	if err := one.await(ctx, enough); err != nil {
		return s, err
	}
	begin := time.Now()
	if _, err := command(ctx, "runc", "checkpoint", "--image-path", images, "--work-path", work, bareID); err != nil {
		return s, err
	}
	s.dump = time.Since(begin)
	two, err := b.runc(ctx, "restore", "--detach", "--bundle", b.dir, "--image-path", images, "--work-path", work, bareID)
	if err != nil {
		return s, err
	}
	s.restore = time.Since(begin) - s.dump
	err = two.await(ctx, enough)
	if _, derr := command(context.WithoutCancel(ctx), "runc", "delete", "--force", bareID); err != nil || derr != nil {
		return s, errors.Join(err, derr)
	}
	first, err := one.all()
	if err != nil {
		return s, err
	}
	second, err := two.all()
	if err != nil {
		return s, err
	}
	s.down, err = downtime(append(first, second...), begin)
	return s, err
}

// runc runs it with the container's output in a pipe.
func (*bare) runc(ctx context.Context, args ...string) (*collector, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("make a pipe: %w", err)
	}
	e, ew, err := os.Pipe()
	if err != nil {
		return nil, errors.Join(fmt.Errorf("make a pipe: %w", err), r.Close(), w.Close())
	}
	out, said := collect(r), collect(e)
	cmd := exec.CommandContext(ctx, "runc", args...)
	cmd.Stdout, cmd.Stderr = w, ew
	err = cmd.Run()
	if err := errors.Join(err, w.Close(), ew.Close()); err != nil {
		_, _ = out.all() // nobody writes any more
		text, _ := said.all()
		return nil, fmt.Errorf("runc %s: %w: %s", args[0], err, bytes.TrimSpace(text))
	}
	return out, nil
}
