// Package devmesos is a development scheduler: Marathon, Chronos and a Mesos agent of one node in one process, on loopback, with
// all the surprises of the real ones that docs/contract.md lists. It is for development and tests; it runs commands, no Docker.
//
// The rooms: node books resources and runs commands; marathon and chronos are state machines without I/O, the loop that drives each,
// and their HTTP APIs; this package composes them and puts switchable faults and authentication before them.
//
// What survives a kill -9: apps, jobs and their counters (in snapshots under Dir). Tasks do not: the next life finds their cgroups
// by the marks that they left, ends them, counts Chronos' as lost, and Marathon's apps are launched anew.
package devmesos
