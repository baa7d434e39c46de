// Package master is the Mesos master of the development scheduler: it knows the agents and their tasks, books resources, makes offers of
// them, notices when an agent is out of reach and when it is back, drains agents, and answers as the master's operator API.
//
// Agents are devmesos' nodes, in this process or in others (package node has the protocol). What the master knows of nodes that outlive it
// is in a registry under its directory; each node's report puts right what that has wrong.
//
// Lock order: Master.serial, a framework's lock, Master.mu. A framework may call the master while it holds its own lock; the master calls a
// framework's functions with serial held alone, so that each task's updates arrive in their order.
package master
