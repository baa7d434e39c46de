package ckpt

import (
	"context"
	"errors"
	"path/filepath"
	"strings"
	"time"

	dcontainer "github.com/docker/docker/api/types/container"

	"qosctl/container"
)

// sweepEvery is how often files of containers that are gone are looked for. Each restore leaves a log.
const sweepEvery = time.Minute

// sweepDue says whether it is time for that.
func (k *Keeper) sweepDue(now time.Time) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.docker == nil || now.Sub(k.swept) < sweepEvery {
		return false
	}
	k.swept = now
	return true
}

// sweepConf removes configuration and work of containers that are gone.
func (k *Keeper) sweepConf(ctx context.Context) {
	ctx, stop := context.WithTimeout(ctx, askTime)
	defer stop()
	sums, err := k.docker.ContainerList(ctx, dcontainer.ListOptions{All: true})
	if err != nil {
		return // Docker is away: the next look finds them, too
	}
	there := map[string]bool{}
	for _, c := range sums {
		for _, name := range c.Names {
			there[strings.TrimPrefix(name, "/")] = true
		}
	}
	for _, dir := range []string{k.o.conf(), k.o.scratch()} {
		list, err := readDir(k.store.root, dir)
		if err != nil {
			continue
		}
		for _, e := range list {
			id := e.Name()
			if dir == k.o.conf() { // NAME.conf, and NAME.conf.tmp while it is written
				id = strings.TrimSuffix(id, ".tmp")
				id = strings.TrimSuffix(id, filepath.Ext(id))
			}
			if !there[id] {
				k.sweepOne(ctx, dir+"/"+e.Name(), id)
			}
		}
	}
}

// sweepOne removes one file or directory, if its container is gone and nobody is about to make it.
func (k *Keeper) sweepOne(ctx context.Context, name, id string) {
	release, err := k.locks.container(id)
	if err != nil {
		return
	}
	defer release()
	if _, err := k.o.Engine.Inspect(ctx, id); !errors.Is(err, container.ErrNotFound) || detachBelow(k.store.path(name)) != nil {
		return
	}
	_ = k.store.root.RemoveAll(name) // tried again at the next look
}
