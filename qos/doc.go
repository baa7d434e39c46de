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
// step is the thesis' law (equations.go, policy_step.go), step-code the same as the thesis' program has it. Policy deadline, the
// default, works in three stages. docs/control.md explains it, with what the simulator says of it.
//
// 1. What does a job need? (state.go) A run takes T(c) = waiting + serial/min(c,1) + B/c seconds with c CPUs (model.go), learnt from
// ended runs; before the first, the declared duration times Caution (1.25) stands for it, half of it taken as parallel.
//
//	runs    = max(1 − progress/work, guard) + (runs left − 1) + spread      in runs
//	spread  = 2 · deviation · √min(runs left, 4)                            0 before the first run
//	reserve = straggle · T(max)      straggle = 0.35 / (1 + 0.1 · (runs seen − 1)), 0 before the first run
//	left    = deadline − now − deploy · (runs left − 1)                     seconds
//	margin  = max(MinMargin · left, 1 % of the time allowed, reserve)       seconds, at most 30 % of left
//	need    = the least c with T(c) ≤ (left − margin) / runs                CPUs, divided by fill
//
// guard is what is left of a run that has used up its estimate: 10 % of it, or less where runs deviate less. fill is the smoothed
// share of what it is expected to use of its quota that the job uses while it is throttled, at least 0.8. The bare
// need is the same without spread, and with 1.5 % of the time allowed as its margin; the urgent one has half of both, and 0.3 of the reserve. A run that is more than 2 · deviation beyond its estimate has proved to be a
// straggler: of it what is left up to 1.5 times the estimate counts, half of that in the bare need. A job is hopeless if not even Max would
// do, were its runs two standard deviations (of the mean of the runs to come, and of the estimate) shorter than expected; of one run alone
// more than the declared duration with Caution is not believed.
//
// 2. What does it ask for? (policy_deadline.go) With hysteresis: an allocation stays as long as it covers the urgent need, or is short of
// the need by less than half a dead zone (max(DeadZone, DeadZoneShare · allocation): 0.05 CPUs or 13 %); else the need is asked for at
// once, and a twentieth more if there is room. Claims are clamped to Min..Max (the request, where nothing may be borrowed) and rounded up to the
// Quantum (0.01). A job that for two looks used less than 0.9 of its allocation (above one CPU: 0.75 of what its model says) without being
// throttled, on a node less than 0.9 of whose CPUs were in use, is not short of CPU: it is not raised, and keeps 1.25 times what it
// uses, or what it needs of its request, if others need the rest.
//
// 3. Who gets it? (arbitrate.go) Tiers, each served from what the one before it left: the minimum, the bare need up to the request, the
// bare need, the need up to the request, what each has of its need, the need, comfort, the request, what each has, and at last an early run
// in proportion to need: up to one CPU, where a CPU second costs the same at any speed. Above one CPU only a job runs early whose
// runs are launched one by one and that needs more than half a CPU, or one that is late. So nothing is taken from a job but for somebody who
// needs it, for a request that was lent, for CPUs that Mesos has sold, or above one CPU once it is more than 1.5 dead zones beyond what it needs and lowering saves 3 %
// of the job's work in CPU seconds (excess · A · runs). What is given or taken beyond need comes in steps of two dead zones, not sooner than
// Dwell (10 s) after the last change.
//
// If claims exceed the pool, the overload rule (overload.go) keeps the heaviest set of jobs that can be on time, at one standard deviation's
// hope; not a job that another node has room for. A job that is found outside for DoomLooks (3) looks in a row is lost: it keeps its
// minimum, and what the others leave. A verdict is taken back as soon as there is room. A hopeless job is lost too, and yields at once.
//
// A job past its deadline asks for its request and keeps what it has; it is lowered only by the overload rule. A late job, past its
// deadline or beyond its declared work, is never OVER_PERFORMANT.
//
// Place and Relocate (place.go, move.go) say on which node a job is to be launched, and when one had better be moved, from what the nodes
// gossip of themselves.
//
// The published figures are the thesis': progress ratio, desired CPU time and thesis_state by equations 1 to 3 with the declared
// duration. State is ours: the bounds of the thesis' Chronos rule (95 %, 1 − desv_deadline), for both frameworks, on the time that the
// learnt model expects at the present allocation.
//
// The closed loops of closedloop_test.go and arbitrate_test.go show the law at work, package sim on whole clusters; no change of it lands
// without the table of make bench-control.
package qos
