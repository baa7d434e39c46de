//go:build protocol_next

package gossip

// The range of protocols of a version to come that no longer speaks any of this one's.
const (
	ProtocolMin = protocolNow + 1
	ProtocolMax = protocolNow + 1
)
