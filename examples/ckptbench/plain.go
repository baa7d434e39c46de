package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// plain is `docker checkpoint create` and `docker start --checkpoint` of one container.
type plain struct{ h *host }

func (*plain) name() string { return "plain docker" }

func (*plain) close(context.Context) error { return nil }

func (p *plain) once(ctx context.Context, mib int) (s sample, err error) {
	const id, checkpoint = "bench-plain", "first"
	defer func() { err = errors.Join(err, p.h.end(ctx, id), leftovers()) }()
	if err := p.h.start(ctx, spec(id, id, mib)); err != nil {
		return s, err
	}
	long, err := command(ctx, "docker", "inspect", "--format", "{{.Id}}", id)
	if err != nil {
		return s, err
	}
	begin, before := time.Now(), daemons()
	if _, err := command(ctx, "docker", "checkpoint", "create", id, checkpoint); err != nil {
		return s, err
	}
	s.dump = time.Since(begin)
	// Without something in it that is new, a restore soon after the dump finds its own tar in containerd's store, and fails.
	nonce := filepath.Join("/var/lib/docker/containers", long, "checkpoints", checkpoint, "nonce")
	if err := os.WriteFile(nonce, []byte(rand.Text()), 0o600); err != nil {
		return s, fmt.Errorf("make the checkpoint unique: %w", err)
	}
	if _, err := command(ctx, "docker", "start", "--checkpoint", checkpoint, id); err != nil {
		return s, err
	}
	s.restore, s.moved = time.Since(begin)-s.dump, daemons()-before
	if s.down, err = p.down(ctx, id, begin); err != nil {
		return s, err
	}
	return s, nil
}

func (p *plain) down(ctx context.Context, id string, begin time.Time) (time.Duration, error) {
	ctx, stop := context.WithTimeoutCause(ctx, time.Minute, errors.New("the restored job prints nothing"))
	defer stop()
	n, err := p.h.await(ctx, id, 0)
	if err != nil {
		return 0, err
	}
	if _, err := p.h.await(ctx, id, n+enough); err != nil { // lines of after the restore
		return 0, err
	}
	if err := p.h.engine.Stop(ctx, id, 0); err != nil {
		return 0, err
	}
	out, err := p.h.output(ctx, id)
	if err != nil {
		return 0, err
	}
	return downtime(out, begin)
}

// leftovers removes what containerd leaves of each restore: a copy of the images.
func leftovers() error {
	list, err := filepath.Glob("/tmp/ctrd-checkpoint*")
	for _, dir := range list {
		err = errors.Join(err, os.RemoveAll(dir))
	}
	return err
}
