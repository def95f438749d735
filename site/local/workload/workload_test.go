package workload

import (
	"bytes"
	"context"
	"strings"
	"testing"
	"time"

	"github.com/homeward-dr/homeward/block"
	"github.com/homeward-dr/homeward/site/local/records"
)

// A machine that died between a record and its dependent one must not leave a
// hole below the records it writes later.
func TestDependentRecordInFlightIsWrittenAgain(t *testing.T) {
	disks := []block.Disk{block.NewMemory(1 << 20), block.NewMemory(1 << 20)}
	s, err := open(disks)
	if err != nil {
		t.Fatal(err)
	}
	for seq := uint64(1); seq <= 3; seq++ {
		if err := s.append(seq); err != nil {
			t.Fatal(err)
		}
	}
	records.Encode(s.buf, 4, time.Now())
	if _, err := disks[0].WriteAt(s.buf, s.offset(4)); err != nil { // and here it died
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	out := &lines{until: records.Ack(6), then: cancel}
	if err := Run(ctx, Options{Disks: disks, Console: out, Gap: time.Microsecond}); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(out.String(), (records.Found{Last: 4}).Verify()) {
		t.Errorf("console says %q", out)
	}
	found, err := Verify(disks)
	if err != nil || found.Bad != 0 || found.Last < 6 {
		t.Errorf("found %+v, %v", found, err)
	}
}

// lines calls then when a line was written.
type lines struct {
	bytes.Buffer
	until string
	then  func()
}

func (l *lines) Write(p []byte) (int, error) {
	if strings.TrimSpace(string(p)) == l.until {
		l.then()
	}
	return l.Buffer.Write(p)
}
