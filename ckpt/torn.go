package ckpt

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// boot is the kernel's id of this boot; "": it does not say.
func (k *Keeper) boot() string {
	b, err := os.ReadFile(filepath.Join(k.proc(), "sys/kernel/random/boot_id"))
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}

// complete writes that images and layer are there, and how much that is.
func (p *plan) complete(dir *os.Root) (err error) {
	p.State = dumped
	if p.Written, err = written(dir); err != nil {
		return err
	}
	return writePlan(dir, *p)
}

// written is how many bytes the images and the layer of a checkpoint have.
func written(dir *os.Root) (sum int64, err error) {
	err = fs.WalkDir(dir.FS(), imagesName, func(_ string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		fi, err := e.Info()
		if err == nil {
			sum += fi.Size()
		}
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("add up the images: %w", err)
	}
	switch fi, err := dir.Lstat(layerName); {
	case err == nil:
		sum += fi.Size()
	case !errors.Is(err, fs.ErrNotExist):
		return 0, err
	}
	return sum, nil
}

// torn says whether a checkpoint that is not sealed has lost something with the machine: it was begun before this boot, and what CRIU wrote is only
// sure to be on the disk when it is sealed. The plan is, and says how much there was: a file whose end had not reached the disk is shorter, or
// not there. Of a dump that was under way nobody knows.
func (k *Keeper) torn(dir *os.Root, p plan) error {
	now := k.boot()
	if p.Boot == "" || now == "" || p.Boot == now { // without a name: an agent of before made it
		return nil
	}
	if p.State != dumped {
		return fmt.Errorf("checkpoint %s: %w: the machine stopped in the middle of the dump", p.Manifest.ref(), ErrDamaged)
	}
	has, err := written(dir)
	if err != nil {
		return damage(fmt.Errorf("checkpoint %s: %w", p.Manifest.ref(), err))
	}
	if has != p.Written {
		return fmt.Errorf("checkpoint %s: %w: the machine stopped before it was sealed, and %d of its %d bytes are there", p.Manifest.ref(), ErrDamaged, has, p.Written)
	}
	return nil
}
