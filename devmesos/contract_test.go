package devmesos

import (
	"bufio"
	"bytes"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"qosctl/framework/contracttest"
)

// TestContract fires every row of docs/contract.md at a server of its own.
func TestContract(t *testing.T) {
	t.Parallel()
	for _, row := range contracttest.Rows(t) {
		t.Run(row.ID, func(t *testing.T) {
			t.Parallel()
			var o Options
			for _, g := range row.Given {
				switch g {
				case "marathon 1.4":
					o.MarathonVersion = "1.4.0"
				case "chronos 2.4":
					o.ChronosPrefix = "/scheduler"
				case "auth", "agent auth":
					o.HTTPCredentials = "ann:secret"
				case "operators denied":
					o.NoOperators = true
				}
			}
			l := start(t, o)
			for _, g := range row.Given {
				l.given(t, g)
			}
			l.fire(t, row)
		})
	}
}

// given makes a precondition true.
func (l *life) given(t *testing.T, given string) {
	t.Helper()
	faults := map[string]string{"no leader": "noleader", "standby": "standby", "timeout": "503"}
	ofMaster := map[string]string{"no leading master": "noleader", "standby master": "standby"}
	kind, rest, _ := strings.Cut(given, " ")
	switch {
	case faults[given] != "":
		l.must(t, "marathon", "POST", "/dev/faults", fmt.Sprintf(`{"target":"marathon","kind":%q,"path":"^/v2"}`, faults[given]), nil)
	case ofMaster[given] != "":
		l.awaitAgent(t)
		l.must(t, "master", "POST", "/dev/faults", fmt.Sprintf(`{"target":"master","kind":%q}`, ofMaster[given]), nil)
	case kind == "agent" && rest != "auth", given == "machine planned":
		l.givenOperated(t, given)
	case kind == "app":
		l.givenApp(t, rest)
	case kind == "job":
		l.givenJob(t, rest)
	case kind == "jobs":
		var name string
		var n int
		if _, err := fmt.Sscanf(rest, "%s %d", &name, &n); err != nil {
			t.Fatal(err)
		}
		for i := range n {
			l.post(t, fmt.Sprintf("%s%d", name, i), "R/2200-01-01T00:00:00Z/PT1H", "exec sleep 1000", "")
		}
		eventually(t, "all jobs are shown", func() bool { return len(l.jobs(t)) == n })
	}
}

// awaitAgent waits until the one agent is registered, and returns what the contract calls it.
func (l *life) awaitAgent(t *testing.T) map[string]string {
	t.Helper()
	var v slavesView
	eventually(t, "the agent is registered", func() bool {
		v = slavesView{}
		l.must(t, "master", "GET", "/slaves", "", &v)
		return len(v.Slaves) == 1
	})
	s := v.Slaves[0]
	ip, _, _ := strings.Cut(strings.TrimPrefix(s.PID, "slave(1)@"), ":")
	return map[string]string{"agent": s.ID, "host": s.Hostname, "ip": ip}
}

// givenOperated has an operator do something to the agent.
func (l *life) givenOperated(t *testing.T, given string) {
	t.Helper()
	v := l.awaitAgent(t)
	switch given {
	case "agent drained":
		l.must(t, "master", "POST", "/api/v1", fmt.Sprintf(`{"type":"DRAIN_AGENT","drain_agent":{"agent_id":{"value":%q}}}`, v["agent"]), nil)
	case "agent deactivated":
		l.must(t, "master", "POST", "/api/v1", fmt.Sprintf(`{"type":"DEACTIVATE_AGENT","deactivate_agent":{"agent_id":{"value":%q}}}`, v["agent"]), nil)
	default:
		l.must(t, "master", "POST", "/maintenance/schedule", fmt.Sprintf(
			`{"windows":[{"machine_ids":[{"hostname":%q,"ip":%q}],"unavailability":{"start":{"nanoseconds":7258118400000000000},"duration":{"nanoseconds":3600000000000}}}]}`,
			v["host"], v["ip"]), nil)
	}
}

func (l *life) givenApp(t *testing.T, text string) {
	t.Helper()
	id, how, _ := strings.Cut(text, " ")
	cmd, more := "exec sleep 1000", ""
	switch {
	case how == "ending":
		cmd, more = "sleep 1", `,"backoffSeconds":1`
	case how == "polite":
		cmd = "trap 'exit 0' TERM; while :; do sleep 0.1; done"
	case how == "stubborn":
		cmd, more = "trap '' TERM; exec sleep 5", `,"taskKillGracePeriodSeconds":10`
	case strings.HasPrefix(how, "labelled "):
		k, v, _ := strings.Cut(strings.TrimPrefix(how, "labelled "), "=")
		more = fmt.Sprintf(`,"labels":{%q:%q}`, k, v)
	}
	if id != "/plain" {
		more += `,"upgradeStrategy":{"minimumHealthCapacity":0,"maximumOverCapacity":0}`
	}
	l.must(t, "marathon", "POST", "/v2/apps", fmt.Sprintf(`{"id":%q,"cmd":%q,"cpus":0.1,"mem":16,"instances":1%s}`, id, cmd, more), nil)
	eventually(t, "the app runs", func() bool {
		a := l.app(t, id).App
		return a.TasksRunning == 1 && len(a.Deployments) == 0
	})
	if how == "stubborn" { // its trap must be set
		tick := time.NewTimer(200 * time.Millisecond)
		<-tick.C
	}
	if how == "locked" {
		l.must(t, "marathon", "PATCH", "/v2/apps"+id, `{"cpus":10000}`, nil)
		eventually(t, "the old task has gone", func() bool { return len(l.app(t, id).App.Tasks) == 0 })
	}
}

