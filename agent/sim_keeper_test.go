package agent

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"time"

	"qosctl/cgroup"
	"qosctl/ckpt"
	"qosctl/container"
)

// simCheckpoint is one on a machine's disk: it outlives agent and machine.
type simCheckpoint struct {
	M      ckpt.Manifest `json:"m"`
	State  time.Duration `json:"state"` // what the process state in it embodies in truth
	Goal   time.Duration `json:"goal"`
	Sealed bool          `json:"sealed"`
}

// simKeeper keeps a machine's checkpoints, as one agent reaches them.
type simKeeper struct{ hand }

func (*simKeeper) Test(context.Context) ckpt.Report { return ckpt.Report{Driver: "sim"} }
func (*simKeeper) Report() ckpt.Report              { return ckpt.Report{Driver: "sim"} }
func (*simKeeper) Prepare(*container.Spec) error    { return nil }

// Take freezes a container, reads its counter, writes, and ends it or lets it go on. An agent that is killed meanwhile leaves it as it was,
// or a checkpoint that its successor finds.
func (k *simKeeper) Take(ctx context.Context, o ckpt.Order) (m ckpt.Manifest, err error) {
	if err := k.pass(ctx, 5*time.Millisecond, 50*time.Millisecond); err != nil {
		return m, err
	}
	w := k.n.w
	w.mu.Lock()
	c := k.n.containers[o.Container]
	if !k.alive() || c == nil || c.State != container.Running || c.frozen {
		w.mu.Unlock()
		return m, fmt.Errorf("%w: it does not run", ckpt.ErrDump)
	}
	c.frozen = true
	k.n.sequences[o.Job] = max(k.n.sequences[o.Job], o.After) + 1
	m = ckpt.Manifest{
		Job: o.Job, Name: o.Name, Sequence: k.n.sequences[o.Job], Epoch: o.Epoch, Execution: o.Execution, Incarnation: o.Incarnation, Kept: o.Keep,
		CPU: o.Base + c.kernel - o.Zero, Counter: c.kernel, Node: k.n.name, Container: ckpt.Container{ID: o.Container}, Taken: time.Now().Add(k.n.skew).Round(0), Reason: o.Reason,
	}
	cp := &simCheckpoint{M: m, State: c.embodied(), Goal: c.goal}
	if m.CPU != cp.State {
		w.fault("%s: checkpoint %d of %s says %v, its state embodies %v", k.n.name, m.Sequence, short(o.Container), m.CPU, cp.State)
	}
	w.mu.Unlock()
	err = k.pass(ctx, 100*time.Millisecond, 2*time.Second)
	w.mu.Lock()
	defer w.mu.Unlock()
	if k.n.containers[o.Container] != c || c.State != container.Running {
		return m, fmt.Errorf("%w: it has ended", ckpt.ErrDump)
	}
	c.frozen = false
	if err != nil && (o.Keep || w.roll(0.5, k.n.name+" dump")) {
		return m, err
	}
	k.n.checkpoints = append(k.n.checkpoints, cp)
	w.say("%s: checkpoint %d of %s: %v, kept running: %t", k.n.name, m.Sequence, short(o.Container), m.CPU, o.Keep)
	if !o.Keep {
		k.n.end(c, 137, "checkpointed")
	}
	return m, err
}

// Complete is not needed: no dump stops halfway.
func (*simKeeper) Complete(context.Context, ckpt.Ref) (ckpt.Manifest, error) {
	return ckpt.Manifest{}, ckpt.ErrNone
}

// at finds a checkpoint. The caller holds mu.
func (k *simKeeper) at(r ckpt.Ref) (*simCheckpoint, error) {
	if !k.alive() {
		return nil, errKilled
	}
	for _, c := range k.n.checkpoints {
		if c.M.Job == r.Job && c.M.Sequence == r.Sequence {
			return c, nil
		}
	}
	return nil, fmt.Errorf("%s: %w", r, ckpt.ErrNone)
}

func (c *simCheckpoint) digest() string {
	b, err := json.Marshal(c.M)
	if err != nil {
		panic(err)
	}
	return fmt.Sprintf("%x", sha256.Sum256(b))
}

