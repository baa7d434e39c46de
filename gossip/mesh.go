package gossip

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/memberlist"

	"qosctl/qos"
)

// Mesh is one node's part in the cluster: its members, and the replicated job table.
type Mesh struct {
	opts    Options
	profile profile
	log     *slog.Logger
	config  *memberlist.Config
	roster  *roster
	queue   *queue
	chat    *chatter

	list atomic.Pointer[memberlist.Memberlist] // nil before Run
	ran  atomic.Bool
	root atomic.Uint64 // of the table: what memberlist's acknowledgements carry
	mark atomic.Uint64 // the marks' hash

	mu       sync.Mutex // guards what follows; memberlist is never called under it
	table    *table
	marks    *marks
	meta     Meta
	metaWire []byte
	unstored map[string]bool // rows
	unkept   map[string]bool // marks

	storing sync.Mutex // one writer to the store at a time

	inbox    chan []byte   // user messages as they come
	mismatch chan string   // a member whose digests differ from ours
	newMeta  chan struct{} // the meta has changed
	tell     *teller

	settle settling
	vain   vain
	said   once // of rows
	counts counters
}

// counters are Stats' counters.
type counters struct {
	strangers, refused, malformed, overflow, exchanges, failed, learned, given atomic.Uint64
	conflicts, sent, heard, rejected                                           atomic.Uint64
}

// New makes a Mesh from what the store remembers. It binds the addresses, and speaks to nobody before Run; one that is not run must be
// closed.
func New(opts Options) (*Mesh, error) {
	if err := opts.check(); err != nil {
		return nil, err
	}
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.DiscardHandler)
	}
	if opts.Store == nil {
		opts.Store = forgetful{}
	}
	p, err := opts.profile()
	if err != nil {
		return nil, err
	}
	m := &Mesh{
		opts: opts, profile: p, log: opts.Logger.With("pkg", "gossip"),
		roster: newRoster(opts.Node), table: newTable(), marks: newMarks(),
		unstored: map[string]bool{}, unkept: map[string]bool{},
		inbox: make(chan []byte, 4096), mismatch: make(chan string, 1), newMeta: make(chan struct{}, 1),
		tell: newTeller(), vain: vain{all: map[attempt]failure{}},
	}
	m.chat = &chatter{log: m.log, heard: func() { m.counts.strangers.Add(1) }, suspect: m.roster.suspect}
	m.roster.changed = m.tell.members
	m.roster.came = m.came
	if err := m.SetMeta(Meta{}); err != nil {
		return nil, err
	}
	if err := m.load(); err != nil {
		return nil, err
	}
	if m.config, err = opts.config(p, m.chat); err != nil {
		return nil, err
	}
	m.queue = newQueue(func() int { alive, _ := m.roster.count(); return alive }, m.config.RetransmitMult)
	if err := m.bind(); err != nil {
		return nil, err
	}
	hooks := &hooks{m}
	m.config.Delegate, m.config.Ping, m.config.Alive, m.config.Conflict = hooks, hooks, hooks, hooks
	m.config.Events = m.roster
	return m, nil
}

// bind opens the transport, so that an address in use is known before anything runs.
func (m *Mesh) bind() error {
	if m.opts.Transport != nil {
		m.config.Transport = m.opts.Transport
		return nil
	}
	t, err := memberlist.NewNetTransport(&memberlist.NetTransportConfig{
		BindAddrs: []string{m.config.BindAddr}, BindPort: m.config.BindPort,
		Logger: slog.NewLogLogger(lines{m.chat}, slog.LevelDebug),
	})
	if err != nil {
		return fmt.Errorf("gossip: bind %s: %w", m.opts.Bind, err)
	}
	if m.config.BindPort == 0 {
		m.config.BindPort = t.GetAutoBindPort()
	}
	if m.config.AdvertisePort == 0 {
		m.config.AdvertisePort = m.config.BindPort
	}
	m.config.Transport = t
	return nil
}

