package qos

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Account is the CPU time of one execution: an entry per incarnation. Merged entry by entry, the greater wins.
// The zero value is an empty account.
//
// The entries of incarnations that are over are not summed up in one: a node that was cut off, or a debt that another one keeps on disk, may
// tell more of any of them as long as the execution goes on, and of a sum and the entries that others still hold the greater of each would lose
// CPU time or count it twice. So there is a bound of how many are made.
type Account struct {
	Entries map[Incarnation]Entry `json:"entries,omitempty"`
	Live    Incarnation           `json:"live,omitzero"` // whose process state is the present one; zero: none yet
}

// MaxIncarnations is how many incarnations are made of one execution: so many that the row of a job with them, and with as many shares of runs
// that are booked, fits the table of jobs beside the largest job file, whatever its nodes are called. The table takes four times as many, since
// parts of a cluster that don't hear each other may each make some.
const MaxIncarnations = 1000

// Full says whether no further incarnation is to be made.
func (a Account) Full() bool { return len(a.Entries) >= MaxIncarnations }

// Incarnation names a container of an execution: its number, from 1, and the node that made it. On the two sides of a partition two
// nodes may make one of the same number; each has its own entry. Its text form is "2@node".
type Incarnation struct {
	N    int
	Node string
}

func (i Incarnation) String() string { return strconv.Itoa(i.N) + "@" + i.Node }

// MarshalText is the form that JSON has.
func (i Incarnation) MarshalText() ([]byte, error) { return []byte(i.String()), nil }

// UnmarshalText reads it.
func (i *Incarnation) UnmarshalText(b []byte) error {
	n, node, ok := strings.Cut(string(b), "@")
	number, err := strconv.Atoi(n)
	if !ok || err != nil || number < 0 || strconv.Itoa(number) != n {
		return fmt.Errorf("%q is no incarnation: want a number, @ and a node", b)
	}
	*i = Incarnation{number, node}
	return nil
}

// Compare orders incarnations by number, then node.
func (i Incarnation) Compare(k Incarnation) int {
	return cmp.Or(cmp.Compare(i.N, k.N), cmp.Compare(i.Node, k.Node))
}

// Entry is the account of one incarnation, and where its figures were read.
type Entry struct {
	Node          string        `json:"node"`
	Container     string        `json:"container"`          // engine's container id
	StatContainer string        `json:"stat_container"`     // container whose cgroup the kernel counts it in
	Cgroup        string        `json:"cgroup"`             // path of the cgroup that is read, below the hierarchy's root
	Base          time.Duration `json:"base"`               // CPU time embodied in the checkpoint it was restored from (its manifest)
	Own           time.Duration `json:"own"`                // CPU time of its own
	Zero          time.Duration `json:"zero,omitempty"`     // reading of the counter when it began to run: Own counts from there. What stands before is of earlier incarnations, or overhead of the restore
	Borrowed      time.Duration `json:"borrowed,omitempty"` // CPU time above the request
	Overhead      time.Duration `json:"overhead,omitempty"` // CPU time that its restore itself took: in no other figure
}

// Progress is the CPU time that the present process state embodies: base and own of the live incarnation. The controller steers by it.
func (a Account) Progress() time.Duration {
	e := a.Entries[a.Live]
	return e.Base + e.Own
}

// Consumed is all CPU time ever spent on the execution, what is billed: the own CPU time of every incarnation. A base is CPU time that
// earlier incarnations spent; it counts only as far as their entries do not show it (an entry that has not arrived yet), so nothing
// is counted twice and consumed is never less than progress.
func (a Account) Consumed() time.Duration {
	if len(a.Entries) == 1 { // nearly always, and asked for each job again and again
		for _, e := range a.Entries {
			return max(0, e.Base) + e.Own
		}
	}
	var sum time.Duration
	for _, i := range a.Incarnations() {
		e := a.Entries[i]
		sum = max(sum, e.Base) + e.Own
	}
	return sum
}

// Incarnations lists the incarnations in their order.
func (a Account) Incarnations() []Incarnation {
	return slices.SortedFunc(maps.Keys(a.Entries), Incarnation.Compare)
}

// Borrowed is the CPU time spent above the request, over all incarnations.
func (a Account) Borrowed() time.Duration {
	var sum time.Duration
	for _, e := range a.Entries {
		sum += e.Borrowed
	}
	return sum
}

// Overhead is the CPU time that restores themselves took, over all incarnations.
func (a Account) Overhead() time.Duration {
	var sum time.Duration
	for _, e := range a.Entries {
		sum += e.Overhead
	}
	return sum
}

