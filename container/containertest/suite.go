// Package containertest is the conformance suite that every engine of package container passes.
package containertest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"sync/atomic"
	"testing"
	"time"

	"qosctl/cgroup"
	"qosctl/container"
)

// Setup is an engine to be tested, with what the suite needs to look behind it.
type Setup struct {
	Engine container.Engine
	// Reopen gives a second engine that stands where Engine stands, as that of an agent that was started again. nil: not tested.
	Reopen func(t *testing.T) container.Engine
	// Shared is set where two engines that start one container at the same moment may both be told that they did, though it is started once:
	// Docker looks whether it runs twice, and answers the second look with success.
	Shared bool
	// QuotaFile is the kernel's file with the CPU quota of a group: cpu.cfs_quota_us (period 100 ms) or cpu.max. nil: limits are not tested.
	QuotaFile func(g cgroup.Group) string
	// User is whom the containers run as.
	User container.User
	// Other is another user that the engine can run a container as. nil: not tested.
	Other *container.User
	// Image is set for an engine whose containers have a root, a PID namespace and users of their own. It has a shell and its usual company.
	Image string
	// Labels are what the engine wants, so that it takes a container for its own.
	Labels map[string]string
	// Observed is set for an engine that only watches and resizes containers made by somebody else; it makes one, running, and returns
	// its id and what ends it. nil: the engine makes containers itself.
	Observed func(t *testing.T) (id string, end func())
}

// patience bounds every wait of the suite.
const patience = 30 * time.Second

// grace of a Stop that is expected to need none of it.
const grace = 20 * time.Second

// Run tests the engines that setup makes, a new one for each test.
func Run(t *testing.T, setup func(t *testing.T) Setup) {
	t.Helper()
	all := []struct {
		name     string
		test     func(*testing.T, *bench)
		observed bool // it applies to observed engines too
	}{
		{name: "lifecycle", test: lifecycle},
		{name: "exit codes", test: exitCodes},
		{name: "a command that can't run", test: badCommand},
		{name: "stop: TERM is enough", test: stopTerm},
		{name: "stop: TERM reaches the whole tree", test: stopTree},
		{name: "stop: KILL after the grace", test: stopKill},
		{name: "the tree dies with its first process", test: treeDies},
		{name: "output from an offset", test: outputOffset},
		{name: "output is followed without gaps", test: outputFollowed},
		{name: "large binary output", test: outputLarge},
		{name: "environment, directory, arguments", test: surroundings},
		{name: "user", test: user},
		{name: "labels and order of the list", test: labelsAndList},
		{name: "limits at creation", test: limitsAtCreation},
		{name: "started once", test: startedOnce},
		{name: "a running one is not removed", test: removeRunning},
		{name: "refused specs", test: refusedSpecs},
		{name: "events", test: events},
		{name: "another engine goes on", test: reopened},
		{name: "used at once", test: usedAtOnce},
		{name: "CPU time", test: cpuTime},
		{name: "resize is in force", test: resize, observed: true},
		{name: "an unchanged limit is not written", test: unchanged, observed: true},
		{name: "what is not there", test: notFound, observed: true},
		{name: "a context ends waiting", test: contextEnds, observed: true},
		{name: "the end is noticed", test: endNoticed, observed: true},
		{name: "the end is heralded", test: endHeralded},
		{name: "what is not supported says so", test: notSupported, observed: true},
	}
	for _, c := range all {
		t.Run(c.name, func(t *testing.T) {
			b := &bench{Setup: setup(t)}
			if b.Observed != nil && !c.observed {
				t.Skip("this engine makes no containers of its own")
			}
			c.test(t, b)
		})
	}
}

// bench is a Setup with the helpers of the tests.
type bench struct {
	Setup
	n atomic.Int64
}

// create makes a container of s, with an id if it has none, and cleans it up at the end.
func (b *bench) create(t *testing.T, s container.Spec) string {
	t.Helper()
	if s.ID == "" {
		s.ID = fmt.Sprintf("c%d-1", b.n.Add(1))
	}
	if s.User.UID == 0 && s.User.GID == 0 {
		s.User = b.User
	}
	b.complete(&s)
	if err := b.Engine.Create(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.clean(t, s.ID) })
	return s.ID
}

// complete adds what the engine wants of every spec.
func (b *bench) complete(s *container.Spec) {
	if s.Image == "" {
		s.Image = b.Image
	}
	if len(b.Labels) > 0 {
		s.Labels = maps.Clone(s.Labels)
		if s.Labels == nil {
			s.Labels = map[string]string{}
		}
		for k, v := range b.Labels {
			if _, ok := s.Labels[k]; !ok {
				s.Labels[k] = v
			}
		}
	}
}

func (b *bench) whole(s container.Spec) container.Spec {
	b.complete(&s)
	return s
}

// contained skips a test of what an engine with images of its own does otherwise, and tests itself.
func (b *bench) contained(t *testing.T) {
	t.Helper()
	if b.Image != "" {
		t.Skip("containers of this engine have a root and a PID namespace of their own: tested there")
	}
}

// clean runs when the test's own context has ended.
func (b *bench) clean(t *testing.T, id string) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	err := b.Engine.Stop(ctx, id, 0)
	if errors.Is(err, container.ErrNotRunning) || errors.Is(err, container.ErrNotFound) {
		err = nil
	}
	if rerr := b.Engine.Remove(ctx, id); !errors.Is(rerr, container.ErrNotFound) {
		err = errors.Join(err, rerr)
	}
	if err != nil {
		t.Errorf("clean up %s: %v", id, err)
	}
}

// run creates and starts a container.
func (b *bench) run(t *testing.T, s container.Spec) string {
	t.Helper()
	id := b.create(t, s)
	if err := b.Engine.Start(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	return id
}

// running is a container that runs until the test ends, made as the engine can.
func (b *bench) running(t *testing.T) (id string, end func()) {
	t.Helper()
	if b.Observed != nil {
		return b.Observed(t)
	}
	id = b.run(t, container.Spec{Command: "exec sleep 1000"})
	return id, func() {
		if err := b.Engine.Stop(t.Context(), id, 0); err != nil {
			t.Error(err)
		}
	}
}

func (b *bench) wait(t *testing.T, id string) container.Exit {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	x, err := b.Engine.Wait(ctx, id)
	if err != nil {
		t.Fatal(err)
	}
	return x
}

func (b *bench) inspect(t *testing.T, id string) container.Info {
	t.Helper()
	i, err := b.Engine.Inspect(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	return i
}

// output reads all of an output, to the container's end.
func (b *bench) output(t *testing.T, id string, s container.Stream, offset int64) []byte {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	r, err := b.Engine.Logs(ctx, id, s, offset)
	if err != nil {
		t.Fatal(err)
	}
	out, err := io.ReadAll(r)
	if err = errors.Join(err, r.Close()); err != nil {
		t.Fatal(err)
	}
	return out
}

// up waits until a container has written that it is up.
func (b *bench) up(t *testing.T, id string) {
	t.Helper()
	const text = "up\n"
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	r, err := b.Engine.Logs(ctx, id, container.Stdout, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close() //nolint:errcheck // nothing was written
	got := make([]byte, len(text))
	if _, err = io.ReadFull(r, got); err != nil || string(got) != text {
		t.Fatalf("output %q, %v; want %q", got, err, text)
	}
}
