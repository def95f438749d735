package block

import (
	"iter"

	"github.com/homeward-dr/homeward"
)

// readOnly refuses to change the disk it stands before.
type readOnly struct{ disk *raw }

func (r readOnly) refuse(op string) error {
	return homeward.Errorf(op, homeward.Forbidden, r.disk.name, "open it for writing", "it is open read-only")
}

func (r readOnly) ReadAt(p []byte, off int64) (int, error)       { return r.disk.ReadAt(p, off) }
func (r readOnly) WriteAt([]byte, int64) (int, error)            { return 0, r.refuse("write disk") }
func (r readOnly) Zero(int64, int64, bool) error                 { return r.refuse("zero disk") }
func (r readOnly) Flush() error                                  { return nil }
func (r readOnly) Size() int64                                   { return r.disk.Size() }
func (r readOnly) Close() error                                  { return r.disk.Close() }
func (r readOnly) Resized() error                                { return r.disk.Resized() }
func (r readOnly) Extents(off, n int64) iter.Seq2[Extent, error] { return r.disk.Extents(off, n) }
