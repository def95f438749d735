package delta

import (
	"bytes"
	"flag"
	"os"
	"testing"
	"time"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/block"
)

var update = flag.Bool("update", false, "write the golden files anew: only for a new version of the format")

const goldenChecksum = "3a35c1489d71ad290cb913b0cf5d2a00e0150c8d361f881d330443d9a4b8140d"

// golden is what the files of version 1 hold: a short disk end, zero blocks, two
// disks, and a mark with all its fields.
func golden(t *testing.T) (plain []byte, disks [][]byte) {
	h := header(41, 20*block.Size+1536, 6*block.Size)
	h.Machine.NICs = []homeward.NIC{{MAC: "52:54:00:12:34:56", Network: "lan", Address: "192.0.2.7"}}
	h.Machine.NVRAM = []byte{1, 2, 3}
	mark := homeward.Mark{Kind: homeward.MarkGroup, At: time.Date(2026, 11, 20, 9, 8, 7, 6, time.UTC), Group: homeward.ID{9, 8, 7}, Label: "golden"}
	disks = [][]byte{make([]byte, h.Disks[0].Size), make([]byte, h.Disks[1].Size)}
	copy(disks[0][2*block.Size:], text(5*block.Size))
	copy(disks[0][19*block.Size:], text(block.Size+1536))
	copy(disks[1], text(block.Size))
	return encode(t, h, EncoderOptions{FrameBlocks: 4}, mark,
		change{start: 1, data: disks[0][block.Size : 9*block.Size]},
		change{start: 19, data: disks[0][19*block.Size:]},
		change{disk: 1, data: disks[1][:block.Size]}, change{disk: 1, start: 4, zero: 2}), disks
}

// A delta written by the first release of version 1 is read, and written alike.
func TestGolden(t *testing.T) {
	plain, disks := golden(t)
	n := 0
	var packed bytes.Buffer
	if _, _, err := Recode(&packed, bytes.NewReader(plain), func(*Frame) Codec { n++; return Codec(1 + n%2) }); err != nil {
		t.Fatal(err)
	}
	if *update {
		for name, b := range map[string][]byte{"testdata/v1-plain.delta": plain, "testdata/v1-packed.delta": packed.Bytes()} {
			if err := os.WriteFile(name, b, 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	if kept := must(os.ReadFile("testdata/v1-plain.delta"))(t); !bytes.Equal(kept, plain) {
		t.Error("today's encoder writes other bytes for version 1")
	}
	for _, name := range []string{"testdata/v1-plain.delta", "testdata/v1-packed.delta"} {
		b := must(os.ReadFile(name))(t)
		h, tr, err := Verify(bytes.NewReader(b))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if tr.Checksum.String() != goldenChecksum || h.Position(tr).Sequence != 42 || h.Machine.NICs[0].Address != "192.0.2.7" || tr.Mark.Label != "golden" {
			t.Errorf("%s: %+v %+v", name, h, tr)
		}
		streamed := [][]byte{make([]byte, len(disks[0])), make([]byte, len(disks[1]))}
		apply(t, b, streamed)
		read := [][]byte{make([]byte, len(disks[0])), make([]byte, len(disks[1]))}
		if err := applyReader(open(t, b), read); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		for _, got := range [][][]byte{streamed, read} {
			if err := same(got, disks); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
}
