package qos

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestParseSchedule(t *testing.T) {
	t.Parallel()
	start := time.Date(2030, 1, 31, 18, 0, 0, 0, time.UTC)
	for text, want := range map[string]Schedule{
		"R4//PT5M":                            {Iterations: 4, Period: 5 * time.Minute},
		"R1000000//P":                         {Iterations: 1_000_000},
		"R007//P1D":                           {Iterations: 7, Period: 24 * time.Hour},
		"R4/2030-01-31T18:00:00Z/PT5M":        {Iterations: 4, Start: start, Zoned: true, Period: 5 * time.Minute},
		"R4/2030-01-31T18:00:00.000Z/PT5M":    {Iterations: 4, Start: start, Zoned: true, Period: 5 * time.Minute},
		"R4/2030-01-31T19:00:00+01:00/PT5M":   {Iterations: 4, Start: start, Zoned: true, Period: 5 * time.Minute},
		"R4/2030-01-31T19:00:00+0100/PT5M":    {Iterations: 4, Start: start, Zoned: true, Period: 5 * time.Minute},
		"R4/2030-01-31T18:00Z/PT5M":           {Iterations: 4, Start: start, Zoned: true, Period: 5 * time.Minute},
		"R4/2030-01-31T18:00:00/PT5M":         {Iterations: 4, Start: start, Period: 5 * time.Minute},
		"R4/2030-01-31/P1W":                   {Iterations: 4, Start: start.Add(-18 * time.Hour), Period: 7 * 24 * time.Hour},
		"R4/2030-01-31T18:00:00.000-00:00/PT": {Iterations: 4, Start: start, Zoned: true},
	} {
		got, err := ParseSchedule(text)
		if err != nil {
			t.Errorf("%s: %v", text, err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", text, diff)
		}
	}
	for text, words := range map[string]string{
		"": "1 parts", "R4": "1 parts", "R4//PT5M/": "4 parts", "R//PT5M": "for ever", "R/2030-01-31T18:00:00Z/PT5M": "for ever",
		"R0//PT5M": "R0", "R00//PT5M": "R0", "r4//PT5M": "does not begin with R", "R-4//PT5M": "other than digits", "R4.5//PT5M": "other than digits",
		"R1000001//PT5M": "more than 1000000", "R9999999999999999999999//PT5M": "more than", "R4/now/PT5M": "no ISO 8601 time",
		"R4/2500-01-01T00:00:00Z/PT5M": "years", "R4//": "no period", "R4//-PT5M": "no ISO 8601 duration", "R4//PT5": "no ISO 8601 duration",
		"R4//P99999999999Y": "ten years", "R4//five": "no ISO 8601 duration",
	} {
		if got, err := ParseSchedule(text); err == nil || !strings.Contains(err.Error(), words) {
			t.Errorf("%q: want an error with %q, got %v, %v", text, words, got, err)
		}
	}
}

func FuzzSchedule(f *testing.F) {
	for _, seed := range []string{
		"R4//PT5M", "R//PT5M", "R0//P", "R4/2030-01-31T18:00:00+01:00/P1DT2H", "R4/2030-01-31/P1W", "R4//PT1e9H", "R4//P1.5Y2M", "/", "R٣//PT5M",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		s, err := ParseSchedule(text)
		if err != nil {
			if err.Error() == "" {
				t.Fatal("an error without words")
			}
			return
		}
		if s.Iterations < 1 || s.Iterations > MaxIterations || s.Period < 0 || s.Period > MaxTime+time.Second {
			t.Fatalf("%q is read as %+v, out of bounds", text, s)
		}
		start := ""
		if !s.Start.IsZero() {
			start = s.Start.Format(time.RFC3339Nano)
		}
		again, err := ParseSchedule(fmt.Sprintf("R%d/%s/PT5M", s.Iterations, start))
		if err != nil || again.Iterations != s.Iterations || !again.Start.Equal(s.Start) {
			t.Fatalf("%q is %+v, and read back as %+v, %v", text, s, again, err)
		}
	})
}
