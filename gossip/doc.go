// Package gossip tells agents of each other: who is there, who owns which job, and, to a few replicas of each job, how much CPU it has
// had. It stands on hashicorp/memberlist, in three planes:
//
//   - Membership. memberlist finds out who lives. Each node tells of itself in its meta (Meta, at most 512 bytes). Nobody in memberlist
//     joins again those that a long partition has parted; a loop of this package does.
//   - Broadcast of what is rare and everybody must know at once: claims, ends, places of checkpoints, duties, cancels, removals, marks. At
//     most 150 bytes each, at a bounded rate, by job: the newer replaces the older. A broadcast is no row. It stands beside the row as
//     news, and Get shows both together, so that an owner that was superseded sees it before the row has come. What does not get
//     through is mended by anti-entropy: each acknowledgement of a probe carries a digest of the table, and two nodes whose digests
//     differ compare 32 groups, then buckets (1,024), then versions, then exchange the rows that differ, over Peers. The table is never shipped.
//   - Accounts go from a job's owner straight to its two replicas, every ten seconds, as a few bytes; they are kept beside the row, too.
//
// # The table
//
// A row is a qos.Record, merged by qos.Status.Merge: one writer for each epoch, the stewardship by its own counter, accounts entry by
// entry, a cancel that is never unset. Two rows have always one outcome, whichever comes first and how often: the table is a
// join-semilattice, and no clock decides anything. Version is what is compared between nodes; the account is not in it. Fields of a row
// that this version does not know are kept and passed on. A removed job leaves a tombstone for 24 hours of the agents' running time: a
// peer that was away for longer can bring the job back.
//
// Put never uses a version twice: it stores before it tells, and makes a write that the table has something else for the next in
// sequence. So what the agent goes on with is what Put returns.
//
// # Using it
//
// New binds and reads the store. Run joins, and ends without Leave, so that a restart is not noticed; Leave is for a node that goes for
// good. Answer serves Peers of others: the agent's peer server calls it with the name that the caller has proven. Before it acts for a
// dead owner an agent asks Settled, Quorate and Steward. Options.Changed is called from one goroutine of Run, once for each job that
// changed meanwhile.
//
// Whoever has the cluster's key can claim to be any node: the key makes a member, not an identity. What a member sends is parsed strictly
// and bounded, but a member that lies is believed.
//
// # What it is not
//
// Gossip is not consensus. While a network is parted both sides see an owner of their own; afterwards the higher epoch holds
// everywhere. One owner is so with high probability only. The fence is where the effect is: the framework, which runs one task of a
// job, or a conditional write in ZooKeeper.
//
// Everybody holds every row. That is made for up to 1,000 nodes and 10,000 jobs.
package gossip
