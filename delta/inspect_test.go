package delta

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"github.com/homeward-dr/homeward"
)

func TestInspect(t *testing.T) {
	for shape, b := range shapes(t) {
		var table, js bytes.Buffer
		if err := Inspect(&table, bytes.NewReader(b), int64(len(b)), false); err != nil {
			t.Fatalf("%s: %v", shape, err)
		}
		if err := Inspect(&js, bytes.NewReader(b), int64(len(b)), true); err != nil {
			t.Fatalf("%s: %v", shape, err)
		}
		r := open(t, b)
		for _, want := range []string{"web01", r.Position().String(), r.Trailer().Checksum.String(), string(r.Trailer().Mark.Kind), "disk-0"} {
			if !strings.Contains(table.String(), want) || !strings.Contains(js.String(), want) {
				t.Errorf("%s: %q is missing in\n%s\n%s", shape, want, &table, &js)
			}
		}
		var rep struct {
			Disks   []DiskReport `json:"disks"`
			Trailer Trailer      `json:"trailer"`
		}
		if err := json.Unmarshal(js.Bytes(), &rep); err != nil {
			t.Fatal(err)
		}
		var sum DiskReport
		for _, d := range rep.Disks {
			sum.Blocks += d.Blocks
			sum.ZeroBlocks += d.ZeroBlocks
			sum.StoredBytes += d.StoredBytes
		}
		if tr := rep.Trailer; tr != r.Trailer() || sum.Blocks != tr.Blocks || sum.ZeroBlocks != tr.ZeroBlocks || sum.StoredBytes != tr.StoredBytes {
			t.Errorf("%s: disks sum up to %+v, the trailer says %+v", shape, sum, tr)
		}
	}
	if err := Inspect(&bytes.Buffer{}, strings.NewReader("hello"), 5, true); homeward.KindOf(err) != homeward.Corrupt {
		t.Errorf("of no delta: %v", err)
	}
}
