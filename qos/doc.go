// Package qos is the domain of qosctl: jobs and the quality of service they ask for, their phases, their CPU account,
// the equations of progress, and the policies that decide how many CPUs each job of a node gets.
//
// It is pure: no clock, no files, no goroutines; times come as arguments. Everything else observes or acts.
package qos