func (l *life) post(t *testing.T, name, schedule, command, more string) {
	t.Helper()
	l.must(t, "chronos", "POST", l.prefix()+"/iso8601",
		fmt.Sprintf(`{"name":%q,"schedule":%q,"command":%q,"cpus":0.1,"mem":16,"retries":0%s}`, name, schedule, command, more), nil)
}

func (l *life) givenJob(t *testing.T, text string) {
	t.Helper()
	name, how, _ := strings.Cut(text, " ")
	schedule, command, more := "R/2200-01-01T00:00:00Z/PT1H", "exec sleep 1000", ""
	if strings.HasPrefix(how, "R") {
		var n string
		n, how, _ = strings.Cut(how, " ")
		schedule = n + "//PT1H"
	}
	switch how {
	case "disabled":
		more = `,"disabled":true`
	case "succeeded":
		command = "exit 0"
	case "failed", "launched twice":
		command = "exit 1"
	}
	l.post(t, name, schedule, command, more)
	eventually(t, "the job is shown", func() bool { _, ok := l.jobs(t)[name]; return ok })
	put := func() { l.must(t, "chronos", "PUT", l.prefix()+"/job/"+name, "", nil) }
	count := func(n int) {
		eventually(t, "the runs have ended", func() bool { j := l.jobs(t)[name]; return j.SuccessCount+j.ErrorCount == n })
	}
	byHand := strings.HasPrefix(schedule, "R/")
	switch how {
	case "running":
		put()
		eventually(t, "the job runs", func() bool {
			_, _, b := l.send(t, "agent", "GET", "/state", "")
			return strings.Contains(string(b), `"state":"TASK_RUNNING"`)
		})
	case "launched":
		eventually(t, "the job is launched", func() bool { return l.state(t, name) == "1 running" })
	case "succeeded", "failed":
		if byHand {
			put()
		}
		count(1)
	case "launched twice":
		count(1)
		put()
		count(2)
	}
}

// fire sends a row's requests and compares.
func (l *life) fire(t *testing.T, row contracttest.Row) {
	t.Helper()
	vars := map[string]string{}
	if slices.ContainsFunc(row.Given, func(g string) bool { return strings.HasPrefix(g, "app /") }) {
		vars = l.vars(t)
	}
	if l.o.HTTPCredentials == "" && !slices.ContainsFunc(row.Given, func(g string) bool { return strings.HasSuffix(g, " master") }) {
		maps.Copy(vars, l.awaitAgent(t))
	}
	request := func(r contracttest.Request) (int, http.Header, []byte) {
		r = r.Expand(vars)
		return l.send(t, string(r.Server), r.Method, r.Path, r.Body)
	}
	if row.During != nil {
		l.watch(t, row, vars, func() { request(*row.During) })
		return
	}
	if row.Before != nil {
		request(*row.Before)
	}
	if !row.Eventually {
		status, header, body := request(row.Request)
		if err := row.Match(status, header, body, vars); err != nil {
			t.Errorf("docs/contract.md:%d: %v", row.Line, err)
		}
		return
	}
	var last error
	limit := time.After(20 * time.Second)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		status, header, body := request(row.Request)
		if last = row.Match(status, header, body, vars); last == nil {
			return
		}
		select {
		case <-tick.C:
		case <-limit:
			t.Fatalf("docs/contract.md:%d: %v", row.Line, last)
		}
	}
}

// vars finds {task} and {deployment}.
func (l *life) vars(t *testing.T) map[string]string {
	t.Helper()
	vars := map[string]string{}
	var apps struct {
		Apps []struct {
			ID          string
			Tasks       []struct{ ID string }
			Deployments []struct{ ID string }
		}
	}
	l.must(t, "marathon", "GET", "/v2/apps?embed=apps.tasks", "", &apps)
	for _, a := range apps.Apps {
		if len(a.Tasks) > 0 {
			vars["task"] = a.Tasks[0].ID
		}
		if len(a.Deployments) > 0 {
			vars["deployment"] = a.Deployments[0].ID
		}
	}
	return vars
}

// watch reads the event stream of a row until an event fits.
func (l *life) watch(t *testing.T, row contracttest.Row, vars map[string]string, during func()) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), row.Request.Method, l.url(string(row.Request.Server))+row.Request.Path, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Accept", "text/event-stream")
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	during()
	var last error
	timeout := time.AfterFunc(20*time.Second, func() { _ = res.Body.Close() }) // the scan ends with it
	defer timeout.Stop()
	lines := bufio.NewScanner(res.Body)
	for lines.Scan() {
		data, ok := bytes.CutPrefix(lines.Bytes(), []byte("data: "))
		if !ok {
			continue
		}
		if last = row.MatchBody(data, vars); last == nil {
			return
		}
	}
	t.Fatalf("docs/contract.md:%d: no event fits: %v (%v)", row.Line, last, lines.Err())
}
