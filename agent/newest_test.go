package agent

import (
	"context"
	"log/slog"
	"slices"
	"testing"
	"time"

	"qosctl/ckpt"
	"qosctl/qos"
)

// Which of the checkpoints on offer a claimer names: the newest of what ran last, never one of another part of a cluster that was cut.
func TestTheNewestCheckpointOfTheRightLine(t *testing.T) {
	t.Parallel()
	of := func(sequence, execution, incarnation int, node string) offer {
		return offer{Sequence: sequence, Execution: execution, Incarnation: incarnation, Node: node}
	}
	named := &qos.Saved{Node: "a", Sequence: 5, Execution: 1, Incarnation: 1}
	for name, c := range map[string]struct {
		live   qos.Incarnation
		saved  *qos.Saved
		offers []offer
		want   int // sequence; 0: none
		known  int
	}{
		"what the row names is the newest":   {qos.Incarnation{N: 1, Node: "a"}, named, []offer{of(4, 1, 1, "a"), of(5, 1, 1, "a")}, 0, 0},
		"later ones of the same container":   {qos.Incarnation{N: 1, Node: "a"}, named, []offer{of(6, 1, 1, "a"), of(8, 1, 1, "a"), of(7, 1, 1, "a")}, 8, 6},
		"later ones that were discarded":     {qos.Incarnation{N: 2, Node: "b"}, named, []offer{of(6, 1, 1, "a"), of(7, 1, 2, "b")}, 0, 7},
		"the row names none":                 {qos.Incarnation{N: 1, Node: "a"}, nil, []offer{of(1, 1, 1, "a"), of(2, 1, 1, "a")}, 2, 0},
		"one of the container that went on":  {qos.Incarnation{N: 2, Node: "b"}, named, []offer{of(9, 1, 1, "a"), of(6, 1, 2, "b")}, 6, 0},
		"one of the other side of a cut":     {qos.Incarnation{N: 2, Node: "b"}, &qos.Saved{Node: "b", Sequence: 6, Execution: 1, Incarnation: 2}, []offer{of(9, 1, 1, "a"), of(8, 1, 2, "a"), of(7, 1, 3, "a")}, 0, 0},
		"one of another execution":           {qos.Incarnation{N: 1, Node: "a"}, named, []offer{of(9, 2, 1, "a")}, 0, 0},
		"the row's is of the last execution": {qos.Incarnation{N: 1, Node: "a"}, &qos.Saved{Node: "a", Sequence: 5, Execution: 0, Incarnation: 1}, []offer{of(3, 1, 1, "a")}, 3, 0},
		"a lower one went on from it":        {qos.Incarnation{N: 1, Node: "b"}, &qos.Saved{Node: "a", Sequence: 5, Execution: 1, Incarnation: 2}, []offer{of(9, 1, 1, "b")}, 0, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			st := qos.Status{Saved: c.saved, Sequence: c.known, Execution: &qos.Execution{Index: 1, Account: qos.Account{Live: c.live}}}
			got := 0
			if o := newest(c.offers, st); o != nil {
				got = o.Sequence
			}
			if got != c.want {
				t.Errorf("checkpoint %d, want %d", got, c.want)
			}
		})
	}
}

// What a restore picks among those on offer.
func TestWhichCheckpointIsFetched(t *testing.T) {
	t.Parallel()
	saved := qos.Saved{Node: "a", Sequence: 5, Execution: 1, Incarnation: 1}
	of := func(sequence, incarnation int, node string, cpu time.Duration) offer {
		return offer{Sequence: sequence, Execution: 1, Incarnation: incarnation, Node: node, CPU: cpu}
	}
	unsealed := of(7, 1, "a", 7)
	unsealed.Unsealed = true
	for name, c := range map[string]struct {
		offers []offer
		want   int // sequence that somebody wants
		get    int
	}{
		"the one that the row names":         {[]offer{of(4, 1, "a", 9), of(5, 1, "a", 5), of(6, 1, "b", 9)}, 5, 5},
		"one that was discarded":             {[]offer{of(5, 1, "a", 5), of(6, 1, "a", 6)}, 5, 5},
		"a later one of the same container":  {[]offer{of(7, 1, "a", 7), of(5, 1, "a", 5), of(6, 1, "a", 6)}, 5, 7},
		"a later one that is not sealed yet": {[]offer{of(5, 1, "a", 5), unsealed}, 5, 5},
		"the one that somebody wants":        {[]offer{of(4, 1, "a", 4), of(5, 1, "a", 5), of(6, 1, "a", 6)}, 4, 4},
		"else the one with the most":         {[]offer{of(3, 1, "a", 3), of(9, 1, "b", 4), of(4, 1, "b", 2)}, 5, 9},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := pick(c.offers, saved, 6, c.want); got == nil || got.Sequence != c.get {
				t.Errorf("%+v, want checkpoint %d", got, c.get)
			}
		})
	}
}

