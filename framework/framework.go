// Package framework has what the REST clients of the Mesos frameworks share: endpoints and their credentials, an HTTP client
// with bounded time, size and retries, errors that callers can branch on, and the form in which a job's spec travels in the
// environment of its task. Its sub-packages are the clients: marathon, chronos, and mesos (the node agent's state).
//
// One rule holds for all of them: a write whose answer was lost is never sent again blindly. The client looks first
// whether it took effect. docs/contract.md has the requests and answers that everything here rests on.
package framework
