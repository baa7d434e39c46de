package monasca

import (
	"math/rand/v2"
	"time"
)

// State is how sending goes.
type State string

// The states. Of all but the first and the last of them Fault has the words.
const (
	Sending    State = "sending"     // nothing is wrong
	Retrying   State = "retrying"    // Monasca or Keystone does not answer, or is in trouble itself
	BadLogin   State = "credentials" // Keystone takes neither the user nor the password
	Permission State = "permission"  // the user lacks the role
	Address    State = "address"     // what answers is not Monasca
	Idle       State = "idle"        // it has not begun
)

// States are all of them.
func States() []State { return []State{Idle, Sending, Retrying, BadLogin, Permission, Address} }

// pace is how long a state waits between two tries: the first time, and at most. Each further time takes twice as long.
type pace struct{ first, most time.Duration }

// paces: no retry mends a password, and Keystone may lock out a user who tries too often.
var paces = map[State]pace{
	Retrying:   {time.Second, time.Minute},
	BadLogin:   {5 * time.Minute, time.Hour},
	Permission: {time.Minute, 30 * time.Minute},
	Address:    {time.Minute, 15 * time.Minute},
}

// backoff is the wait before the next try after so many failures in a row of one kind, counted from 1; random is from [0, 1). A server
// that said how long it wants to be left alone is left alone for as long.
func backoff(s State, failures int, after time.Duration, random float64) time.Duration {
	p := paces[s]
	d := p.first << min(max(failures-1, 0), 20)
	if d > p.most || d <= 0 {
		d = p.most
	}
	d = d/2 + time.Duration(random*float64(d)/2) // jitter, so that a cluster does not come back at once
	return max(d, after)
}

func jitter() float64 { return rand.Float64() }
