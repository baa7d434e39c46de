// Package chronos is the Chronos half of the development scheduler: a state machine of jobs, queue and runs that does no I/O of its
// own (Core), the loop that drives it (Scheduler), and Chronos' HTTP API over both.
//
// What it imitates, and from which lines of Chronos' sources, stands in docs/contract.md.
package chronos