// Close gives the addresses back of a Mesh that was never run.
func (m *Mesh) Close() error {
	if m.ran.Load() {
		return nil
	}
	if err := hangUp(m.config.Transport); err != nil {
		return fmt.Errorf("gossip: close: %w", err)
	}
	return nil
}

// hangUp ends a transport from which nobody reads. What comes in meanwhile is thrown away: else its listeners would wait for somebody to
// take it, and Shutdown for them.
func hangUp(t memberlist.Transport) error {
	var wg sync.WaitGroup
	done := make(chan struct{})
	wg.Go(func() {
		for {
			select {
			case <-t.PacketCh():
			case c := <-t.StreamCh():
				_ = c.Close() // nobody talks here
			case <-done:
				return
			}
		}
	})
	err := t.Shutdown()
	close(done)
	wg.Wait()
	return err
}

// Run joins the cluster and takes part in it until ctx ends. It ends without Leave: to the others this node is then silent, and a
// restart within the time of suspicion is not noticed.
func (m *Mesh) Run(ctx context.Context) error {
	if m.ran.Swap(true) {
		return errors.New("gossip: run twice")
	}
	// Nodes that start at once would probe and gossip in step, which finds deaths and spreads news more slowly.
	if !wait(ctx, rand.N(m.config.ProbeInterval)) {
		return hangUp(m.config.Transport)
	}
	select {
	case <-m.newMeta: // it goes with the first word
	default:
	}
	list, err := memberlist.Create(m.config)
	if err != nil {
		return fmt.Errorf("gossip: start: %w", errors.Join(err, hangUp(m.config.Transport)))
	}
	m.list.Store(list)
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	var wg sync.WaitGroup
	for _, loop := range []func(context.Context){
		m.listen, m.tellLoop, m.keepLoop, m.settleLoop, m.joinLoop, m.exchangeLoop, m.accountsLoop, m.metaLoop,
	} {
		wg.Go(func() { loop(ctx) })
	}
	<-ctx.Done()
	err = list.Shutdown()
	wg.Wait()
	if err := errors.Join(err, m.flush()); err != nil {
		return fmt.Errorf("gossip: stop: %w", err)
	}
	return nil
}

// wait returns false if ctx ends before d is over.
func wait(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}

// jitter is d, more or less a third.
func jitter(d time.Duration) time.Duration { return d*2/3 + rand.N(d*2/3+1) }

// Leave tells the others that this node goes for good: its jobs fall to others at once. Run goes on until its context ends; a Mesh that
// has left cannot come back.
func (m *Mesh) Leave(ctx context.Context) error {
	list := m.list.Load()
	if list == nil {
		return errors.New("gossip: leave: not running")
	}
	m.mu.Lock()
	meta := m.meta
	m.mu.Unlock()
	meta.Leaving = true
	if err := m.SetMeta(meta); err != nil {
		return fmt.Errorf("gossip: leave: %w", err)
	}
	timeout := 10 * time.Second
	if d, ok := ctx.Deadline(); ok {
		timeout = max(time.Until(d), time.Millisecond)
	}
	if alive, _ := m.roster.count(); alive > 1 {
		m.tellLeaving(ctx, list, timeout/2)
	}
	if err := list.Leave(timeout / 2); err != nil {
		return fmt.Errorf("gossip: leave: %w", err)
	}
	return nil
}

// leavings is how often a node that leaves says so. Each word goes once from each node to some others: of nine nodes in a hundred one does
// not hear the first.
const leavings = 3

// tellLeaving has all know the meta of a node that leaves. The word of its end replaces that of the meta on its way: each gets about first.
func (m *Mesh) tellLeaving(ctx context.Context, list *memberlist.Memberlist, timeout time.Duration) {
	for range leavings {
		if err := list.UpdateNode(timeout / leavings); err != nil {
			m.log.Warn("leaving could not be told beforehand: others may take this node for dead at first", "err", err)
			return
		}
		wait(ctx, min(4*m.profile.gossip, timeout/leavings/2))
	}
}

