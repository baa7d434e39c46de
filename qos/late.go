package qos

import "time"

// A node that was cut off tells what it has counted when it is heard again: then the run may have been booked, and the next begun.

// Shares is what a booked run keeps of its account.
func (a Account) Shares() map[Incarnation]Share {
	if len(a.Entries) == 0 {
		return nil
	}
	m := make(map[Incarnation]Share, len(a.Entries))
	for i, e := range a.Entries {
		m[i] = Share{Own: e.Own, Base: e.Base}
	}
	return m
}

// BookLate adds to a booked run, and to the tally, what an account that came too late says beyond what is booked. What has come before
// adds nothing. It returns how much that is; booked is false if the run is not booked, or no longer kept with its shares.
func (s *Status) BookLate(execution int, late Account) (more time.Duration, booked bool) {
	for i := range s.Runs {
		run := &s.Runs[i]
		if run.Index != execution || len(run.Spent) == 0 {
			continue
		}
		was := Account{Entries: map[Incarnation]Entry{}}
		for n, share := range run.Spent {
			was.Entries[n] = Entry{Own: share.Own, Base: share.Base}
		}
		is := was.Merge(late)
		more = is.Consumed() - was.Consumed()
		run.Spent = is.Shares()
		if more > 0 && run.Progress == 0 { // what did it is gone, so it is lost
			run.Progress = run.CPU
		}
		run.CPU += more.Seconds()
		s.Tally.CPU += more.Seconds()
		s.Tally.Lost += more.Seconds()
		s.trimShares()
		return more, true
	}
	return 0, false
}

// trimShares keeps the shares of the newest runs, MaxIncarnations at most but for those of the last run alone: beyond that, what comes late is not
// booked.
func (s *Status) trimShares() {
	left := MaxIncarnations
	for i := len(s.Runs) - 1; i >= 0; i-- {
		if left -= len(s.Runs[i].Spent); left < 0 && i < len(s.Runs)-1 {
			s.Runs[i].Spent = nil
		}
	}
}
