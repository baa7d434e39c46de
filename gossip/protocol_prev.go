//go:build protocol_prev

package gossip

// The range of protocols of the version before this one.
const (
	ProtocolMin = protocolOldest
	ProtocolMax = protocolNow - 1
)
