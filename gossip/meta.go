package gossip

import (
	"encoding/binary"
	"fmt"
	"math"

	"github.com/hashicorp/memberlist"
)

// Meta is what a node tells of itself, within 512 bytes. Fields of other versions are kept, and go on with it.
type Meta struct {
	Peer         string  // address of the peer API, host:port
	API          string  // address of the HTTP API
	Hostname     string  // as Mesos knows the node
	ProtocolMin  int     //
	ProtocolMax  int     //
	Capabilities uint64  // a bit for each
	CPUs         float64 //
	Headroom     float64 // CPUs that a further job could have
	Allocated    float64 // CPUs given to jobs
	Jobs         int     // that run
	HasRoom      bool    // Sold and Need are told; not by earlier versions
	Sold         float64 // CPUs that Mesos has sold there, to anything
	Need         float64 // CPUs that its jobs need to be in time, and those sold to others
	Class        [8]byte // digest of the restore class; zero: none
	Draining     bool
	Held         bool
	Checkpoints  bool // it can take and restore them
	Leaving      bool // set by Mesh.Leave
	Fresh        bool // set by Mesh: it has not been settled since its start; not told by earlier versions
	Version      string

	unknown []byte // whole fields, as they came
}

const (
	metaFormat = 1
	maxCPUs    = 1 << 20
)

// The fields. A number once given is never given anew.
const (
	metaPeer = iota + 1
	metaAPI
	metaHostname
	metaProtocol // min, max
	metaCapabilities
	metaCPUs // CPUs, headroom, allocated, in thousandths
	metaJobs
	metaClass
	metaFlags
	metaVersion
	metaRoom // sold and needed, in thousandths
)

const (
	metaDraining = 1 << iota
	metaHeld
	metaCheckpoints
	metaLeaving
	metaFresh
)

// encode returns the compact form; a meta that is too large is an error.
func (m Meta) encode() ([]byte, error) {
	b := []byte{metaFormat}
	field := func(tag uint64, v []byte) {
		b = appendBytes(binary.AppendUvarint(b, tag), v)
	}
	text := func(tag uint64, s string) {
		if s != "" {
			field(tag, []byte(s))
		}
	}
	numbers := func(tag uint64, all ...uint64) {
		var v []byte
		for _, n := range all {
			v = binary.AppendUvarint(v, n)
		}
		field(tag, v)
	}
	text(metaPeer, m.Peer)
	text(metaAPI, m.API)
	text(metaHostname, m.Hostname)
	numbers(metaProtocol, uint64(max(m.ProtocolMin, 0)), uint64(max(m.ProtocolMax, 0)))
	if m.Capabilities != 0 {
		numbers(metaCapabilities, m.Capabilities)
	}
	numbers(metaCPUs, milli(m.CPUs), milli(m.Headroom), milli(m.Allocated))
	numbers(metaJobs, uint64(max(m.Jobs, 0)))
	if m.Class != [8]byte{} {
		field(metaClass, m.Class[:])
	}
	var flags uint64
	for bit, on := range map[uint64]bool{metaDraining: m.Draining, metaHeld: m.Held, metaCheckpoints: m.Checkpoints, metaLeaving: m.Leaving, metaFresh: m.Fresh} {
		if on {
			flags |= bit
		}
	}
	numbers(metaFlags, flags)
	text(metaVersion, m.Version)
	if m.HasRoom {
		numbers(metaRoom, milli(m.Sold), milli(m.Need))
	}
	b = append(b, m.unknown...)
	if len(b) > memberlist.MetaMaxSize {
		return nil, fmt.Errorf("encode node meta: %d bytes, more than the %d that travel: shorten the addresses", len(b), memberlist.MetaMaxSize)
	}
	if _, err := decodeMeta(b); err != nil {
		return nil, fmt.Errorf("encode node meta: %w", err)
	}
	return b, nil
}

func milli(cpus float64) uint64 {
	if !(cpus > 0) {
		return 0
	}
	return uint64(math.Round(min(cpus, maxCPUs) * 1000))
}

// decodeMeta reads what a node tells of itself.
func decodeMeta(b []byte) (Meta, error) {
	if len(b) > memberlist.MetaMaxSize {
		return Meta{}, malformed("node meta of %d bytes", len(b))
	}
	r := &reader{b: b}
	if f := r.byte(); r.err == nil && f != metaFormat {
		r.fail("node meta in format %d", f)
	}
	var m Meta
	last := uint64(0)
	for r.err == nil && len(r.b) > 0 {
		whole := r.b
		tag := r.uvarint(math.MaxInt32)
		v := &reader{b: r.bytes(memberlist.MetaMaxSize)}
		if tag <= last {
			r.fail("has field %d after %d", tag, last)
			break
		}
		last = tag
		if r.err == nil && !m.read(tag, v) {
			m.unknown = append(m.unknown, whole[:len(whole)-len(r.b)]...)
		} else if err := v.done(); err != nil && r.err == nil {
			r.fail("has field %d that is wrong: %v", tag, err)
		}
	}
	if err := r.done(); err != nil {
		return Meta{}, err
	}
	return m, nil
}

// read takes in one field; it says whether it is one that this version knows.
func (m *Meta) read(tag uint64, r *reader) bool {
	text := func() string {
		s := string(r.b)
		if !printable(s) {
			r.fail("has text that cannot be printed")
		}
		r.b = nil
		return s
	}
	cpus := func() float64 { return float64(r.uvarint(maxCPUs*1000)) / 1000 }
	switch tag {
	case metaPeer:
		m.Peer = text()
	case metaAPI:
		m.API = text()
	case metaHostname:
		m.Hostname = text()
	case metaProtocol:
		m.ProtocolMin, m.ProtocolMax = int(r.uvarint(math.MaxInt32)), int(r.uvarint(math.MaxInt32))
	case metaCapabilities:
		m.Capabilities = r.uvarint(math.MaxUint64)
	case metaCPUs:
		m.CPUs, m.Headroom, m.Allocated = cpus(), cpus(), cpus()
	case metaJobs:
		m.Jobs = int(r.uvarint(math.MaxInt32))
	case metaClass:
		copy(m.Class[:], r.fixed(len(m.Class)))
	case metaFlags:
		flags := r.uvarint(math.MaxUint64)
		m.Draining, m.Held = flags&metaDraining != 0, flags&metaHeld != 0
		m.Checkpoints, m.Leaving = flags&metaCheckpoints != 0, flags&metaLeaving != 0
		m.Fresh = flags&metaFresh != 0
	case metaVersion:
		m.Version = text()
	case metaRoom:
		m.HasRoom, m.Sold, m.Need = true, cpus(), cpus()
	default:
		return false
	}
	return true
}
