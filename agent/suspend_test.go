package agent

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"qosctl/agent/api"
	"qosctl/cgroup"
	"qosctl/ckpt"
	"qosctl/container"
	"qosctl/container/process"
	"qosctl/qos"
)

// fakeKeeper stands for checkpoints: taking one ends the container, restoring one starts another from the beginning. The real one is
// tested in its own room, and end to end.
type fakeKeeper struct {
	engine engine // set by giveDocker
	groups *cgroup.FS
	node   string

	mu       sync.Mutex
	list     []ckpt.Manifest
	taken    int
	take     func(ctx context.Context, n int) error // before anything is done; nil: it succeeds
	restore  func(r ckpt.Ref) error
	back     error
	halfway  error                                   // what Take returns when the container has ended
	complete func(r ckpt.Ref) (ckpt.Manifest, error) // after that
	restored []ckpt.Ref
	finished []ckpt.Manifest // what Recover returns
	failed   ckpt.RecoverError
	takeUp   func(ctx context.Context, r ckpt.Ref) (ckpt.Manifest, error)
	pruned   int
	class    ckpt.Class
	none     atomic.Bool // no driver has passed

	restoring func(ctx context.Context) error // before anything is done; nil: it goes on
}

func (k *fakeKeeper) Test(context.Context) ckpt.Report { return k.Report() }
func (*fakeKeeper) Prepare(*container.Spec) error      { return nil }

func (k *fakeKeeper) Report() ckpt.Report {
	if k.none.Load() {
		return ckpt.Report{}
	}
	return ckpt.Report{Driver: "fake", Class: k.class}
}

func (k *fakeKeeper) Take(ctx context.Context, o ckpt.Order) (ckpt.Manifest, error) {
	k.mu.Lock()
	k.taken++
	n, fail := k.taken, k.take
	k.mu.Unlock()
	if fail != nil {
		if err := fail(ctx, n); err != nil {
			return ckpt.Manifest{}, err
		}
	}
	r, err := k.groups.OpenReader(o.Group)
	if err != nil {
		return ckpt.Manifest{}, fmt.Errorf("%w: %w", ckpt.ErrDump, err)
	}
	defer r.Close() //nolint:errcheck // only read
	counter, err := r.Usage()
	if err != nil {
		return ckpt.Manifest{}, fmt.Errorf("%w: %w", ckpt.ErrDump, err)
	}
	if !o.Keep {
		if err := k.engine.Stop(ctx, o.Container, 0); err != nil {
			return ckpt.Manifest{}, err
		}
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	m := ckpt.Manifest{
		Job: o.Job, Name: o.Name, Sequence: n, Execution: o.Execution, Incarnation: o.Incarnation, CPU: o.Base + counter - o.Zero, Kept: o.Keep,
		Node: k.node, Counter: counter, Container: ckpt.Container{ID: o.Container}, Taken: time.Now(), Reason: o.Reason,
	}
	if k.halfway != nil {
		return m, k.halfway
	}
	k.list = append(k.list, m)
	return m, nil
}

func (k *fakeKeeper) Complete(_ context.Context, r ckpt.Ref) (ckpt.Manifest, error) {
	return k.complete(r)
}

func (k *fakeKeeper) Seal(ctx context.Context, r ckpt.Ref) (ckpt.Manifest, string, error) {
	m, digest, err := k.Describe(ctx, r)
	return m, digest, err
}

func (k *fakeKeeper) Restorable(context.Context, ckpt.Ref, container.Spec) error {
	if k.none.Load() {
		return ckpt.ErrDisabled
	}
	return nil
}

func (k *fakeKeeper) Restore(ctx context.Context, r ckpt.Ref, s container.Spec) (ckpt.Restored, error) {
	k.mu.Lock()
	fail := k.restore
	k.restored = append(k.restored, r)
	wait := k.restoring
	k.mu.Unlock()
	if wait != nil {
		if err := wait(ctx); err != nil {
			return ckpt.Restored{}, err
		}
	}
	if fail != nil {
		if err := fail(r); err != nil {
			return ckpt.Restored{}, err
		}
	}
	if err := k.engine.Create(ctx, s); err != nil {
		return ckpt.Restored{}, err
	}
	return ckpt.Restored{}, k.engine.Start(ctx, s.ID)
}

func (*fakeKeeper) Resumed(context.Context, ckpt.Ref, string) (ckpt.Restored, error) {
	return ckpt.Restored{}, ckpt.ErrNone
}

func (k *fakeKeeper) Back(context.Context, ckpt.Ref) (ckpt.Restored, error) {
	return ckpt.Restored{}, k.back
}

func (k *fakeKeeper) List(_ context.Context, job string) ([]ckpt.Manifest, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(k.list), func(m ckpt.Manifest) bool { return job != "" && m.Job != job }), nil
}

func (*fakeKeeper) Verify(context.Context, ckpt.Ref) (ckpt.Manifest, error) {
	return ckpt.Manifest{}, nil
}

func (k *fakeKeeper) Remove(_ context.Context, r ckpt.Ref) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.list = slices.DeleteFunc(k.list, func(m ckpt.Manifest) bool { return m.Job == r.Job && m.Sequence == r.Sequence })
	return nil
}

