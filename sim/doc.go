// Package sim will simulate clusters: a discrete-event simulator with a virtual clock that drives the very policies of package qos
// against thousands of random nodes and jobs, and prints how many deadlines each policy meets, at what cost in CPU and resizes.
// There is no code here yet: the policies have property tests, and examples/demo runs them on real processes.
//
// No change of a policy is to land without its table from here.
package sim
