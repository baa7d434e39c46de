package sim

// Outcome is what became of one job of one seed.
type Outcome struct {
	Job           string  `json:"job"`
	Feasible      bool    `json:"feasible"` // it meets its deadline alone on a node, with max_cpus all the time
	Met           bool    `json:"met"`
	Unfinished    bool    `json:"unfinished,omitempty"` // at the horizon
	Refused       bool    `json:"refused,omitempty"`    // named as infeasible when it was submitted
	Ended         float64 `json:"ended"`                // seconds
	Late          float64 `json:"late"`                 // seconds after its deadline; negative: before
	Used          float64 `json:"used"`                 // CPU seconds
	Allocated     float64 `json:"allocated"`            // CPU seconds
	Resizes       int     `json:"resizes"`              // of what runs; by a restart where the policy resizes so
	Moves         int     `json:"moves"`
	Hours         float64 `json:"hours"` // in which it held a part of a node
	SteadyResizes int     `json:"steady_resizes"`
	SteadyHours   float64 `json:"steady_hours"`
	Flagged       float64 `json:"flagged"` // share of the time allowed that was left when it was said, to stay so, that it would miss; 0: never
	Alarms        int     `json:"alarms"`  // times that it was said and taken back
}

// flag notes that a job is said to miss its deadline.
func (j *job) flag(now float64) {
	if j.out.Flagged == 0 && now < j.deadline {
		j.out.Flagged = (j.deadline - now) / (j.deadline - j.arrive)
	}
}

// unflag notes that this is taken back.
func (j *job) unflag(now float64) {
	if j.out.Flagged > 0 && now < j.deadline {
		j.out.Flagged = 0
		j.out.Alarms++
	}
}