func (k *fakeKeeper) Recover(context.Context) ([]ckpt.Manifest, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.failed != nil {
		return k.finished, k.failed
	}
	return k.finished, nil
}

func (k *fakeKeeper) Describe(ctx context.Context, r ckpt.Ref) (ckpt.Manifest, string, error) {
	list, err := k.List(ctx, r.Job)
	for _, m := range list {
		if m.Sequence == r.Sequence {
			b, err := json.Marshal(m)
			return m, fmt.Sprintf("%x", sha256.Sum256(b)), err
		}
	}
	return ckpt.Manifest{}, "", errors.Join(ckpt.ErrNone, err)
}

func (k *fakeKeeper) Send(ctx context.Context, r ckpt.Ref, w io.Writer, _ ckpt.SendOptions) error {
	m, _, err := k.Describe(ctx, r)
	if err == nil {
		err = json.NewEncoder(w).Encode(m)
	}
	return err
}

func (k *fakeKeeper) Fetch(ctx context.Context, o ckpt.FetchOptions) (f ckpt.Fetched, err error) {
	r, err := o.Open(ctx, ckpt.Position{})
	if err != nil {
		return f, err
	}
	defer r.Close() //nolint:errcheck // only read
	if err := json.NewDecoder(r).Decode(&f.Manifest); err != nil {
		return f, err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.list = append(k.list, f.Manifest)
	k.taken = max(k.taken, f.Manifest.Sequence)
	return f, nil
}

func (k *fakeKeeper) clear(ctx context.Context) error {
	list, err := k.engine.List(ctx)
	errs := []error{err}
	for _, c := range list {
		errs = append(errs, k.engine.Stop(ctx, c.ID, 0), k.engine.Remove(ctx, c.ID))
	}
	return errors.Join(append(errs, k.engine.(io.Closer).Close())...)
}

// giveDocker gives an agent a second engine, for jobs with the image "img".
func (n *node) giveDocker(a *Agent) {
	n.t.Helper()
	dir := filepath.Join(filepath.Dir(n.cfg.DataDir), "docker")
	image := filepath.Join(filepath.Dir(n.cfg.DataDir), "image")
	if err := os.MkdirAll(image, 0o755); err != nil {
		n.t.Fatal(err)
	}
	e, err := process.New(process.Options{
		Dir: dir, Shim: []string{"/proc/self/exe", "shim"}, Cgroups: a.engines.cgroups, CgroupRoot: n.cfg.Cgroup.Root, Proc: n.cfg.Cgroup.Proc,
		CgroupParent: n.cfg.Cgroup.Parent + "-docker", Images: map[string]string{"img": image}, MaxLog: 1 << 20,
	})
	if err != nil {
		n.t.Fatal(err)
	}
	a.engines.docker, a.engines.keeper = e, n.keeper
	if n.wrap != nil {
		a.engines.docker = n.wrap(e)
	}
	n.keeper.engine, n.keeper.groups, n.keeper.node = e, a.engines.cgroups, n.cfg.Node
}

// testDocker is testNode with a second engine that can checkpoint, as far as the agent can tell.
func testDocker(t *testing.T, k *fakeKeeper, change func(*Config)) *node {
	t.Helper()
	return startNode(t, change, func(n *node) { n.keeper = k })
}

// dockerJob counts in tenths of a second, and ends by itself when the file named stop in the job's directory appears.
func dockerJob(cmd string) string {
	return fmt.Sprintf(`{"id":"/saved","cmd":%q,"cpus":0.2,"mem":32,"container":{"type":"DOCKER","docker":{"image":"img"}},
		"qos":{"duration":100,"desv_deadline":0.1,"deadline":600,"executions":1}}`, cmd)
}

func stop(t *testing.T, s *api.Standin, task string) {
	t.Helper()
	if err := s.Stop(t.Context(), api.Stop{Task: task, Signal: 15}); err != nil {
		t.Fatal(err)
	}
}

func TestStoppedTaskIsSuspendedAndGoesOn(t *testing.T) {
	t.Parallel()
	k := &fakeKeeper{}
	n := testDocker(t, k, nil)
	gate := filepath.Join(t.TempDir(), "gate")
	n.submit(idA, dockerJob(`echo begun; while [ ! -e `+gate+` ]; do sleep 0.05; done; echo over`))
	s, _ := n.claim(idA, "t1")
	n.await(idA, "running", func(j api.Job) bool { return j.Progress > 0 })
	stop(t, s, "t1")
	out, _, code := n.read(s, "t1")
	if code != 143 || out != "begun\n" {
		t.Errorf("first task: code %d, output %q", code, out)
	}
	v := n.await(idA, "waiting for its next task", func(j api.Job) bool { return j.Phase == qos.PhaseSuspended || j.Phase == qos.PhasePending })
	had := v.Consumed
	if len(v.Runs) != 0 || v.Tally.Failed != 0 || had <= 0 || len(k.held()) != 1 {
		t.Errorf("suspended: %+v", v)
	}
	if err := os.WriteFile(gate, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	s2, resp := n.claim(idA, "t2")
	if resp.Verdict != verdictRun {
		t.Fatalf("claim: %+v", resp)
	}
	if out, _, code = n.read(s2, "t2"); code != 0 || out != "begun\nover\n" { // the fake restores from the beginning
		t.Errorf("second task: code %d, output %q", code, out)
	}
	v = n.await(idA, "completed", inPhase(qos.PhaseCompleted))
	if v.Tally.Succeeded != 1 || v.Tally.Failed != 0 || v.Runs[0].Parts != 2 || v.Account.Live.N != 2 {
		t.Errorf("at the end: %+v", v)
	}
	if e := v.Account.Entries[v.Account.Live]; e.Base.Seconds() != had || v.Runs[0].CPU < had {
		t.Errorf("account %+v, had %g", v.Account, had)
	}
	n.poll("its checkpoints are gone", func() bool { return len(k.held()) == 0 })
}

func TestWhatCannotBeRestoredFallsBack(t *testing.T) {
	t.Parallel()
	bad := fmt.Errorf("%w: torn", ckpt.ErrRestore)
	for name, c := range map[string]struct {
		restore func(ckpt.Ref) error
		want    []int // sequences tried
		base    bool
	}{
		"to an older checkpoint": {func(r ckpt.Ref) error {
			if r.Sequence == 2 {
				return bad
			}
			return nil
		}, []int{2, 1}, true},
		"to a fresh start":                    {func(ckpt.Ref) error { return bad }, []int{2, 1}, false},
		"not when in trouble":                 {nil, nil, true},
		"not when the disk is full":           {once(fmt.Errorf("%w: changed files: %w", ckpt.ErrRestore, ckpt.ErrSpace)), []int{2, 2}, true},
		"not when the image can't be pulled":  {once(fmt.Errorf("%w: %w", ckpt.ErrRestore, container.ErrNoImage)), []int{2, 2}, true},
		"not when it takes too long once":     {once(fmt.Errorf("%w: %w", ckpt.ErrRestore, ckpt.ErrTime)), []int{2, 2}, true},
		"not when the way back is in trouble": {once(bad), []int{2, 2}, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tries := 0
			k := &fakeKeeper{back: bad}
			k.restore = c.restore
			if strings.HasPrefix(name, "not when the way back") {
				k.back = errors.New("docker daemon does not answer")
			}
			if c.restore == nil { // the daemon is away twice: nothing is wrong with the checkpoint
				k.restore = func(ckpt.Ref) error {
					if tries++; tries <= 1 {
						return errors.New("docker daemon does not answer")
					}
					return nil
				}
				c.want = []int{2, 2}
			}
			n := testDocker(t, k, nil)
			n.submit(idA, dockerJob(`i=0; while [ $i -lt 2000 ]; do i=$((i+1)); done; exec sleep 1000`))
			s, _ := n.claim(idA, "t1")
			n.await(idA, "running", func(j api.Job) bool { return j.Progress > 0 })
			j := n.agent.jobs.get(idA)
			done := make(chan error, 1)
			j.mu.Lock()
			err := n.agent.checkpoint(j, "test", func(_ ckpt.Manifest, err error) { done <- err })
			j.mu.Unlock()
			if err == nil {
				err = <-done
			}
			if err != nil {
				t.Fatal(err)
			}
			stop(t, s, "t1")
			n.read(s, "t1")
			s2, _ := n.claim(idA, "t2")
			stream, err := s2.Output(t.Context(), "t2", "")
			if err != nil {
				t.Fatal(err)
			}
			defer stream.Close()
			n.await(idA, "running again", func(v api.Job) bool { return v.Allocation > 0 && v.Epoch == 2 })
			var got []int
			for _, r := range k.restored {
				got = append(got, r.Sequence)
			}
			e := n.agent.show(j, true).Account
			if !slices.Equal(got, c.want) || (e.Entries[e.Live].Base > 0) != c.base {
				t.Errorf("tried %v, want %v; account %+v", got, c.want, e)
			}
		})
	}
}

func TestSuspensionOutlivesItsAgent(t *testing.T) {
	t.Parallel()
	k := &fakeKeeper{take: func(ctx context.Context, n int) error {
		if n == 1 {
			<-ctx.Done()
		}
		return ctx.Err()
	}}
	n := testDocker(t, k, nil)
	n.submit(idA, dockerJob(`exec sleep 1000`))
	s, _ := n.claim(idA, "t1")
	n.await(idA, "running", func(j api.Job) bool { return j.Progress > 0 })
	stop(t, s, "t1")
	n.poll("the checkpoint is under way", func() bool { k.mu.Lock(); defer k.mu.Unlock(); return k.taken == 1 })
	n.end()
	n.begin()
	s, _ = n.claim(idA, "t1")
	if _, _, code := n.read(s, "t1"); code != 143 {
		t.Errorf("code %d", code)
	}
	n.await(idA, "suspended", func(j api.Job) bool { return j.Phase == qos.PhaseSuspended || j.Phase == qos.PhasePending })
	if len(k.held()) != 1 {
		t.Errorf("checkpoints: %+v", k.held())
	}
}
