package agent

import (
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	bolt "go.etcd.io/bbolt"

	"qosctl/agent/api"
	"qosctl/qos"
)

// usedRow is a job's row that has so much booked, all of it on one day.
func usedRow(id, tenant string, version uint64, day string, cpu float64) row {
	return row{version: version, Record: qos.Record{Spec: qos.Spec{ID: id, Name: "/" + id, Tenant: tenant, Framework: qos.Marathon}}, Local: local{
		Used: used{Day: day, Sum: api.UsageCounts{Runs: int(cpu), CPU: cpu}},
	}}
}

func usageBy(t *testing.T, s *store, by string) map[string]float64 {
	t.Helper()
	rows, err := s.usage(usageQuery{by: by, since: "2000-01-01", until: "2100-01-01"})
	if err != nil {
		t.Fatal(err)
	}
	list := map[string]float64{}
	for k, c := range rows {
		if float64(c.Runs) != c.CPU {
			t.Errorf("%+v: %+v", k, c)
		}
		list[k.Day+k.Tenant+k.Job] += c.CPU
	}
	return list
}

// However often a row is written, before and after a restart, what was booked counts once, on its day.
func TestUsageCountsOnce(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s, _, err := openStore(dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	put := func(rows ...row) {
		t.Helper()
		if err := s.put(rows...); err != nil {
			t.Fatal(err)
		}
	}
	put(usedRow("a", "x", 1, "2026-01-01", 1), usedRow("b", "y", 1, "2026-01-01", 5))
	put(usedRow("a", "x", 2, "2026-01-01", 1)) // nothing new
	put(usedRow("a", "x", 3, "2026-01-02", 3))
	put(usedRow("a", "x", 2, "2026-01-01", 1)) // an older row is not written, nor counted
	if err := s.close(); err != nil {
		t.Fatal(err)
	}
	var rows []row
	if s, rows, err = openStore(dir, nil); err != nil || len(rows) != 2 {
		t.Fatal(rows, err)
	}
	put(usedRow("a", "x", 1, "2026-01-02", 3))
	put(usedRow("a", "x", 2, "2026-01-03", 4))
	// Given up and taken again: what was booked here before stays, and is not counted again.
	if err := s.drop("a"); err != nil {
		t.Fatal(err)
	}
	put(usedRow("a", "x", 1, "2026-01-03", 10))
	if diff := cmp.Diff(map[string]float64{"x": 14, "y": 5}, usageBy(t, s, api.UsageByTenant)); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(map[string]float64{"2026-01-01": 6, "2026-01-02": 2, "2026-01-03": 11}, usageBy(t, s, api.UsageByDay)); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(map[string]float64{"x/a": 14, "y/b": 5}, usageBy(t, s, api.UsageByJob)); diff != "" {
		t.Error(diff)
	}
	if err := s.close(); err != nil {
		t.Fatal(err)
	}
}

// A row that could not be written counts when it is, and once.
func TestUsageOfAWriteThatFails(t *testing.T) {
	t.Parallel()
	s, _, err := openStore(t.TempDir(), nil)
	if err != nil {
		t.Fatal(err)
	}
	bad := usedRow("b", "y", 1, "2026-01-01", 5)
	bad.Local.Memory.Fill = math.NaN() // no JSON
	if err := s.put(usedRow("a", "x", 1, "2026-01-01", 1), bad); err == nil {
		t.Fatal("a figure that is no number was written")
	}
	if got := usageBy(t, s, api.UsageByTenant); len(got) > 0 {
		t.Errorf("%v was counted of a transaction that failed", got)
	}
	if err := s.put(usedRow("a", "x", 2, "2026-01-01", 1)); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[string]float64{"x": 1}, usageBy(t, s, api.UsageByTenant)); diff != "" {
		t.Error(diff)
	}
	if err := s.close(); err != nil {
		t.Fatal(err)
	}
}

