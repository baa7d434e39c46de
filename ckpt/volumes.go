package ckpt

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"path"
	"regexp"
	"slices"

	"github.com/containerd/errdefs"
	dcontainer "github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/mount"

	"qosctl/container"
)

// anonymousName is how Docker names volumes that nobody has named: those of an image's VOLUME, and of docker run -v /TARGET.
var anonymousName = regexp.MustCompile(`^[0-9a-f]{64}$`)

// anonymous are the volumes without a name of their own that a container has, by destination. A new container of the same spec would get
// new ones, empty.
func anonymous(c dcontainer.InspectResponse) map[string]string {
	var out map[string]string
	for _, m := range c.Mounts {
		if m.Type != mount.TypeVolume || !anonymousName.MatchString(m.Name) {
			continue
		}
		if out == nil {
			out = map[string]string{}
		}
		out[path.Clean(m.Destination)] = m.Name
	}
	return out
}

// mountAnonymous gives a container that is to be restored the anonymous volumes of the one that was checkpointed.
func (k *Keeper) mountAnonymous(ctx context.Context, m Manifest, s *container.Spec) error {
	for _, target := range slices.Sorted(maps.Keys(m.Container.Volumes)) {
		name := m.Container.Volumes[target]
		_, err := k.docker.VolumeInspect(ctx, name)
		if errdefs.IsNotFound(err) {
			return fmt.Errorf("%w: the volume without a name at %s is not on this node any more, the checkpoint was taken on %s; give it a name, or mount a directory", ErrRestore, target, cmp.Or(m.Node, "another"))
		}
		if err != nil {
			return fmt.Errorf("look for the volume at %s: %w", target, err)
		}
		s.Mounts = append(slices.Clip(s.Mounts), container.Mount{Source: name, Target: target})
	}
	return nil
}
