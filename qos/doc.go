// Package qos is the domain of qosctl: jobs and the quality of service they ask for, their phases, their CPU account,
// the equations of progress, and the policies that decide how many CPUs each job of a node gets.
//
// It is pure: no clock, no files, no goroutines; times come as arguments. Everything else observes or acts.
//
// # Units
//
// CPUs are float64 cores (1 = one core all the time), work is float64 CPU seconds, times within a model are float64 seconds; what
// leaves the package as a moment is a time.Time, as a counter a time.Duration.
//
// # The control law
//
// A Policy looks at a NodeView, all jobs of one node at one moment, and returns a Decision for each. Policy none leaves everything;
// step is the thesis' law (equations.go, policy_step.go). Policy deadline, the default, works in three stages.
//
// 1. What does a job need? (state.go) A run takes T(c) = waiting + serial/min(c,1) + B/c seconds with c CPUs (model.go), learnt from
// ended runs; before the first, the declared duration times Caution (1.25) stands for it, half of it taken as parallel.
//
//	runs   = max(1 − progress/work, guard) + (runs left − 1) + spread      in runs
//	spread = 1.3 · deviation · √(runs left)                                0 before the first run
//	left   = deadline − now − deploy · (runs left − 1)                     seconds
//	margin = max(MinMargin · left, 1 % of the time allowed)                seconds, at most 30 % of left
//	need   = the least c with T(c) ≤ (left − margin) / runs                CPUs, divided by fill
//
// guard is what is left of a run that has used up its estimate: 10 % of it, or less where runs deviate less. fill is the smoothed
// share of its quota that the job uses while it is throttled, at least 0.8. The bare need is the same without margin and spread.
//
// 2. What does it ask for? (policy_deadline.go) With hysteresis: an allocation that is short of the need by less than half a dead
// zone (max(DeadZone, DeadZoneShare · allocation): 0.05 CPUs or 10 %) stays; beyond that the need is asked for at once, and a tenth more
// if there is room. Claims are clamped to Min..Max (the request, where nothing may be borrowed) and rounded up to the Quantum (0.01).
// A job that for two looks used less than 0.9 of its allocation without being throttled, on a node less than 0.9 of whose CPUs were
// in use, is not short of CPU: it is not raised, and
// keeps 1.25 times what it uses, or what it needs of its request, if others need the rest.
//
// 3. Who gets it? (arbitrate.go) Tiers, each served from what the one before it left: the minimum, the need up to the request, the bare
// need, the need, comfort, the request, what each has, and at last an early run in proportion to need: up to one CPU, where a CPU
// second costs the same at any speed, and above one only for a job that needs more than 0.8 (until it needs less than 0.6). So nothing
// is taken from a job but for somebody who needs it, for a request that was lent, or for CPUs that Mesos has sold; and that at once.
// What is given or taken beyond that comes in steps of two dead zones, not sooner than Dwell (10 s) after the last change.
//
// If claims exceed the pool, the overload rule (overload.go) keeps the heaviest set of jobs that can be on time. A job that is found
// outside for DoomLooks (3) looks in a row is lost: it keeps its minimum, and what the others leave. A verdict is taken back as
// soon as there is room.
//
// A job past its deadline asks for its request and keeps what it has; it is lowered only by the overload rule. A late job, past its
// deadline or beyond its declared work, is never OVER_PERFORMANT.
//
// The published figures are the thesis': progress ratio, desired CPU time and thesis_state by equations 1 to 3 with the declared
// duration. State is ours: the bounds of the thesis' Chronos rule (95 %, 1 − desv_deadline), for both frameworks, on the time that the
// learnt model expects at the present allocation.
//
// The closed loops of closedloop_test.go and arbitrate_test.go show the law at work; no change of it lands without them.
package qos
