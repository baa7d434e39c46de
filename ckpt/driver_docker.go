package ckpt

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/docker/docker/api/types/checkpoint"

	"qosctl/container"
)

// dockerDriver uses Docker's checkpoints ("experimental": true). Docker would copy the images four times through containerd; the CRIU
// configuration file of the container makes CRIU write them straight into our directory, and Docker's own checkpoint is almost empty.
type dockerDriver struct {
	base
	mu   sync.Mutex
	root string // Docker's data directory, once it is known
}

// dockerCheckpoint is the name of each checkpoint in Docker. Only its descriptors are in it.
const dockerCheckpoint = "qosctl"

func (*dockerDriver) name() string { return "docker" }

func (d *dockerDriver) ready(s *container.Spec) error {
	d.confOf(s.ID).annotate(s)
	return nil
}

// link makes the symbolic link that CRIU ≤ 4.2 wants as images-dir.
func link(images, work string) (string, error) {
	l := filepath.Join(work, "images.link")
	if err := os.Remove(l); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("link the images: %w", err)
	}
	if err := os.Symlink(images, l); err != nil {
		return "", fmt.Errorf("link the images: %w", err)
	}
	return l, nil
}

func places(link, work, log string) []string {
	return []string{"images-dir " + link, "work-dir " + work, "log-file " + log}
}

// dataRoot is Docker's data directory.
func (d *dockerDriver) dataRoot(ctx context.Context) (string, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.root == "" {
		i, err := d.docker.Info(ctx)
		if err != nil {
			return "", fmt.Errorf("ask Docker about itself: %w", err)
		}
		d.root = i.DockerRootDir
	}
	return d.root, nil
}

// own is where Docker keeps its checkpoint of a container.
func (d *dockerDriver) own(ctx context.Context, id string) (string, error) {
	root, err := d.dataRoot(ctx)
	if err != nil {
		return "", err
	}
	c, err := d.docker.ContainerInspect(ctx, id)
	if err != nil {
		return "", fmt.Errorf("look at container %s: %w", id, err)
	}
	return filepath.Join(root, "containers", c.ID, "checkpoints", dockerCheckpoint), nil
}

func (d *dockerDriver) dump(ctx context.Context, o dump) (stats DumpStats, err error) {
	own, err := d.own(ctx, o.Container)
	if err != nil {
		return stats, err
	}
	l, err := link(o.Images, o.Work)
	if err != nil {
		return stats, err
	}
	if err := d.confOf(o.Container).writeCRIU(append(criuOptions(o.Allow, d.v2()), places(l, o.Work, dumpLog)...)); err != nil {
		return stats, err
	}
	if err := os.RemoveAll(own); err != nil { // of a dump that failed
		return stats, fmt.Errorf("remove an old checkpoint of Docker's: %w", err)
	}
	dockerID, kept := filepath.Base(filepath.Dir(filepath.Dir(own))), filepath.Join(o.Work, "docker")
	if err := describe(dockerID, kept); err != nil {
		return stats, err
	}
	err = insist(ctx, func(ctx context.Context) { d.endWork(ctx, dockerID, "checkpoint", o.Work) }, func(ctx context.Context) error {
		return d.docker.CheckpointCreate(ctx, o.Container, checkpoint.CreateOptions{CheckpointID: dockerCheckpoint, Exit: !o.Keep})
	})
	if err != nil {
		d.endDump(ctx, dockerID, o.Work)
		return stats, errors.Join(withLog(err, filepath.Join(o.Work, dumpLog)), os.RemoveAll(own))
	}
	if !o.Keep {
		if err := d.exited(ctx, o.Container); err != nil {
			return stats, err
		}
	}
	if err := os.Remove(l); err != nil { // a checkpoint has no links
		return stats, fmt.Errorf("remove the link to the images: %w", err)
	}
	if err := errors.Join(os.RemoveAll(kept), os.CopyFS(kept, os.DirFS(own))); err != nil {
		return stats, fmt.Errorf("keep Docker's part of the checkpoint: %w", err)
	}
	if err := os.RemoveAll(own); err != nil {
		return stats, fmt.Errorf("remove Docker's part of the checkpoint: %w", err)
	}
	return readDump(o.Work), nil
}

// describe writes what Docker's part of a checkpoint will be, from runc's state of the container: where standard input and output lead. If
// the dump is stopped when the processes are just gone Docker keeps nothing.
func describe(dockerID, dir string) error {
	root, err := rootOf(dockerID)
	if err != nil {
		return err
	}
	b, err := os.ReadFile(filepath.Join(root, dockerID, "state.json"))
	if err != nil {
		return fmt.Errorf("read runc's state of the container: %w", err)
	}
	var state struct {
		Descriptors []string `json:"external_descriptors"`
	}
	if err := json.Unmarshal(b, &state); err != nil || len(state.Descriptors) != 3 {
		return fmt.Errorf("runc's state of the container names %d descriptors, want 3 (%w)", len(state.Descriptors), err)
	}
	if b, err = json.Marshal(state.Descriptors); err != nil {
		return err
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		return fmt.Errorf("describe the checkpoint for Docker: %w", err)
	}
	return writeFile(filepath.Join(dir, "descriptors.json"), b, 0o600)
}

func (d *dockerDriver) restore(ctx context.Context, r restore) (out restored, err error) {
	begin := time.Now()
	l, err := link(r.Images, r.Work)
	if err != nil {
		return out, err
	}
	defer os.Remove(l) //nolint:errcheck // a link of ours
	if _, err := d.prepareRestore(r, false, places(l, r.Work, restoreLog)...); err != nil {
		return out, err
	}
	own, err := d.own(ctx, r.Container)
	if err != nil {
		return out, err
	}
	if err := os.RemoveAll(own); err != nil {
		return out, fmt.Errorf("remove an old checkpoint of Docker's: %w", err)
	}
	if err := os.CopyFS(own, os.DirFS(filepath.Join(filepath.Dir(r.Images), workName, "docker"))); err != nil {
		return out, fmt.Errorf("give Docker its part of the checkpoint: %w", err)
	}
	defer os.RemoveAll(own) //nolint:errcheck // some bytes, and gone with the container
	nonce := "qosctl-" + rand.Text()
	// containerd refuses to upload what it has uploaded before: each try must differ
	if err := os.WriteFile(filepath.Join(own, nonce), []byte(nonce), 0o600); err != nil {
		return out, fmt.Errorf("give Docker its part of the checkpoint: %w", err)
	}
	defer sweepContainerd(nonce)
	return d.restored(ctx, r, begin, d.begin(ctx, r, dockerCheckpoint))
}

// sweepContainerd removes what containerd leaves behind at each restore: a copy of Docker's part of the checkpoint, known by its nonce.
func sweepContainerd(nonce string) {
	for _, dir := range []string{os.TempDir(), "/tmp", "/run", os.Getenv("XDG_RUNTIME_DIR")} {
		found, err := filepath.Glob(filepath.Join(dir, "ctrd-checkpoint*", nonce))
		if err != nil || dir == "" {
			continue
		}
		for _, f := range found {
			_ = os.RemoveAll(filepath.Dir(f)) // somebody's temporary directory: said to nobody
		}
	}
}
