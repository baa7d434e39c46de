package agent

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"qosctl/agent/api"
)

func TestAJobsNameIsNeverMarkup(t *testing.T) {
	t.Parallel()
	n := testNode(t, nil)
	const name = `</script><img src=x onerror=alert(1)>` // Chronos' names are free of such; what is stored may not be
	j := newJob(row{})
	j.spec().ID, j.spec().Name = idA, name
	n.agent.jobs.add(j)
	first := nextEvent[api.ClusterNews](t, stream(t, n.agent.adminRoutes(), "/v1/events"), "cluster")
	if len(first.Jobs) != 1 || strings.ContainsAny(string(first.Jobs[0]), "<>") {
		t.Errorf("%s", first.Jobs)
	}
	r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/jobs/"+idA, nil)
	w := httptest.NewRecorder()
	n.agent.adminRoutes().ServeHTTP(w, r)
	if w.Code != 200 || strings.Contains(w.Body.String(), "onerror") {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	j.mu.Lock()
	j.gone = true // nothing of it is written
	j.mu.Unlock()
	n.agent.jobs.remove(idA)
}
