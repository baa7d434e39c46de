// Package devmesos is a development scheduler: Marathon, Chronos, a Mesos master and one or several of its agents in one process, on loopback,
// with all the surprises of the real ones that docs/contract.md lists. It is for development and tests. A process may also be one node of
// another's cluster (NewNode).
//
// The rooms: node runs commands and reports to the master; master books resources, makes offers, and notices losses and returns; marathon
// and chronos are state machines without I/O, the loop that drives each, and their HTTP APIs; snapshot keeps what they know; this package
// composes them and puts switchable faults and authentication before them.
//
// What survives a kill -9: apps, jobs and their counters, what operators have said, and the tasks of nodes that are other processes. Tasks of the
// process' own nodes do not: the next life finds their cgroups by the marks that they left, ends them, counts Chronos' as lost, and Marathon's
// apps are launched anew.
package devmesos