// A later checkpoint that lies here already is gone on from, though the row names another.
func TestALaterCheckpointThatIsHere(t *testing.T) {
	t.Parallel()
	at := func(sequence, incarnation int, node string, sealed bool) ckpt.Manifest {
		m := ckpt.Manifest{Job: idA, Sequence: sequence, Execution: 1, Incarnation: incarnation, Node: node, CPU: time.Duration(sequence)}
		if sealed {
			m.Files = []ckpt.File{{Name: "images"}}
		}
		return m
	}
	for name, c := range map[string]struct {
		here []ckpt.Manifest
		want int
	}{
		"none is":                    {[]ckpt.Manifest{at(5, 1, "a", true), at(4, 1, "a", true)}, 5},
		"two are":                    {[]ckpt.Manifest{at(6, 1, "a", true), at(7, 1, "a", true), at(5, 1, "a", true)}, 7},
		"another container's":        {[]ckpt.Manifest{at(7, 2, "a", true), at(8, 1, "b", true)}, 5},
		"one that came in by half":   {[]ckpt.Manifest{at(6, 1, "a", false)}, 5},
		"though the named one isn't": {[]ckpt.Manifest{at(6, 1, "a", true)}, 6},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, _ := openTestStore(t, t.TempDir())
			a := &Agent{node: "n0", log: slog.New(slog.DiscardHandler), store: s}
			saved := qos.Saved{Node: "a", Sequence: 5, Execution: 1, Incarnation: 1}
			j := newJob(row{Record: qos.Record{Spec: qos.Spec{ID: idA, Name: "/a"}, Status: qos.Status{
				Phase: qos.PhaseRunning, Saved: &saved, Execution: &qos.Execution{Index: 1},
			}}, Local: local{Restoring: 5}})
			further := a.goesFurther(j, c.here)
			if got := j.status().Saved.Sequence; got != c.want || j.row.Local.Restoring != c.want || further != (c.want != 5) {
				t.Errorf("checkpoint %d, restoring %d, want %d", got, j.row.Local.Restoring, c.want)
			}
		})
	}
}

// A claim that is given back leaves the account at what its checkpoint was taken of, not at a container with a higher number that another part
// of a cluster had which was cut.
func TestAClaimThatIsGivenBackLeavesTheRightIncarnation(t *testing.T) {
	t.Parallel()
	s, _ := openTestStore(t, t.TempDir())
	a := &Agent{node: "c", log: slog.New(slog.DiscardHandler), store: s, kickSteward: make(chan struct{}, 1)}
	from := qos.Incarnation{N: 2, Node: "b"}
	j := newJob(row{Record: qos.Record{Spec: qos.Spec{ID: idA, Name: "/a"}, Status: qos.Status{
		Phase: qos.PhaseRunning, Saved: &qos.Saved{Node: "b", Sequence: 6, Execution: 1, Incarnation: 2},
		Execution: &qos.Execution{Index: 1, Account: qos.Account{Live: qos.Incarnation{N: 4, Node: "c"}, Entries: map[qos.Incarnation]qos.Entry{
			{N: 1, Node: "a"}: {Own: 10}, from: {Base: 10, Own: 5}, {N: 3, Node: "a"}: {Base: 10, Own: 90}, {N: 4, Node: "c"}: {},
		}}},
	}}})
	a.giveBack(j, "no image", exitElsewhere)
	if account := j.status().Execution.Account; account.Live != from || account.Progress() != 15 {
		t.Errorf("%s lives, progress %v", account.Live, account.Progress())
	}
}

// copied says whether a node has a checkpoint with a higher sequence than a status names. The caller holds mu.
func (n *simNode) copied(st qos.Status) bool {
	return st.Saved != nil && slices.ContainsFunc(n.checkpoints, func(c *simCheckpoint) bool { return c.Sealed && c.M.Sequence > st.Saved.Sequence })
}

// An owner that takes a checkpoint, and has one node copy it, while both are cut off; then it dies, and the other one forgets all that it was
// told. The job goes on from that copy, not from the older one that the rest of the cluster knows of.
func TestJepsenALaterCheckpointThanTheRowNames(t *testing.T) {
	scene(t, func(s *stage) {
		old, kept := s.owner, s.other()
		s.cut(s.rest(old, kept))
		third := s.other(kept)
		if !s.until(time.Minute, "the other node has a copy that the rest has not heard of", func() bool {
			st := s.status(third)
			s.mu.Lock()
			defer s.mu.Unlock()
			return kept.copied(st)
		}) {
			return
		}
		s.mu.Lock()
		var had time.Duration
		for _, c := range kept.checkpoints {
			had = max(had, c.State)
		}
		s.mu.Unlock()
		old.down()
		kept.kill()
		kept.wipe()
		s.cut()
		kept.boot()
		if s.until(5*time.Minute, "it runs elsewhere", func() bool { return s.look(2) }) {
			s.want(s.box.base == had, "it goes on from %v, and a copy of %v is there", s.box.base, had)
			pause(context.Background(), time.Minute)
			s.settle()
		}
	})
}

// The first checkpoint of a job, of which nobody else has heard: its copy is gone on from, and the execution is not taken for lost.
func TestJepsenTheFirstCheckpointOfAnOwnerThatIsCutOff(t *testing.T) {
	t.Parallel()
	simulate(t, 1, 5, func(c *Config) { c.Checkpoint.Interval = 90 * time.Second }, func(w *world) {
		if !w.together(time.Minute) {
			return
		}
		s := &stage{world: w, job: w.submit(w.nodes[0], simID(0), "/j0", "burn 100000s", 0.5)}
		if !w.until(30*time.Second, "it runs", func() bool { return s.look(1) }) {
			return
		}
		pause(context.Background(), 80*time.Second)
		old, kept := s.owner, s.other()
		s.cut(s.rest(old, kept))
		var had time.Duration
		if !s.until(2*time.Minute, "the other node has a copy", func() bool {
			s.mu.Lock()
			defer s.mu.Unlock()
			for _, c := range kept.checkpoints {
				had = max(had, c.State)
			}
			return had > 0
		}) {
			return
		}
		old.down()
		kept.kill()
		kept.wipe()
		s.cut()
		kept.boot()
		if s.until(5*time.Minute, "it runs elsewhere", func() bool { return s.look(2) }) {
			s.want(s.box.base == had, "it goes on from %v, and a copy of %v is there", s.box.base, had)
			s.want(s.status(s.owner).Execution.Index == 1, "execution %d", s.status(s.owner).Execution.Index)
			s.settle()
		}
	})
}
