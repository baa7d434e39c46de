// Package thesis is the wire format of the protocol that the thesis' launcher and jobs speak with their supervisor: what they post, and what
// they are answered. It knows no daemon.
//
//	POST /initTask         by the launcher, once a job: what it is and its quality of service
//	POST /updateTask       by a Chronos job's command, at the end of each iteration
//	POST /initMarathonApp  by shell_trap, when an execution begins anew; not when it is restored from a checkpoint
//	POST /endMarathonApp   by shell_trap, when an execution has ended
//
// Numbers may be JSON strings: the launcher writes numbers, and what the jobs post is put together by a shell. testdata has the bodies
// as they were sent.
package thesis
