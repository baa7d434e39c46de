// Package node is a Mesos agent of the development scheduler: it runs commands as the command executor does (sh -c in a session and a
// cgroup of its own, SIGTERM to the tree, grace, SIGKILL) or in Docker, answers as the agent's HTTP API, and obeys a master, in its own process or
// another (Follow; the protocol is in wire.go).
//
// Lock order: a node calls a framework's status function, where one is registered with it, with no lock of its own held.
package node
