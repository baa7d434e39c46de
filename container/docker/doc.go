// Package docker holds jobs in Docker containers: created through Docker's API with a parent cgroup of ours, resized by Docker's
// update, watched by its events, and, by package ckpt, checkpointed and restored.
package docker
