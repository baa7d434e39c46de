// Package node makes test nodes: a Debian release with a Docker engine, containerd, runc and CRIU of its own, in namespaces and cgroups of
// its own, on the machine that runs the tests. Nothing is pulled; the root file systems come from Debian's packages and are kept in a
// cache (QOSCTL_E2E_CACHE, else /var/cache/qosctl-e2e) from one run to the next.
//
// A node ends with the process that started it. What a killed run has left is swept when the next node is started.
package node
