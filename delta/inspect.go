package delta

import (
	"encoding/json"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/homeward-dr/homeward"
)

// Report is what Inspect tells; its JSON form is for scripts.
type Report struct {
	FormatVersion int               `json:"format_version"`
	Size          int64             `json:"size"` // bytes of the file
	Header        Header            `json:"header"`
	Position      homeward.Position `json:"position"` // where a copy stands after it
	Disks         []DiskReport      `json:"disks"`    // in the order of Header.Disks
	Codecs        map[string]int64  `json:"codecs"`   // data frames by codec
	IndexLevels   int               `json:"index_levels"`
	Trailer       Trailer           `json:"trailer"`
}

// DiskReport sums up the frames of one disk.
type DiskReport struct {
	ID          homeward.DiskID `json:"id"`
	Size        int64           `json:"size"`
	Blocks      int64           `json:"blocks"`
	ZeroBlocks  int64           `json:"zero_blocks"`
	Frames      int64           `json:"frames"`
	Runs        int64           `json:"runs"`
	PlainBytes  int64           `json:"plain_bytes"`
	StoredBytes int64           `json:"stored_bytes"`
}

// Inspect writes what the delta of size bytes in r is about, as a table for
// people or as JSON (a Report). It reads header, trailer, index and the head of
// every frame, each CRC checked, but no content: Verify does.
func Inspect(w io.Writer, r io.ReaderAt, size int64, asJSON bool) error {
	rd, err := Open(r, size)
	if err != nil {
		return err
	}
	rep, err := rd.report()
	if err != nil {
		return err
	}
	if asJSON {
		e := json.NewEncoder(w)
		e.SetIndent("", "  ")
		return mediumError(e.Encode(rep), "inspect delta", "")
	}
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	rep.print(tw)
	return mediumError(tw.Flush(), "inspect delta", "")
}

func (r *Reader) report() (*Report, error) {
	rep := &Report{FormatVersion: version, Size: r.foot.size, Header: r.header, Position: r.Position(),
		Codecs: map[string]int64{}, IndexLevels: r.foot.height, Trailer: r.foot.Trailer}
	for _, d := range r.header.Disks {
		rep.Disks = append(rep.Disks, DiskReport{ID: d.ID, Size: d.Size})
	}
	s := r.pool.Get().(*scratch)
	defer r.pool.Put(s)
	err := r.walk(s, key{}, key{len(r.header.Disks), 0}, func(f *Frame) error {
		d, n := &rep.Disks[f.Disk], f.Blocks()
		d.Frames++
		d.Runs += int64(len(f.Runs))
		d.Blocks += n
		if f.Zero {
			d.ZeroBlocks += n
			return nil
		}
		d.PlainBytes += int64(f.plainLen)
		d.StoredBytes += int64(f.storedLen)
		rep.Codecs[f.Codec.String()]++
		return nil
	})
	return rep, err
}

// print writes the table; the tabwriter keeps the first error for Flush.
func (rep *Report) print(w *tabwriter.Writer) {
	row := func(cells ...any) {
		for i, c := range cells {
			if i > 0 {
				fmt.Fprint(w, "\t")
			}
			fmt.Fprint(w, c)
		}
		fmt.Fprintln(w)
	}
	h, t := rep.Header, rep.Trailer
	row("delta", fmt.Sprintf("%v, format %d, %d bytes", h.Kind, rep.FormatVersion, rep.Size))
	row("item", h.Item)
	row("follows", h.Follows)
	row("leads to", rep.Position)
	row("mark", fmt.Sprintf("%s at %s %s", t.Mark.Kind, t.Mark.At.Format(time.RFC3339Nano), t.Mark.Label))
	if !t.Mark.Group.IsZero() {
		row("group", t.Mark.Group)
	}
	row("checksum", t.Checksum)
	if m := h.Machine; m == nil {
		row("machine", "not in this delta")
	} else {
		row("machine", fmt.Sprintf("%s: %d CPUs, %d MiB, %s, %s %s", m.Name, m.CPUs, m.MemoryMiB, m.Firmware, m.OSFamily, m.OSVersion))
		for _, n := range m.NICs {
			row("nic", fmt.Sprintf("%s %s %s", n.MAC, n.Network, n.Address))
		}
	}
	row("holds", fmt.Sprintf("%d blocks, %d of them zero, in %d frames; %d plain bytes stored in %d", t.Blocks, t.ZeroBlocks, t.Frames, t.PlainBytes, t.StoredBytes))
	for c := None; c <= Zstd; c++ {
		if n := rep.Codecs[c.String()]; n > 0 {
			row("codec", fmt.Sprintf("%v: %d frames", c, n))
		}
	}
	row("index", fmt.Sprintf("%d levels", rep.IndexLevels))
	_ = w.Flush() // its error comes again
	row()
	row("DISK", "ID", "SIZE", "BLOCKS", "ZERO", "FRAMES", "RUNS", "PLAIN", "STORED")
	for i, d := range rep.Disks {
		row(i, d.ID, d.Size, d.Blocks, d.ZeroBlocks, d.Frames, d.Runs, d.PlainBytes, d.StoredBytes)
	}
}
