package agent

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"sync"
	"time"

	"qosctl/agent/api"
	"qosctl/gossip"
	"qosctl/qos"
)

// What ended runs have used is kept by day and job for 400 days, by the node that booked their end. A job's row has the sum of what this
// node has booked of it; whenever a row is written, what that sum has grown by is added to the day in the same transaction. So a run
// counts once, however often its row is written, and not at all if its end was not (usage_store.go).

// used is what this node has booked of a job so far.
type used struct {
	Day string          `json:"day"` // in which the last of it ended, UTC
	Sum api.UsageCounts `json:"sum"`
}

// book adds what a tally has grown by with a run that ended on a day.
func (u *used) book(before, now qos.Tally, ended time.Time) {
	u.Day = ended.UTC().Format(time.DateOnly)
	u.Sum = u.Sum.Plus(countsOf(now).Plus(countsOf(before).Times(-1)))
}

func countsOf(t qos.Tally) api.UsageCounts {
	return api.UsageCounts{
		Runs: t.Succeeded + t.Failed, Met: t.Met, Missed: t.Missed, Failed: t.Failed,
		CPU: t.CPU, Requested: t.Requested, Borrowed: t.Borrowed, Lost: t.Lost, Overhead: t.Overhead,
	}
}

// usageQuery says which usage is wanted.
type usageQuery struct {
	by           string
	since, until string // days, both included
}

// readUsageQuery reads a query of GET /v1/usage. The default is the last 30 days by tenant.
func readUsageQuery(q url.Values, now time.Time) (u usageQuery, err error) {
	u = usageQuery{by: orElse(q.Get("by"), api.UsageByTenant), since: now.UTC().AddDate(0, 0, -29).Format(time.DateOnly), until: now.UTC().Format(time.DateOnly)}
	if !slices.Contains([]string{api.UsageByTenant, api.UsageByJob, api.UsageByDay}, u.by) {
		return u, refuse(codeInvalid, "by: %q is none of tenant, job, day", u.by)
	}
	for name, to := range map[string]*string{"since": &u.since, "until": &u.until} {
		if text := q.Get(name); text != "" {
			if _, err := time.Parse(time.DateOnly, text); err != nil {
				return u, refuse(codeInvalid, "%s: %q is no day: want 2006-01-02, in UTC", name, text)
			}
			*to = text
		}
	}
	if u.since > u.until {
		return u, refuse(codeInvalid, "since %s is after until %s", u.since, u.until)
	}
	return u, nil
}

// getUsage answers what ended runs have used: here, and on the other nodes of the cluster.
func (a *Agent) getUsage(w http.ResponseWriter, r *http.Request) {
	q, err := readUsageQuery(r.URL.Query(), time.Now())
	var rows map[api.UsageKey]api.UsageCounts
	if err == nil {
		rows, err = a.store.usage(q)
	}
	if err != nil {
		answerError(w, err)
		return
	}
	report := api.UsageReport{By: q.by, Since: q.since, Until: q.until, Rows: []api.Usage{}, Missing: []string{}}
	if a.cluster != nil && r.Header.Get(forwardedHeader) == "" {
		report.Missing = a.usageOfOthers(r.Context(), q, rows)
	}
	for key, sum := range rows {
		report.Rows = append(report.Rows, api.Usage{UsageKey: key, UsageCounts: sum})
	}
	slices.SortFunc(report.Rows, func(x, y api.Usage) int { return x.Compare(y.UsageKey) })
	answer(w, http.StatusOK, report)
}

// usageOfOthers adds what the other nodes have, and names those whose part is missing.
func (a *Agent) usageOfOthers(ctx context.Context, q usageQuery, rows map[api.UsageKey]api.UsageCounts) []string {
	missing := []string{}
	var (
		mu    sync.Mutex
		wg    sync.WaitGroup
		slots = make(chan struct{}, 16)
	)
	path := peerPrefix + "/v1/usage?" + url.Values{"by": {q.by}, "since": {q.since}, "until": {q.until}}.Encode()
	for _, m := range a.cluster.mesh.Members() {
		if m.Name == a.node {
			continue
		}
		if m.State != gossip.Alive || m.Meta.Peer == "" {
			mu.Lock()
			missing = append(missing, m.Name)
			mu.Unlock()
			continue
		}
		wg.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			var part api.UsageReport
			err := a.askPeer(ctx, m, http.MethodGet, path, nil, &part)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				a.log.Warn("ask a peer for what was used", "node", m.Name, "err", err)
				missing = append(missing, m.Name)
				return
			}
			for _, row := range part.Rows {
				rows[row.UsageKey] = rows[row.UsageKey].Plus(row.UsageCounts)
			}
		})
	}
	wg.Wait()
	slices.Sort(missing)
	return missing
}

// usageName bounds what users may have chosen.
func usageName(s string) string { return fmt.Sprintf("%.128s", s) }
