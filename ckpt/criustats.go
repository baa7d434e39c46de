package ckpt

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/checkpoint-restore/go-criu/v8/crit/images/stats"
	"google.golang.org/protobuf/proto"
)

// Names of CRIU's statistics: two magics, a length and a message (criu/stats.c).
const (
	statsDump    = "stats-dump"
	statsRestore = "stats-restore"
)

// readStats reads one of CRIU's statistics.
func readStats(dir, name string) (*stats.StatsEntry, error) {
	b, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		return nil, fmt.Errorf("read CRIU's statistics: %w", err)
	}
	return parseStats(b)
}

func parseStats(b []byte) (*stats.StatsEntry, error) {
	const head = 12
	if len(b) < head || int(binary.LittleEndian.Uint32(b[8:])) != len(b)-head {
		return nil, errors.New("CRIU's statistics are torn")
	}
	var e stats.StatsEntry
	if err := proto.Unmarshal(b[head:], &e); err != nil {
		return nil, fmt.Errorf("CRIU's statistics: %w", err)
	}
	return &e, nil
}

func micros(n uint32) time.Duration { return time.Duration(n) * time.Microsecond }

// readDump is CRIU's account of a dump; zero where it wrote none.
func readDump(work string) DumpStats {
	e, err := readStats(work, statsDump)
	if err != nil || e.GetDump() == nil {
		return DumpStats{}
	}
	d := e.GetDump()
	return DumpStats{
		Freezing: micros(d.GetFreezingTime()), Frozen: micros(d.GetFrozenTime()), MemDump: micros(d.GetMemdumpTime()),
		MemWrite: micros(d.GetMemwriteTime()), Pages: d.GetPagesWritten(),
	}
}

// readRestore is CRIU's account of a restore.
func readRestore(work string) RestoreStats {
	e, err := readStats(work, statsRestore)
	if err != nil || e.GetRestore() == nil {
		return RestoreStats{}
	}
	r := e.GetRestore()
	return RestoreStats{Forking: micros(r.GetForkingTime()), Restore: micros(r.GetRestoreTime()), Pages: r.GetPagesRestored()}
}
