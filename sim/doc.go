// Package sim simulates clusters: nodes, offers, deployments, iterations, crashes and neighbours, with a virtual clock. It decides
// nothing itself: the policies, the admission, the placement and the learning are those of package qos, called with the types that
// the agent calls them with. So what it prints of a policy is what the policy does.
//
// # Model
//
// A run of a job has a serial and a parallel part, in CPU seconds. With c CPUs it takes
//
//	T(c) = f · (serial/min(c,1) + parallel/min(c,threads))   seconds
//
// where f is drawn for each run: ln-normal noise, now and then a straggler. It burns f · (serial + parallel) CPU seconds whatever c is.
// Below quotas c is the allocation; below shares c is all that is idle, and allocations are weights. Where the containers of a
// node want more than it has, they get it in proportion to their weights (requests; below shares, allocations).
//
// Iterations by Chronos: each waits for an offer that holds its request, is deployed, runs, and gives its CPUs back. Warm
// iterations: the job does so once, and its runs follow each other on that node. All draws of a seed are made before it starts,
// so all policies see the same jobs.
//
// An event is the end of a run or of a deployment, an offer, a look of an agent, a checkpoint or a crash. Between two events all rates
// are constant.
package sim
