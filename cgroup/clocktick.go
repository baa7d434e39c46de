package cgroup

import (
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// atClockTick is AT_CLKTCK of the auxiliary vector: how often the tick in which the kernel counts user and system time comes per second (USER_HZ).
const atClockTick = 17

// clockTick is the length of that tick in nanoseconds, as the kernel told this process at its start.
func clockTick() (int64, error) {
	auxv, err := unix.Auxv()
	if err != nil {
		return 0, fmt.Errorf("read the auxiliary vector: %w", err)
	}
	return tickOf(auxv)
}

// tickOf finds the tick in an auxiliary vector.
func tickOf(auxv [][2]uintptr) (int64, error) {
	for _, e := range auxv {
		if e[0] == atClockTick && e[1] > 0 {
			return int64(time.Second) / int64(e[1]), nil
		}
	}
	return 0, errors.New("the auxiliary vector has no clock tick")
}
