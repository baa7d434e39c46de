//go:build !protocol_prev && !protocol_next

package gossip

// The range of protocols that this version speaks.
const (
	ProtocolMin = protocolOldest
	ProtocolMax = protocolNow
)
