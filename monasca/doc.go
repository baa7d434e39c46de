// Package monasca sends each job's figures to Monasca, under the names and dimensions of the thesis that this project grew out of.
//
//	Job ──Measure──▶ Measurement ──Offer──▶ queue ──▶ spool on disk ──▶ POST /v2.0/metrics
//	                                (bounded)   (bounded by bytes and age)   (one at a time, oldest first, token from Keystone v3)
//
// Everything goes through the spool: what was offered survives an outage of Monasca or Keystone, a restart and kill -9, and arrives in
// the order in which it was measured. A record leaves the spool when Monasca has answered for it. Whether a batch whose answer was lost
// has arrived is looked up in Monasca, if the user may read there; else it is sent again with the timestamps that it had, so that it
// replaces itself in Monasca's database.
//
// What is wrong is told apart by what helps: an unreachable server is tried again within a minute; a wrong password, a missing role and a
// wrong address wait for minutes, up to an hour, since no retry mends them and Keystone locks users out. A changed credentials file ends
// such a wait.
//
// What Monasca takes and refuses, and in which form it says so, was seen with monasca-api of April 2025 and Keystone 22 (docs/monasca.md).
package monasca
