// Package records is what the guests of a local site write: 4 KiB records that
// prove themselves, each made durable before it is announced on the console. Who
// holds the console and a recovered disk can tell exactly what was lost.
//
// Layout of a record, little endian: magic 8, number 8, time 8 (Unix
// nanoseconds), SHA-256 of everything else 32, body (a fixed sequence that
// follows from the number, so that it does not compress).
package records

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Size of a record in bytes.
const Size = 4096

var magic = []byte("HWRECRD1")

// Encode writes record number seq into buf, which has Size bytes.
func Encode(buf []byte, seq uint64, at time.Time) {
	copy(buf, magic)
	binary.LittleEndian.PutUint64(buf[8:], seq)
	binary.LittleEndian.PutUint64(buf[16:], uint64(at.UnixNano()))
	x := seq*0x9E3779B97F4A7C15 | 1
	for i := 56; i < Size; i += 8 {
		x ^= x << 13
		x ^= x >> 7
		x ^= x << 17
		binary.LittleEndian.PutUint64(buf[i:], x)
	}
	sum := digest(buf)
	copy(buf[24:], sum[:])
}

// Decode tells the number of a whole record.
func Decode(buf []byte) (seq uint64, at time.Time, ok bool) {
	if len(buf) < Size || !bytes.Equal(buf[:8], magic) {
		return 0, at, false
	}
	if sum := digest(buf); !bytes.Equal(sum[:], buf[24:56]) {
		return 0, at, false
	}
	return binary.LittleEndian.Uint64(buf[8:]), time.Unix(0, int64(binary.LittleEndian.Uint64(buf[16:]))), true
}

func digest(buf []byte) [32]byte {
	h := sha256.New()
	h.Write(buf[:24])
	h.Write(buf[56:Size])
	return [32]byte(h.Sum(nil))
}

// Found is what a guest finds on its disks when it starts.
type Found struct {
	Last uint64 // newest record of the unbroken run; 0: none
	Bad  int    // records missing or damaged below Last, or dependent records without their cause
}

// Console lines. A guest prints Ready once it writes, one Ack per durable record,
// one Verify at its start, and Stopped when it ended on purpose.
const (
	Ready   = "GUEST-READY"
	Stopped = "GUEST-STOPPED"
)

// Ack is the line for a durable record.
func Ack(seq uint64) string { return "ACK " + strconv.FormatUint(seq, 10) }

// ParseAck reads it.
func ParseAck(line string) (uint64, bool) {
	rest, ok := strings.CutPrefix(strings.TrimSpace(line), "ACK ")
	if !ok {
		return 0, false
	}
	n, err := strconv.ParseUint(rest, 10, 64)
	return n, err == nil
}

// Verify is the line for what was found.
func (f Found) Verify() string { return fmt.Sprintf("GUEST-VERIFY last=%d bad=%d", f.Last, f.Bad) }

// ParseVerify reads it.
func ParseVerify(line string) (f Found, ok bool) {
	i := strings.Index(line, "GUEST-VERIFY ")
	if i < 0 {
		return f, false
	}
	_, err := fmt.Sscanf(line[i:], "GUEST-VERIFY last=%d bad=%d", &f.Last, &f.Bad)
	return f, err == nil
}
