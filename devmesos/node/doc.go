// Package node is the one Mesos agent of the development scheduler: it books resources, runs commands as the command executor
// does (sh -c in a session and a cgroup of its own, SIGTERM to the tree, grace, SIGKILL), and answers as the agent's HTTP API.
//
// Lock order: a framework may call the node while it holds its own lock; the node calls a framework's status function with no
// lock of its own held.
package node
