package qos

import "time"

// Account is the CPU time of one execution: an entry per incarnation. Merged entry by entry, the greater wins.
// The zero value is an empty account.
type Account struct {
	Entries map[int]Entry `json:"entries,omitempty"` // by incarnation, from 1
	Live    int           `json:"live,omitempty"`    // incarnation whose process state is the present one; 0: none yet
}

// Entry is the account of one incarnation, and where its figures were read.
type Entry struct {
	Node          string        `json:"node"`
	Container     string        `json:"container"`          // engine's container id
	StatContainer string        `json:"stat_container"`     // container whose cgroup the kernel counts it in
	Cgroup        string        `json:"cgroup"`             // path of the cgroup that is read, below the hierarchy's root
	Base          time.Duration `json:"base"`               // CPU time embodied in the checkpoint it was restored from (its manifest)
	Own           time.Duration `json:"own"`                // CPU time of its own
	Borrowed      time.Duration `json:"borrowed,omitempty"` // CPU time above the request
}
