// Package monasca will send each job's metrics to Monasca, authenticated by Keystone v3, with the names and dimensions of the thesis
// that this project grew out of. There is no code here yet: metrics are served at the agent's /metrics, in Prometheus' format.
//
// What will stand here: a session that renews its token, batches within the limits that Monasca enforces, and a spool on disk for
// outages, bounded by bytes and age, oldest first.
package monasca
