// Package e2e will hold the end-to-end tests that need several nodes: real agents, Docker engines and CRIU, each node in namespaces
// of its own on one machine. There is no code here yet: on one node, `make e2e` runs examples/demo, unharmed and under kill -9.
package e2e
