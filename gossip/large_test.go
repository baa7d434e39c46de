package gossip

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"qosctl/qos"
)

// shelf is a store in memory. Its values are the test's to damage.
type shelf map[string]map[string][]byte

func (s shelf) Each(bucket string, f func(string, []byte) error) error {
	for k, v := range s[bucket] {
		if err := f(k, v); err != nil {
			return err
		}
	}
	return nil
}

func (s shelf) Write(items []Item) error {
	for _, i := range items {
		if s[i.Bucket] == nil {
			s[i.Bucket] = map[string][]byte{}
		}
		if i.Value == nil {
			delete(s[i.Bucket], i.Key)
			continue
		}
		s[i.Bucket][i.Key] = i.Value
	}
	return nil
}

func meshOn(t *testing.T, s Store) (*Mesh, error) {
	t.Helper()
	return New(Options{Node: "n", Bind: "127.0.0.1:0", Insecure: true, Peers: mute{}, Transport: deaf{}, Store: s})
}

func record(t *testing.T, id, command string) qos.Record {
	t.Helper()
	r := parsed(t, seq("1")).rec
	r.Spec.ID, r.Spec.Process.Command = id, command
	return r
}

func TestARowThatNoNodeWouldReadIsRefused(t *testing.T) {
	t.Parallel()
	s := shelf{}
	m, err := meshOn(t, s)
	if err != nil {
		t.Fatal(err)
	}
	shell := strings.Repeat("<&>", maxNew/4) // of what a shell command has, none takes more room than itself
	if err := Fits(record(t, "shell", shell)); err != nil {
		t.Error(err)
	}
	if _, err := m.Put(record(t, "shell", shell)); err != nil {
		t.Error(err)
	}
	large := record(t, "large", strings.Repeat("\u2028", maxRow/6))
	if err := Fits(large); !errors.Is(err, ErrLarge) {
		t.Errorf("a record that is too large: %v", err)
	}
	if _, err := m.Put(large); !errors.Is(err, ErrLarge) {
		t.Errorf("it is put: %v", err)
	}
	if _, ok := m.Get("large"); ok {
		t.Error("it stands in the table")
	}
	m, err = meshOn(t, s)
	if err != nil {
		t.Fatalf("the store can't be read any more: %v", err)
	}
	if r, ok := m.Get("shell"); !ok || r.Spec.Process.Command != shell {
		t.Error("a row is not as it was")
	}
}

func TestAStoredRowThatCantBeReadIsSetAside(t *testing.T) {
	t.Parallel()
	s := shelf{}
	m, err := meshOn(t, s)
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range []string{"good", "torn", "large"} {
		if _, err := m.Put(record(t, id, "true")); err != nil {
			t.Fatal(err)
		}
	}
	torn := s[rowBucket]["torn"][:20]
	s[rowBucket]["torn"] = torn
	s[rowBucket]["large"] = appendBytes([]byte{storeFormat, kindRow}, make([]byte, maxRow+1))
	if m, err = meshOn(t, s); err != nil {
		t.Fatalf("one row that can't be read keeps the node from starting: %v", err)
	}
	if all := m.All(); len(all) != 1 || all[0].Spec.ID != "good" {
		t.Errorf("rows %v", all)
	}
	if len(s[rowBucket]) != 1 || len(s[asideBucket]) != 2 || string(s[asideBucket]["torn"]) != string(torn) {
		t.Errorf("%d rows are stored, %d kept aside", len(s[rowBucket]), len(s[asideBucket]))
	}
	s[rowBucket]["later"] = []byte{storeFormat + 1, kindRow, 0}
	if _, err := meshOn(t, s); err == nil || !strings.Contains(err.Error(), "stored in format 2, not 1") {
		t.Errorf("a row of another version: %v", err)
	}
}

// TestTheRowOfALongLifeIsTaken: the largest job file, on nodes with the longest names, with as many incarnations as are made, and all runs that are
// kept, each of which has had as many.
func TestTheRowOfALongLifeIsTaken(t *testing.T) {
	t.Parallel()
	m, err := meshOn(t, shelf{})
	if err != nil {
		t.Fatal(err)
	}
	rec := record(t, testID(1), "")
	b, err := encodeRecord(rec, nil)
	if err != nil {
		t.Fatal(err)
	}
	rec.Spec.Process.Command = strings.Repeat("x", maxNew-len(b)-100)
	if err := Fits(rec); err != nil {
		t.Fatal(err)
	}
	account := func() (a qos.Account) {
		for !a.Full() {
			n := a.Next()
			node := strings.Repeat("n", maxNode-8) + fmt.Sprintf("%08d", n)
			id := fmt.Sprintf("%s-%d-%d", testID(1), 1000, n)
			a.StartIncarnation(qos.Entry{
				Node: node, Container: id, StatContainer: id, Cgroup: "/docker/" + strings.Repeat("c", 64) + "/" + id,
				Base: maxCPU, Own: maxCPU / 2, Zero: maxCPU / 3, Borrowed: maxCPU / 4, Overhead: maxCPU / 5,
			})
		}
		return a
	}
	st, shares := &rec.Status, account().Shares()
	for i := range 2 * qos.MaxRuns {
		st.AppendRun(qos.Marathon, qos.Run{
			Index: i + 1, CPU: 1 / 3.0, MeanCPUs: 1 / 3.0, MaxCPUs: 1 / 3.0, Resizes: 1000, Parts: qos.MaxIncarnations, Reason: strings.Repeat("r", 100),
			Requested: 1 / 3.0, Borrowed: 1 / 3.0, Overhead: 1 / 3.0, Down: 1 / 3.0, Short: 1 / 3.0, Missing: 1 / 3.0, Spent: shares,
		})
	}
	st.Execution.Account = account()
	if _, err := m.Put(rec); err != nil {
		t.Fatal(err)
	}
	if r, ok := m.Get(testID(1)); !ok || len(r.Status.Execution.Account.Entries) != qos.MaxIncarnations {
		t.Error("it is not there as a whole")
	}
}
