// Package framework has what the REST clients of the Mesos frameworks share: endpoints, retries, errors.
// Its sub-packages are the clients: marathon, chronos, and mesos (the node agent's state).
package framework
