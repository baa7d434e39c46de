package chronos

import (
	"encoding/json"
	"testing"
	"time"
)

func FuzzJob(f *testing.F) {
	f.Add([]byte(job("j", "R2//PT1H", "")))
	f.Add([]byte(`{"name":"j","parents":["x"],"container":{"image":"i","volumes":[{}],"parameters":[1]},"constraints":[[1,2,3]],"cpus":1e999}`))
	f.Add([]byte(`{"name":"j","schedule":"R/2026-01-01T00:00:00Z/PT0.1S","scheduleTimeZone":"Europe/Bucharest","fetch":[{"uri":"x"}],"mem":"1e5"}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		b := newBench(t)
		j, err := readJob(body, false)
		if err != nil || b.Post(j, b.now) != nil {
			return
		}
		b.pass(2 * time.Second)
		out, err := json.Marshal(j.shown(true))
		if err != nil {
			t.Fatal(err)
		}
		again, err := readJob(out, false)
		if err != nil {
			t.Fatalf("answer can't be sent back: %v", err)
		}
		if again.Schedule != j.Schedule || again.CPUs != j.CPUs {
			t.Errorf("%s %g became %s %g", j.Schedule, j.CPUs, again.Schedule, again.CPUs)
		}
	})
}

func FuzzSchedule(f *testing.F) {
	for _, s := range []string{"R3//PT5M", "R/2026-01-02T00:00:00Z/P1Y2M", "R0/2026-01-02/P", "R1/2026-01-02T00:00+01:00/PT0.5S", "R//PT-1H"} {
		f.Add(s, "")
		f.Add(s, "Europe/Bucharest")
	}
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	f.Fuzz(func(t *testing.T, text, zone string) {
		s, ok := parseSchedule(text, zone, now)
		if !ok || s.start.Year() < 0 || s.start.Year() > 9000 {
			return
		}
		next, _ := s.launched(now)
		if next.start.Before(s.start) {
			t.Errorf("%s: %s comes before %s", text, next, s)
		}
		if _, ok := parseSchedule(next.String(), "", now); !ok {
			t.Errorf("%s: %s can't be parsed", text, next)
		}
	})
}
