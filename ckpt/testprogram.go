package ckpt

import (
	"encoding/binary"
	"fmt"
	"runtime"
)

// testPrograms are two static programs for this architecture: one that waits for ever, and one that listens on an IP socket first.
func testPrograms() (idle, listen []byte, err error) {
	var wait, sock []byte
	var machine uint16
	switch runtime.GOARCH {
	case "amd64":
		machine = 62
		wait = []byte{
			0xb8, 0x22, 0, 0, 0, // mov eax, pause
			0x0f, 0x05, // syscall
			0xeb, 0xf7, // jmp to the first
		}
		sock = []byte{
			0xb8, 41, 0, 0, 0, 0xbf, 2, 0, 0, 0, 0xbe, 1, 0, 0, 0, 0x31, 0xd2, 0x0f, 0x05, // socket(AF_INET, SOCK_STREAM, 0)
			0x89, 0xc7, 0xbe, 1, 0, 0, 0, 0xb8, 50, 0, 0, 0, 0x0f, 0x05, // listen(it, 1)
		}
	case "arm64":
		machine = 183
		word := func(list ...uint32) (b []byte) {
			for _, w := range list {
				b = binary.LittleEndian.AppendUint32(b, w)
			}
			return b
		}
		// ppoll(0, 0, 0, 0)
		wait = word(0xd2800000, 0xd2800001, 0xd2800002, 0xd2800003, 0xd2800928, 0xd4000001, 0x17fffffa)
		sock = word(0xd2800040, 0xd2800021, 0xd2800002, 0xd28018c8, 0xd4000001, 0xd2800021, 0xd2801928, 0xd4000001)
	default:
		return nil, nil, fmt.Errorf("no program for a self-test on %s: name the driver in checkpoint.driver", runtime.GOARCH)
	}
	return elf(machine, wait), elf(machine, append(sock, wait...)), nil
}

// elf makes a static executable of position-independent code (ELF-64, little endian): a header, one segment, the code.
func elf(machine uint16, code []byte) []byte {
	const head, segment, base = 64, 56, 0x400000
	le := binary.LittleEndian
	b := []byte{0x7f, 'E', 'L', 'F', 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0}
	b = le.AppendUint16(b, 2) // executable
	b = le.AppendUint16(b, machine)
	b = le.AppendUint32(b, 1)
	b = le.AppendUint64(b, base+head+segment) // entry
	b = le.AppendUint64(b, head)              // program headers
	b = le.AppendUint64(b, 0)
	b = le.AppendUint32(b, 0)
	for _, n := range []uint16{head, segment, 1, 0, 0, 0} {
		b = le.AppendUint16(b, n)
	}
	b = le.AppendUint32(b, 1) // load
	b = le.AppendUint32(b, 5) // read, execute
	size := uint64(head + segment + len(code))
	for _, n := range []uint64{0, base, base, size, size, 0x10000} {
		b = le.AppendUint64(b, n)
	}
	return append(b, code...)
}