// until waits for a channel of the node's to be closed, if there is one.
func (k *simKeeper) until(ctx context.Context, of func(*simNode) chan struct{}) error {
	k.n.w.mu.Lock()
	ch := of(k.n)
	k.n.w.mu.Unlock()
	if ch == nil {
		return nil
	}
	select {
	case <-ch:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (k *simKeeper) Seal(ctx context.Context, r ckpt.Ref) (m ckpt.Manifest, digest string, err error) {
	if err := k.pass(ctx, 50*time.Millisecond, time.Second); err != nil {
		return m, "", err
	}
	if err := k.until(ctx, func(n *simNode) chan struct{} { return n.sealing }); err != nil {
		return m, "", err
	}
	k.n.w.mu.Lock()
	defer k.n.w.mu.Unlock()
	c, err := k.at(r)
	if err != nil {
		return m, "", err
	}
	c.Sealed = true
	return c.M, c.digest(), nil
}

func (k *simKeeper) Describe(_ context.Context, r ckpt.Ref) (m ckpt.Manifest, digest string, err error) {
	k.n.w.mu.Lock()
	defer k.n.w.mu.Unlock()
	c, err := k.at(r)
	if err != nil {
		return m, "", err
	}
	if !c.Sealed {
		return m, "", fmt.Errorf("%s: %w: it is not sealed", r, ckpt.ErrBusy)
	}
	return c.M, c.digest(), nil
}

func (*simKeeper) Restorable(context.Context, ckpt.Ref, container.Spec) error { return nil }

func (k *simKeeper) Restore(ctx context.Context, r ckpt.Ref, s container.Spec) (out ckpt.Restored, err error) {
	if err := k.pass(ctx, 100*time.Millisecond, time.Second); err != nil {
		return out, err
	}
	epoch := k.epoch(s.ID)
	k.n.w.mu.Lock()
	defer k.n.w.mu.Unlock()
	c, err := k.at(r)
	if err != nil {
		return out, err
	}
	if k.n.unfit != nil {
		return out, k.n.unfit
	}
	box, err := k.n.add("docker", s)
	if err != nil {
		return out, err
	}
	box.base, box.goal, box.from = c.State, c.Goal, r.Sequence
	k.n.start(box, epoch)
	return ckpt.Restored{Group: box.Cgroup}, nil
}

func (k *simKeeper) Resumed(_ context.Context, r ckpt.Ref, id string) (out ckpt.Restored, err error) {
	k.n.w.mu.Lock()
	defer k.n.w.mu.Unlock()
	if c := k.n.containers[id]; k.alive() && c != nil && c.from == r.Sequence && c.State != container.Created {
		return ckpt.Restored{Group: cgroup.Group{CPU: "/" + id, CPUAcct: "/" + id}}, nil
	}
	return out, ckpt.ErrNone
}

func (*simKeeper) Back(context.Context, ckpt.Ref) (ckpt.Restored, error) {
	return ckpt.Restored{}, fmt.Errorf("%w: there is no way back", ckpt.ErrRestore)
}

func (k *simKeeper) List(_ context.Context, job string) (list []ckpt.Manifest, err error) {
	k.n.w.mu.Lock()
	defer k.n.w.mu.Unlock()
	if !k.alive() {
		return nil, errKilled
	}
	for _, c := range k.n.checkpoints {
		if job != "" && c.M.Job != job {
			continue
		}
		m := c.M
		if c.Sealed {
			m.Files = []ckpt.File{{Name: "images"}}
		}
		list = append(list, m)
	}
	return list, nil
}

func (k *simKeeper) Verify(_ context.Context, r ckpt.Ref) (m ckpt.Manifest, err error) {
	k.n.w.mu.Lock()
	defer k.n.w.mu.Unlock()
	c, err := k.at(r)
	if err != nil {
		return m, err
	}
	return c.M, nil
}

func (k *simKeeper) Remove(ctx context.Context, r ckpt.Ref) error {
	if err := k.pass(ctx, 0, 20*time.Millisecond); err != nil {
		return err
	}
	k.n.w.mu.Lock()
	defer k.n.w.mu.Unlock()
	k.n.drop(func(m ckpt.Manifest) bool { return m.Job == r.Job && m.Sequence == r.Sequence })
	return nil
}

// drop removes checkpoints. The caller holds mu.
func (n *simNode) drop(those func(ckpt.Manifest) bool) {
	n.checkpoints = slices.DeleteFunc(n.checkpoints, func(c *simCheckpoint) bool {
		gone := those(c.M)
		if gone {
			n.w.say("%s: checkpoint %d of %s is removed", n.name, c.M.Sequence, short(c.M.Container.ID))
		}
		return gone
	})
}

// keepPerJob is checkpoint.keep.
const keepPerJob = 2

func (k *simKeeper) Prune(_ context.Context, wanted func(job string) bool) error {
	list, err := k.List(context.Background(), "")
	if err != nil {
		return err
	}
	keep := map[string]bool{}
	for _, m := range list {
		if _, ok := keep[m.Job]; !ok {
			keep[m.Job] = wanted(m.Job) // under no lock of the world's: it takes jobs'
		}
	}
	k.n.w.mu.Lock()
	defer k.n.w.mu.Unlock()
	if !k.alive() {
		return errKilled
	}
	newer := map[string]int{}
	for _, m := range slices.Backward(list) {
		newer[m.Job]++
		if n := newer[m.Job]; !keep[m.Job] || n > keepPerJob {
			k.n.drop(func(c ckpt.Manifest) bool { return c.Job == m.Job && c.Sequence == m.Sequence })
		}
	}
	return nil
}

func (*simKeeper) TakeUp(context.Context, ckpt.Ref) (ckpt.Manifest, error) {
	return ckpt.Manifest{}, nil
}

// Recover returns the checkpoints that ended their container.
func (k *simKeeper) Recover(ctx context.Context) (list []ckpt.Manifest, err error) {
	if err := k.until(ctx, func(n *simNode) chan struct{} { return n.recovering }); err != nil {
		return nil, err
	}
	k.n.w.mu.Lock()
	defer k.n.w.mu.Unlock()
	if !k.alive() {
		return nil, errKilled
	}
	for _, c := range k.n.checkpoints {
		if !c.M.Kept && c.M.Node == k.n.name {
			list = append(list, c.M)
		}
	}
	for _, c := range k.n.containers {
		c.frozen = false
	}
	return list, nil
}

func (k *simKeeper) Send(_ context.Context, r ckpt.Ref, out io.Writer, _ ckpt.SendOptions) error {
	k.n.w.mu.Lock()
	c, err := k.at(r)
	var one simCheckpoint
	if err == nil {
		one = *c
	}
	k.n.w.mu.Unlock()
	if err != nil {
		return err
	}
	return json.NewEncoder(out).Encode(one)
}

func (k *simKeeper) Fetch(ctx context.Context, o ckpt.FetchOptions) (f ckpt.Fetched, err error) {
	r, err := o.Open(ctx, ckpt.Position{})
	if err != nil {
		return f, err
	}
	defer r.Close() //nolint:errcheck // only read
	var c simCheckpoint
	if err := json.NewDecoder(r).Decode(&c); err != nil {
		return f, err
	}
	if err := k.pass(ctx, 100*time.Millisecond, 3*time.Second); err != nil {
		return f, err
	}
	k.n.w.mu.Lock()
	defer k.n.w.mu.Unlock()
	has, err := k.at(ckpt.Ref{Job: o.Job, Sequence: o.Sequence})
	switch {
	case err == nil && has.digest() != c.digest():
		return f, fmt.Errorf("%w: taken on %s", ckpt.ErrTaken, has.M.Node)
	case err == nil:
		return ckpt.Fetched{Manifest: has.M, Already: true}, nil
	case !k.alive():
		return f, errKilled
	}
	k.n.w.say("%s: checkpoint %d of %s, taken on %s, was fetched", k.n.name, c.M.Sequence, short(c.M.Container.ID), c.M.Node)
	k.n.checkpoints = append(k.n.checkpoints, &c)
	k.n.sequences[o.Job] = max(k.n.sequences[o.Job], o.Sequence)
	return ckpt.Fetched{Manifest: c.M}, nil
}
