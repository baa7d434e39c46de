// Package agent is the daemon that runs on every node: it owns the jobs whose containers are here. This is the composition root, which
// joins the other rooms:
//
//	cgroup senses  ─▶  qos decides  ─▶  container and cgroup act
//	                       ▲ ▼
//	        framework (Marathon, Chronos, Mesos)   api (people, stand-ins, Prometheus)
//
// One goroutine each samples the counters (sample.go), decides (control.go), keeps the frameworks and our jobs in agreement
// (steward.go) and looks at the node's Mesos agent (adopt.go); one more waits for the end of each container (execution.go). A job's
// fields are guarded by its own mutex, under which nothing waits for long.
//
// What is to be is written to the store before it is done, and what was done is written after: an agent that is killed at any line is
// followed by one that finds everything (recover.go), starts nothing twice and forgets nothing.
package agent
