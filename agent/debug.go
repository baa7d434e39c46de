package agent

import (
	"net/http"
	"runtime"
	"runtime/pprof"
	"slices"
	"strconv"
	"time"

	bolt "go.etcd.io/bbolt"

	"qosctl/agent/api"
)

// socketRoutes are those of the admin socket: the API, and what shows the inside of the agent, which the network never sees.
func (a *Agent) socketRoutes() http.Handler {
	m := http.NewServeMux()
	a.debugRoutes(m)
	m.Handle("/", a.adminRoutes())
	return m
}

// profiles that can be asked for. A CPU profile is not among them: it would slow the agent down.
var profiles = []string{"goroutine", "heap", "allocs", "block", "mutex", "threadcreate"}

func (a *Agent) getProfile(w http.ResponseWriter, r *http.Request) {
	name := r.PathValue("profile")
	detail, err := strconv.Atoi(r.URL.Query().Get("debug"))
	if !slices.Contains(profiles, name) || err != nil || detail < 1 || detail > 2 {
		answerError(w, refuse(codeInvalid, "no profile %q in that form", name).hint("goroutine, heap, allocs, block, mutex or threadcreate, with debug=1 or debug=2"))
		return
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	_ = pprof.Lookup(name).WriteTo(w, detail) // the client has gone: nobody to tell
}

func (a *Agent) getDebugConfig(w http.ResponseWriter, _ *http.Request) {
	text, err := a.cfg.YAML()
	if err != nil {
		answerError(w, err)
		return
	}
	w.Header().Set("Content-Type", "application/yaml")
	_, _ = w.Write(text) // the client has gone: nobody to tell
}

func (a *Agent) getDebugState(w http.ResponseWriter, _ *http.Request) {
	var mem runtime.MemStats
	runtime.ReadMemStats(&mem)
	s := api.DebugState{
		At: time.Now(), Uptime: time.Since(a.started).Seconds(), Goroutines: runtime.NumGoroutine(), Heap: mem.HeapAlloc, GCs: mem.NumGC,
		Store: a.store.state(), Jobs: map[string]int{},
	}
	s.Store.Failing = a.full.Load()
	for _, j := range a.jobs.all() {
		j.mu.Lock()
		s.Jobs[string(j.status().Phase)]++
		j.mu.Unlock()
	}
	answer(w, http.StatusOK, s)
}

// state is the store's size and what is in it.
func (s *store) state() api.StoreState {
	st := api.StoreState{Bytes: s.size(), Rows: map[string]int{}}
	stats := s.db.Stats()
	st.Pages = stats.FreePageN
	st.Written = stats.TxStats.GetWrite()
	_ = s.db.View(func(tx *bolt.Tx) error { // closed: nothing
		return tx.ForEach(func(name []byte, b *bolt.Bucket) error {
			st.Rows[string(name)] = b.Stats().KeyN
			return nil
		})
	})
	return st
}
