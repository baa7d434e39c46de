package main

import (
	"encoding/binary"
	"flag"
	"fmt"

	"golang.org/x/sys/unix"
)

// counter counts, and holds memory in which every page is another one.
type counter struct {
	mib    int
	memory []byte
	last   int64
}

const page = 4096

func (c *counter) flags(set *flag.FlagSet) {
	set.IntVar(&c.mib, "mib", 0, "memory that it touches, MiB")
}

func (c *counter) begin([]string) error {
	if c.mib <= 0 {
		return nil
	}
	var err error
	if c.memory, err = unix.Mmap(-1, 0, c.mib<<20, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON); err != nil {
		return fmt.Errorf("map %d MiB: %w", c.mib, err)
	}
	for at := 0; at < len(c.memory); at += page {
		binary.LittleEndian.PutUint64(c.memory[at:], mix(at))
		binary.LittleEndian.PutUint64(c.memory[at+page-8:], ^mix(at))
	}
	return nil
}

// mix is what the page at an offset begins with.
func mix(at int) uint64 { return (uint64(at) + 1) * 0x9e3779b97f4a7c15 }

// step looks at 64 pages, so that 1 GiB is seen in 4,096 steps.
func (c *counter) step(n int64) (string, error) {
	if n != c.last+1 {
		return "", fmt.Errorf("it was at %d before", c.last)
	}
	c.last = n
	pages := len(c.memory) / page
	for i := range min(64, pages) {
		at := int((n*64+int64(i))%int64(pages)) * page
		first, end := binary.LittleEndian.Uint64(c.memory[at:]), binary.LittleEndian.Uint64(c.memory[at+page-8:])
		if first != mix(at) || end != ^mix(at) {
			return "", fmt.Errorf("memory at %d holds %x and %x", at, first, end)
		}
	}
	return "", nil
}

// writer prints lines whose length and content follow from their number, so that any byte lost or doubled is seen.
type writer struct{}

func (*writer) flags(*flag.FlagSet) {}

func (*writer) begin([]string) error { return nil }

func (*writer) step(n int64) (string, error) { return filler(n), nil }

// filler is the same as package programs' Filler.
func filler(n int64) string {
	b := make([]byte, 1+n*7%97)
	for i := range b {
		b[i] = 'a' + byte((n+int64(i)*3)%26)
	}
	return string(b)
}