// Lost is what was spent on process states that are gone: consumed without being progress.
func (a Account) Lost() time.Duration { return max(0, a.Consumed()-a.Progress()) }

// Next is the number of the incarnation that StartIncarnation would add.
func (a Account) Next() int {
	n := a.Live.N
	for i := range a.Entries {
		n = max(n, i.N)
	}
	return n + 1
}

// StartIncarnation adds the next incarnation on the entry's node, makes it the live one, and returns it. Entry.Base is what the
// checkpoint's manifest says, 0 for a start anew.
func (a *Account) StartIncarnation(e Entry) Incarnation {
	i := Incarnation{a.Next(), e.Node}
	if a.Entries == nil {
		a.Entries = make(map[Incarnation]Entry)
	}
	a.Entries[i] = e
	a.Live = i
	return i
}

// Knows says whether the account has an entry of an incarnation.
func (a *Account) Knows(i Incarnation) bool {
	_, ok := a.Entries[i]
	return ok
}

// Withdraw takes the live incarnation back, which never ran: the one before it is the live one again.
func (a *Account) Withdraw() {
	delete(a.Entries, a.Live)
	before := Incarnation{}
	for _, i := range a.Incarnations() {
		if i.Compare(a.Live) < 0 {
			before = i
		}
	}
	a.Live = before
}

// Observe notes what incarnation's counter shows now, its CPU time since its start. An entry never falls: a smaller figure is an
// older reading (for a counter that began anew, see Meter). It says whether the account grew. An incarnation that the account does
// not know is ignored.
func (a *Account) Observe(incarnation Incarnation, own time.Duration) bool {
	e, ok := a.Entries[incarnation]
	if !ok || own <= e.Own {
		return false
	}
	e.Own = own
	a.Entries[incarnation] = e
	return true
}

// Count notes a reading of the live incarnation's counter. CPU time from before the incarnation began to run is not its own.
func (a *Account) Count(counter time.Duration) bool {
	return a.Observe(a.Live, counter-a.Entries[a.Live].Zero)
}

// Borrow adds CPU time that incarnation spent above the request; d ≤ 0 and unknown incarnations are ignored.
func (a *Account) Borrow(incarnation Incarnation, d time.Duration) {
	e, ok := a.Entries[incarnation]
	if !ok || d <= 0 {
		return
	}
	e.Borrowed += d
	a.Entries[incarnation] = e
}

// Merge returns what both accounts know: of each figure the greater. It is commutative, associative and idempotent, and changes
// neither argument.
func (a Account) Merge(b Account) Account {
	m := a.Clone()
	if m.Live.Compare(b.Live) < 0 {
		m.Live = b.Live
	}
	if m.Entries == nil && len(b.Entries) > 0 {
		m.Entries = make(map[Incarnation]Entry, len(b.Entries))
	}
	for i, e := range b.Entries {
		m.Entries[i] = m.Entries[i].merge(e)
	}
	return m
}

// merge returns the greater of each figure, and the place where the greater own time was read.
func (e Entry) merge(f Entry) Entry {
	if e.Own < f.Own || e.Own == f.Own && e.place() < f.place() {
		e.Node, e.Container, e.StatContainer, e.Cgroup = f.Node, f.Container, f.StatContainer, f.Cgroup
	}
	e.Base = max(e.Base, f.Base)
	e.Own = max(e.Own, f.Own)
	e.Zero = max(e.Zero, f.Zero)
	e.Borrowed = max(e.Borrowed, f.Borrowed)
	e.Overhead = max(e.Overhead, f.Overhead)
	return e
}

// place is one comparable string for where an entry was read.
func (e Entry) place() string {
	return strings.Join([]string{e.Node, e.Container, e.StatContainer, e.Cgroup}, "\x00")
}

// Clone returns a copy that shares nothing with a.
func (a Account) Clone() Account {
	a.Entries = maps.Clone(a.Entries)
	return a
}

// Meter turns the readings of a cgroup's CPU counter into CPU time that only grows. A reading below the last one is a new cgroup
// that counts from zero, not negative CPU time: what the old one had is kept and added to. The zero value is ready.
type Meter struct {
	Before time.Duration `json:"before,omitempty"` // of cgroups that are gone
	Last   time.Duration `json:"last"`             // the present cgroup's last reading
}

// Read notes a reading and returns the CPU time so far.
func (m *Meter) Read(counter time.Duration) time.Duration {
	if counter < m.Last {
		m.Before += m.Last
	}
	m.Last = max(counter, 0)
	return m.Before + m.Last
}