// After 400 days a day is forgotten; of too many rows the oldest days are added up by tenant, so that tenants' and days' sums stay.
func TestUsageIsBounded(t *testing.T) {
	t.Parallel()
	s, _, err := openStore(t.TempDir(), nil)
	if err != nil {
		t.Fatal(err)
	}
	start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	day := func(n int) string { return start.AddDate(0, 0, n).Format(time.DateOnly) }
	err = s.db.Update(func(tx *bolt.Tx) error {
		b := tx.Bucket(bucketUsage)
		for n := range 420 {
			for j := range 4 {
				r := usageRow{Tenant: fmt.Sprint("t", j%2), Name: fmt.Sprint("/j", j), Framework: qos.Marathon, Sum: api.UsageCounts{Runs: 1, CPU: 1}}
				if err := addTo(b, fmt.Appendf(nil, "%s %d", day(n), j), r); err != nil {
					return err
				}
			}
			if err := pruneUsage(b, day(n), 1000); err != nil {
				return err
			}
			if keys := b.Inspect().KeyN; keys > 1000 {
				return fmt.Errorf("%d rows on day %d", keys, n)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	days := usageBy(t, s, api.UsageByDay)
	if len(days) != usageDays+1 || days[day(18)] != 0 || days[day(19)] != 4 || days[day(419)] != 4 {
		t.Errorf("%d days, the first %g, the last %g", len(days), days[day(19)], days[day(419)])
	}
	if tenants := usageBy(t, s, api.UsageByTenant); tenants["t0"] != 2*(usageDays+1) || tenants["t1"] != 2*(usageDays+1) {
		t.Errorf("tenants %v", tenants)
	}
	if jobs := usageBy(t, s, api.UsageByJob); jobs["t0"] == 0 || jobs["t0/j0"] == 0 || jobs["t0"]+jobs["t0/j0"]+jobs["t0/j2"] != 2*(usageDays+1) {
		t.Errorf("jobs %v", jobs)
	}
	// With a row for each tenant and day as the least there can be, the oldest days go.
	if err := s.db.Update(func(tx *bolt.Tx) error { return pruneUsage(tx.Bucket(bucketUsage), day(419), 10) }); err != nil {
		t.Fatal(err)
	}
	if days := usageBy(t, s, api.UsageByDay); len(days) > 5 || days[day(419)] != 4 {
		t.Errorf("%v", days)
	}
	if err := s.close(); err != nil {
		t.Fatal(err)
	}
}

// usageOf asks an agent.
func usageOf(t *testing.T, a *Agent, query string) api.UsageReport {
	t.Helper()
	w := httptest.NewRecorder()
	a.adminRoutes().ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/v1/usage"+query, nil))
	var u api.UsageReport
	if err := json.Unmarshal(w.Body.Bytes(), &u); err != nil || w.Code != http.StatusOK {
		t.Fatalf("%d %s %v", w.Code, w.Body, err)
	}
	return u
}

// A run that ended is counted with what its account says, once over restarts of the agent.
func TestARunThatEndedIsUsage(t *testing.T) {
	t.Parallel()
	n := testNode(t, nil)
	n.submit(idA, `{"id":"/lab/burn","cmd":"i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done","cpus":0.5,"mem":32,"qos":{"duration":1,"desv_deadline":0.1,"deadline":600,"executions":1}}`)
	s, _ := n.claim(idA, "t1")
	n.read(s, "t1")
	j := n.await(idA, "completed", func(j api.Job) bool { return j.Phase.Terminal() })
	want := []api.Usage{{UsageKey: api.UsageKey{Tenant: "/lab", Job: "/lab/burn", Framework: qos.Marathon}, UsageCounts: api.UsageCounts{
		Runs: 1, Met: 1, CPU: j.Tally.CPU, Requested: j.Tally.Requested, Borrowed: j.Tally.Borrowed,
	}}}
	if j.Tally.CPU <= 0 || j.Tally.Requested <= 0 || j.Tally.Lost != 0 {
		t.Errorf("tally %+v", j.Tally)
	}
	for range 2 {
		if diff := cmp.Diff(want, usageOf(t, n.agent, "?by=job").Rows); diff != "" {
			t.Errorf("want - is +:\n%s", diff)
		}
		n.end()
		n.begin()
	}
	if status, e := request(t, n.agent.adminRoutes(), "GET", "/v1/usage?by=week", "", nil); status != 422 || e.Code != codeInvalid {
		t.Errorf("%d %+v", status, e)
	}
	if status, e := request(t, n.agent.adminRoutes(), "GET", "/v1/usage?since=2026-02-01&until=2026-01-01", "", nil); status != 422 || e.Code != codeInvalid {
		t.Errorf("%d %+v", status, e)
	}
}

// Any agent answers for the cluster, and names the nodes whose part is missing.
func TestUsageOfACluster(t *testing.T) {
	t.Parallel()
	c := startCluster(t, 3, nil)
	today := time.Now().UTC().Format(time.DateOnly)
	for i, n := range c.nodes {
		if err := n.agent.store.put(usedRow(fmt.Sprint("job", i%2), "x", 1, today, float64(i+1))); err != nil {
			t.Fatal(err)
		}
	}
	for _, n := range c.nodes {
		u := usageOf(t, n.agent, "?by=job")
		if len(u.Missing) > 0 || len(u.Rows) != 2 || u.Rows[0].CPU != 4 || u.Rows[1].CPU != 2 {
			t.Errorf("%s: %+v", n.cfg.Node, u)
		}
	}
	c.nodes[2].end()
	c.until("the dead node is named", func() bool {
		u := usageOf(t, c.nodes[0].agent, "")
		return fmt.Sprint(u.Missing) == "[n2]" && len(u.Rows) == 1 && u.Rows[0].CPU == 3
	})
}

// explain of what has ended says where the time went, from the account.
func TestExplainSaysWhyADeadlineWasMet(t *testing.T) {
	t.Parallel()
	n := testNode(t, nil)
	n.submit(idA, `{"id":"/lab/met","cmd":"i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done","cpus":0.5,"mem":32,"qos":{"duration":1,"desv_deadline":0.1,"deadline":600,"executions":1}}`)
	s, _ := n.claim(idA, "t1")
	n.read(s, "t1")
	n.await(idA, "completed", func(j api.Job) bool { return j.Phase.Terminal() })
	x, err := n.client().Explain(t.Context(), idA)
	if err != nil || x.Judgement == nil || x.Judgement.Outcome != qos.Met || x.Judgement.Late() >= 0 || x.Judgement.Took <= 0 {
		t.Fatalf("%+v, %v", x.Judgement, err)
	}
	sum := 0.0
	for _, c := range x.Judgement.Causes {
		if c.Kind != qos.CauseShort {
			sum += c.Seconds
		}
	}
	if math.Abs(sum-x.Judgement.Took) > 0.5 { // quotas let a container have a little more than its share at once
		t.Errorf("the causes add up to %.2f s of %.2f: %+v", sum, x.Judgement.Took, x.Judgement.Causes)
	}
}
