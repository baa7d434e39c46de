package ckpt

import (
	"encoding/hex"
	"errors"
	"io/fs"
	"time"
)

// leftTime is how long what is left of a fetch waits for another try.
const leftTime = time.Hour

// conf and scratch are where the files of this node's containers stand: two nodes may have containers of one name, while they don't know of
// each other.
func (o Options) conf() string    { return o.own(confDir) }
func (o Options) scratch() string { return o.own(scratchDir) }

func (o Options) own(dir string) string {
	if !o.Shared {
		return dir
	}
	return dir + "/" + hex.EncodeToString([]byte(o.Node)) // whatever it is called
}

// foreign says whether something of a node is not this one's to end or to remove: in a shared directory, what another node has made.
func (k *Keeper) foreign(node string) bool { return k.o.Shared && node != k.o.Node }

// mayEnd says whether a directory is this node's to take up, to undo or to remove. In a shared directory what does not say whose it is is left
// alone: its owner may be about to write that.
func (k *Keeper) mayEnd(e entry) bool {
	if !k.o.Shared || e.ext == goneExt { // who renamed it so had the right to
		return true
	}
	dir, err := k.store.open(e.name)
	if err != nil {
		return false
	}
	defer dir.Close() //nolint:errcheck // only read
	switch e.ext {
	case fetchExt:
		p, err := readFetchPlan(dir)
		return err == nil && !k.foreign(p.Node)
	case partialExt:
		if p, err := readPlan(dir, e.ref); err == nil {
			return !k.foreign(p.Manifest.Node)
		}
	}
	m, _, err := readManifest(dir, e.ref)
	return err == nil && !k.foreign(m.Node)
}

// left says whether nobody has asked for what is left of a fetch for long.
func (k *Keeper) left(e entry) bool {
	if fi, err := k.store.root.Lstat(e.name); err != nil || time.Since(fi.ModTime()) < leftTime {
		return false
	}
	fi, err := k.store.root.Lstat(e.name + "/" + fetchName)
	return err != nil || time.Since(fi.ModTime()) >= leftTime
}

// takeUpFetch ends a fetch that a former agent had all but ended; one that can be taken up is left for the next Fetch, all else is removed.
func (k *Keeper) takeUpFetch(e entry) error {
	dir, err := k.store.open(e.name)
	if err != nil {
		return err
	}
	defer dir.Close() //nolint:errcheck // only read
	p, err := readFetchPlan(dir)
	if err == nil && p.Digest != "" {
		return nil
	}
	if _, _, merr := readManifest(dir, e.ref); merr == nil && errors.Is(err, fs.ErrNotExist) && !k.store.isDir(e.ref.final()) {
		if err := k.store.root.Rename(e.name, e.ref.final()); err != nil {
			return err
		}
		return syncPath(k.store.root, e.ref.Job)
	}
	return k.store.remove(e.name)
}
