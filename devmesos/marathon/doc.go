// Package marathon is the Marathon half of the development scheduler: a state machine of apps, instances and deployments that
// does no I/O of its own (Core), the loop that drives it (Scheduler), and Marathon's HTTP API over both.
//
// What it imitates, and from which lines of Marathon's sources, stands in docs/contract.md.
package marathon
