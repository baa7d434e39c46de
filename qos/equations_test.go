package qos

import (
	"math"
	"testing"
	"time"
)

func TestPredictionOfTheThesisJobs(t *testing.T) {
	t.Parallel()
	// Case I: sleeping_time 0, deployment_time 45 s, deadline 1800 s, desv_deadline 0.2: superior 1710 s, inferior 1440 s.
	start := at(0)
	deadline := at(1800)
	if got, want := DeadlineSuperior(start, deadline), at(1710); !got.Equal(want) {
		t.Errorf("deadline_superior %v, want %v", got, want)
	}
	if got, want := DeadlineInferior(start, deadline, 0.2), at(1440); !got.Equal(want) {
		t.Errorf("deadline_inferior %v, want %v", got, want)
	}
	for _, tt := range []struct {
		name     string
		now      float64
		left     int
		duration float64
		want     float64
		state    State
	}{
		{"openmpLinpack1 at submission", 0, 4, 400, 1780, UnderPerformant},
		{"openmpLinpack3 at submission", 0, 13, 130, 2275, UnderPerformant},
		{"openmpLinpack4 at submission", 0, 11, 130, 1925, UnderPerformant},
		{"openmpLinpack5 at submission", 0, 12, 130, 2100, UnderPerformant},
		{"openmpLinpack6 at submission", 0, 14, 80, 1750, UnderPerformant},
		{"openmpLinpack6 exactly at the superior bound", 1585, 1, 80, 1710, OnPlan},
		{"openmpLinpack1 between the bounds", 1100, 1, 400, 1545, OnPlan},
		{"openmpLinpack6 exactly at the inferior bound", 1315, 1, 80, 1440, OnPlan},
		{"openmpLinpack6 ahead", 1000, 3, 80, 1375, OverPerformant},
		{"nothing left", 1200, 0, 80, 1200, OverPerformant},
		{"a negative count is none", 1500, -1, 80, 1500, OnPlan},
	} {
		got := Prediction(at(tt.now), tt.left, tt.duration, 0, 45)
		if !got.Equal(at(tt.want)) {
			t.Errorf("%s: prediction %v s, want %v s", tt.name, got.Sub(start).Seconds(), tt.want)
		}
		if s := ThesisStateChronos(got, start, deadline, 0.2); s != tt.state {
			t.Errorf("%s: %s, want %s", tt.name, s, tt.state)
		}
	}
	if got := Prediction(start, 2, 10, 3, 4); !got.Equal(at(34)) {
		t.Errorf("sleeping and deployment time: %v", got)
	}
}

func TestDeadlineInferiorIsTheTextsNotTheCodes(t *testing.T) {
	t.Parallel()
	// "si el trabajo tiene una duración de 100 segundos y la desviación del deadline es 0.2, el valor de deadline_inferior es 80"
	if got, want := DeadlineInferior(at(0), at(100), 0.2), at(80); !got.Equal(want) {
		t.Errorf("deadline_inferior %v, want %v", got, want)
	}
}

func TestCPUDesiredAndProgressRatio(t *testing.T) {
	t.Parallel()
	// Case III: duration 400, deadline 480, desv_deadline 0.1.
	for _, tt := range []struct {
		t, current, desired, ratio float64
		state                      State
	}{
		{-5, 0, 0, 1, OnPlan},
		{0, 0, 0, 1, OnPlan},
		{120, 100, 100, 1, OnPlan},
		{120, 89, 100, 0.89, UnderPerformant},
		{120, 90, 100, 0.90, OnPlan},
		{240, 220, 200, 1.10, OnPlan},
		{240, 221, 200, 1.105, OverPerformant},
		{480, 400, 400, 1, OnPlan},
		{600, 450, 400, 1.125, OverPerformant}, // the text's flaw: a late job that needs more is over; State mends it
	} {
		desired := CPUDesired(at(tt.t), at(0), 400, 480*time.Second)
		if math.Abs(desired-tt.desired) > 1e-9 {
			t.Errorf("cpu_desired(%g s) = %g, want %g", tt.t, desired, tt.desired)
		}
		ratio := ProgressRatio(tt.current, desired)
		if math.Abs(ratio-tt.ratio) > 1e-9 {
			t.Errorf("progress_ratio(%g s) = %g, want %g", tt.t, ratio, tt.ratio)
		}
		if s := ThesisStateMarathon(ratio, 0.1); s != tt.state {
			t.Errorf("at %g s with %g CPU seconds: %s, want %s", tt.t, tt.current, s, tt.state)
		}
	}
	if got := CPUDesired(at(1), at(0), 400, 0); got != 400 {
		t.Errorf("no time allowed: %g desired, want all", got)
	}
}

func TestPredictionsStayPrintable(t *testing.T) {
	t.Parallel()
	for _, d := range []float64{math.Inf(1), math.NaN(), 1e300} {
		if got := Prediction(at(0), 3, d, 0, 0); got.Year() > 9999 {
			t.Errorf("duration %g: prediction %v", d, got)
		}
	}
}
