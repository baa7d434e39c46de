package agent

import (
	"context"
	"io"

	"qosctl/ckpt"
	"qosctl/container/process"
)

// ServeDump takes one dump for an agent of this configuration (checkpoint.helper), whose order comes in on conn.
func ServeDump(ctx context.Context, cfg Config, conn io.ReadWriter) error {
	return ckpt.ServeDump(ctx, conn, cfg.checkpoints())
}

// ServeJob starts one plain process for an agent of this configuration (engine.helper), whose order comes in on descriptor 3: this process
// becomes what holds it. It returns only if that failed.
func ServeJob(cfg Config) error {
	return process.Serve(cfg.containers(), shim())
}
