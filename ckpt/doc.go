// Package ckpt will keep checkpoints: take, verify, store, list, send, fetch, restore them and collect the garbage. There is no code
// here yet: a job is resized in place, and one that is told to stop without being done starts its execution anew.
//
// What will stand here: a checkpoint is a directory with CRIU's images, the container's changed files and a manifest (job, epoch,
// execution, restore class, the CPU time embodied, a digest of each file), written under a temporary name, synced and renamed, so
// that it is there whole or not at all. Two drivers behind one interface, Docker's checkpoint API and an OCI runtime of our own,
// chosen by a self-test when the agent starts. The old container stays the way back until the new one runs.
//
// The shapes that wait for it: qos.Entry.Base (CPU time embodied in what an incarnation was restored from), the phase Suspended, and
// the difference between consumed and progress in qos.Account.
package ckpt
