package agent

import (
	"testing"
	"testing/synctest"
	"time"
)

func TestTheWorstClockIsShownWhileItIsFresh(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s skews
		if _, ok := s.worst(time.Now()); ok {
			t.Error("a skew without a measurement")
		}
		s.note("b", 20*time.Millisecond, time.Millisecond)
		s.note("c", -3*time.Second, time.Millisecond)
		s.note("d", time.Hour, time.Second) // its answer took too long to say anything
		if w, ok := s.worst(time.Now()); !ok || w != -3*time.Second {
			t.Errorf("worst %s, %t", w, ok)
		}
		time.Sleep(skewKept / 2)
		s.note("b", 10*time.Millisecond, time.Millisecond)
		time.Sleep(skewKept/2 + time.Second)
		if w, ok := s.worst(time.Now()); !ok || w != 10*time.Millisecond || len(s.was) != 1 {
			t.Errorf("worst %s, %t, of %d", w, ok, len(s.was))
		}
	})
}
