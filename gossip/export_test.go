package gossip

import "github.com/hashicorp/memberlist"

// List is memberlist's part of a Mesh; nil: it does not run yet.
func (m *Mesh) List() *memberlist.Memberlist { return m.list.Load() }
