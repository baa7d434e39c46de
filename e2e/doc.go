// Package e2e holds the end-to-end tests: the built binaries, real processes in real cgroups, on one node. `make e2e` runs them, as root.
// The main job itself, unharmed and under kill -9, is examples/demo. Nodes with Docker engines and CRIU will stand here too.
package e2e
