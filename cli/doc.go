// Package cli is the command line: one verb a file, each with its flags (xCmd), its options (xOpts) and what it does (runX).
// Commands for people talk to a running agent through package api only. The commands agent, run, release and dev are the
// program's other roles; shim and devmesos are started by those.
//
// Errors are printed as "qosctl: text", with a remedy on a second line "hint: …". Exit codes are listed by exitCodes.
package cli
