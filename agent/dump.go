package agent

import (
	"context"
	"io"

	"qosctl/ckpt"
)

// ServeDump takes one dump for an agent of this configuration (checkpoint.helper), whose order comes in on conn.
func ServeDump(ctx context.Context, cfg Config, conn io.ReadWriter) error {
	return ckpt.ServeDump(ctx, conn, cfg.checkpoints())
}
