// Package gossip will tell agents of each other: who is there (membership), who owns which job (a replicated table), and, to a few
// replicas of each job, how much CPU it has had. There is no code here yet: one agent owns all jobs of its node.
//
// What will stand here, in three planes over hashicorp/memberlist:
//
//   - membership, with each node's headroom in its meta data, and a re-join loop;
//   - rate-limited broadcast of what is rare and everybody must know (claims, terminal phases, places of checkpoints, tombstones),
//     repaired by anti-entropy on digests;
//   - accounts, straight from a job's owner to its replicas.
//
// The records that will travel are qos.Record: an immutable spec and a status with one writer, compared by epoch, owner and sequence.
// No clock decides anything. Gossip is not consensus: it gives a job one owner with high probability only. The fence is where the
// effect is, at the framework, which runs one task of a job.
package gossip
