package history

import (
	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/block"
)

// Segment is one undo delta of a chain. Its fields never change.
type Segment struct {
	Span
	Follows  homeward.Position // of the newer boundary
	Position homeward.Position // of the older boundary
	Mark     homeward.Mark     // of the older boundary
	Bytes    int64             // of the file

	path  string
	files *Files

	// Guarded by the chain's mutex.
	users   int
	retired bool
}

// Path is the file.
func (s *Segment) Path() string { return s.path }

// ReadBlocks is delta.Reader.ReadBlocks.
func (s *Segment) ReadBlocks(disk int, start, count int64, fn func(start int64, data []byte) error) error {
	h, err := s.files.open(s.path)
	if err != nil {
		return err
	}
	defer s.files.done(h)
	return h.reader.ReadBlocks(disk, start, count, fn)
}

// Map sets in m the blocks that it holds of a disk.
func (s *Segment) Map(disk int, m *block.Map) error {
	h, err := s.files.open(s.path)
	if err != nil {
		return err
	}
	defer s.files.done(h)
	return h.reader.Map(disk, m)
}

// Machine is the machine as it was at the older boundary.
func (s *Segment) Machine() (homeward.Machine, error) {
	h, err := s.files.open(s.path)
	if err != nil {
		return homeward.Machine{}, err
	}
	defer s.files.done(h)
	if m := h.reader.Header().Machine; m != nil {
		return *m, nil
	}
	return homeward.Machine{}, homeward.Errorf("read segment", homeward.Corrupt, s.path,
		"choose another point", "it has no machine manifest")
}
