package devmesos

import (
	"encoding/json"
	"errors"
	"net/http"
	"strconv"

	"qosctl/devmesos/master"
)

// admin puts the routes that only a development scheduler has before an API. They are on every listener:
//
//	POST   /dev/faults                   switches a Fault on
//	GET    /dev/faults                   lists those that are on
//	DELETE /dev/faults                   clears them
//	POST   /dev/hold?cpus=X[&node=NAME]  keeps CPUs of a node, or of each, out of the offers, as a framework that sits on one; 0 gives them back
//	POST   /dev/nodes/{name}/cut         throws away what a node reports: to its master it is silent
//	POST   /dev/nodes/{name}/heal        lets it be heard again
//	POST   /dev/tasks/{id}/unreachable   cuts a task off from its framework; it runs on
//	POST   /dev/tasks/{id}/reachable     lets it return
//	POST   /dev/tasks/{id}/lost          kills it as if its agent were gone for good
func (s *Server) admin(next http.Handler) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /dev/faults", func(w http.ResponseWriter, r *http.Request) {
		var f Fault
		dec := json.NewDecoder(http.MaxBytesReader(w, r.Body, 64<<10))
		dec.DisallowUnknownFields()
		err := dec.Decode(&f)
		if err == nil {
			err = s.faults.add(&f)
		}
		if err != nil {
			say(w, http.StatusBadRequest, map[string]string{"message": err.Error()})
			return
		}
		say(w, http.StatusCreated, f)
	})
	mux.HandleFunc("GET /dev/faults", func(w http.ResponseWriter, _ *http.Request) {
		s.faults.mu.Lock()
		list := make([]Fault, 0, len(s.faults.list))
		for _, f := range s.faults.list {
			list = append(list, *f)
		}
		s.faults.mu.Unlock()
		say(w, http.StatusOK, list)
	})
	mux.HandleFunc("DELETE /dev/faults", func(w http.ResponseWriter, _ *http.Request) {
		s.faults.mu.Lock()
		s.faults.list = nil
		s.faults.mu.Unlock()
		w.WriteHeader(http.StatusNoContent)
	})
	mux.HandleFunc("POST /dev/hold", func(w http.ResponseWriter, r *http.Request) {
		cpus, err := strconv.ParseFloat(r.URL.Query().Get("cpus"), 64)
		if err != nil || !(cpus >= 0) {
			say(w, http.StatusBadRequest, map[string]string{"message": "cpus: want a number that is not negative"})
			return
		}
		s.master.Hold(r.URL.Query().Get("node"), cpus)
		w.WriteHeader(http.StatusNoContent)
	})
	s.adminOfNodes(mux)
	mux.Handle("/", next)
	return mux
}

// adminOfNodes are the routes to nodes and tasks.
func (s *Server) adminOfNodes(mux *http.ServeMux) {
	for _, verb := range []string{"cut", "heal"} {
		mux.HandleFunc("POST /dev/nodes/{name}/"+verb, func(w http.ResponseWriter, r *http.Request) {
			if err := s.master.Cut(r.PathValue("name"), verb == "cut"); err != nil {
				say(w, http.StatusNotFound, map[string]string{"message": err.Error()})
				return
			}
			w.WriteHeader(http.StatusNoContent)
		})
	}
	for verb, act := range map[string]func(string) error{
		"unreachable": func(id string) error { return s.master.SetReachable(id, false) },
		"reachable":   func(id string) error { return s.master.SetReachable(id, true) },
		"lost":        s.master.Lose,
	} {
		mux.HandleFunc("POST /dev/tasks/{id}/"+verb, func(w http.ResponseWriter, r *http.Request) {
			err := act(r.PathValue("id"))
			switch {
			case errors.Is(err, master.ErrNoTask):
				say(w, http.StatusNotFound, map[string]string{"message": err.Error()})
			case err != nil:
				say(w, http.StatusInternalServerError, map[string]string{"message": err.Error()})
			default:
				w.WriteHeader(http.StatusNoContent)
			}
		})
	}
}

func say(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v) // a client that went away is no concern of ours
}