// Address is where memberlist is reached, host:port; "" before Run.
func (m *Mesh) Address() string {
	self, _ := m.roster.get(m.opts.Node)
	return self.Address
}

// Put takes in this node's own write, as owner, steward or submitter: it is merged, remembered on disk, and told. It returns the record
// as it stands now. A version is never used twice: a write under an epoch, owner and sequence that the table has something else for becomes
// the next in sequence, and so does an owner's own under an older sequence. A write that was superseded, or is another's and stale, is no
// error: what is returned says what holds.
func (m *Mesh) Put(rec qos.Record) (qos.Record, error) {
	now := time.Now()
	m.mu.Lock()
	stored, tell, changed, err := m.table.put(rec, m.opts.Node, now)
	if changed {
		m.touch(rec.Spec.ID)
	}
	m.mu.Unlock()
	if err != nil {
		return qos.Record{}, err
	}
	if changed {
		if err := m.flush(); err != nil { // before others know: else a version could be used twice
			return qos.Record{}, fmt.Errorf("put job %s: %w", rec.Spec.ID, err)
		}
	}
	if tell {
		if msg := newsOf(stored, m.opts.Node).encode(); msg != nil {
			m.queue.add("job/"+rec.Spec.ID, msg, true, now)
		}
	}
	return stored, nil
}

// touch notes that a job's row has changed. It is called under mu.
func (m *Mesh) touch(id string) {
	m.unstored[id] = true
	m.root.Store(m.table.root)
}

// Get is what is known of a job: its row, and what broadcasts and accounts say beyond it. The record is the caller's own, but for its
// spec, which never changes.
func (m *Mesh) Get(id string) (qos.Record, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.table.view(id)
}

// Removed says whether a job was removed: while that is remembered, its id can't be put.
func (m *Mesh) Removed(id string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	r := m.table.rows[id]
	return r != nil && r.grave != nil
}

// Behind says whether more is known of a job by broadcast than its row holds, and from whom the row can be pulled. What Get shows is then
// a mixture: whose job it is is right, the rest is older.
func (m *Mesh) Behind(id string) (from string, behind bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.table.behind(id)
}

// Whole is what is known of a job if its row is not behind what broadcasts have told.
func (m *Mesh) Whole(id string) (qos.Record, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, behind := m.table.behind(id); behind {
		return qos.Record{}, false
	}
	return m.table.view(id)
}

// Sound is what is known of a job without the mixture that Get shows while its row is behind: the row's phase, execution and checkpoint go
// together. Epoch, owner and sequence are those that are known, and of a life that has ended by what is known the phase, without a time.
func (m *Mesh) Sound(id string) (qos.Record, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.table.sound(id)
}

// All is what is known of all jobs, by id.
func (m *Mesh) All() []qos.Record {
	m.mu.Lock()
	defer m.mu.Unlock()
	all := make([]qos.Record, 0, len(m.table.rows)-m.table.graves)
	for _, id := range slices.Sorted(maps.Keys(m.table.rows)) {
		if rec, ok := m.table.view(id); ok {
			all = append(all, rec)
		}
	}
	return all
}

// Remove drops a job for good, everywhere. Its id is remembered for a day, so that no peer brings it back. To remove one that nobody
// knows is no error.
func (m *Mesh) Remove(id string) error {
	if !validID(id) {
		return fmt.Errorf("remove job %.80q: no id", id)
	}
	now := time.Now()
	m.mu.Lock()
	changed, err := m.table.merge(tombstone(id, 0, now), now)
	if changed {
		m.touch(id)
	}
	m.mu.Unlock()
	if err != nil || !changed {
		return err
	}
	if err := m.flush(); err != nil {
		return fmt.Errorf("remove job %s: %w", id, err)
	}
	if msg := (news{id: id, from: m.opts.Node, version: Version{Removed: true}}).encode(); msg != nil {
		m.queue.add("job/"+id, msg, true, now)
	}
	return nil
}

// Digest is a hash of the versions of all rows: two nodes with the same one have the same table.
func (m *Mesh) Digest() uint64 { return m.root.Load() }
