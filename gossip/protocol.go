package gossip

// The protocols between agents: what they say by gossip and ask over the peer API. Each node tells the range that it speaks in its meta
// (ProtocolMin, ProtocolMax), and two nodes work together if their ranges meet; who is out of range is kept out, and that is logged
// once. What a protocol added is said only to nodes that speak it, so a cluster may be upgraded node by node, from each version to the
// next. Beside that, fields of metas and rows that a version does not know are kept and passed on.
//
// A version that changes what is said raises protocolNow, names the protocol below, and keeps a way to speak the one before. Builds with
// the tag protocol_prev speak no more than the one before, those with protocol_next only one that this version does not know: tests run
// them beside this one.
const (
	// ProtocolUnsealed: an agent that is asked for its checkpoints of a job also names those that it is still sealing, if it is asked to.
	ProtocolUnsealed = 2

	protocolOldest = 1
	protocolNow    = ProtocolUnsealed
)

// Common is the newest protocol that both the node and this one speak.
func (m Meta) Common() int { return min(m.ProtocolMax, ProtocolMax) }

// speaks says whether the node's range of protocols meets ours.
func (m Meta) speaks() bool { return m.ProtocolMin <= ProtocolMax && m.ProtocolMax >= ProtocolMin }
