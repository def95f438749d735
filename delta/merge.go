package delta

import (
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/block"
)

// Merge writes one delta that does what the inputs do one after the other. The
// inputs are given in the order in which they would be applied: forward deltas
// oldest first, undo deltas newest first. Each must follow the position the one
// before leads to. Of a block that several hold, the input given last wins: for
// forward deltas that is the newer content, for undo deltas the older.
//
// The result follows what the first follows and leads to where the last leads,
// with the last one's machine and mark; its header states To whole, for the chain
// of the inputs cannot be had from the merged content. Inputs may differ in
// disks only by growth: more disks at the end, larger ones; what a short last
// block lacks in the larger disk is zero.
//
// Inputs are read in one pass and checked whole, but for the content of blocks
// that others hide. Memory: two frames for each input, whatever their sizes; time
// per run grows with the number of inputs. When an error is returned, w holds a
// part that no reader takes for a delta.
//
// Errors: Conflict with a *homeward.PositionError (where the inputs before stand)
// when one does not follow; Invalid when items, kinds or disks do not match.
func Merge(w io.Writer, inputs []*Reader, o EncoderOptions) (Header, Trailer, error) {
	h, err := mergedHeader(inputs)
	if err != nil {
		return Header{}, Trailer{}, err
	}
	e, err := NewEncoder(w, h, o)
	if err != nil {
		return Header{}, Trailer{}, err
	}
	m := merger{out: e}
	for _, r := range inputs {
		d, err := r.Decoder()
		if err != nil {
			return h, Trailer{}, err
		}
		c := &cursor{d: d}
		if err := c.nextFrame(); err != nil {
			return h, Trailer{}, err
		}
		m.cursors = append(m.cursors, c)
	}
	for {
		more, err := m.step()
		if err != nil {
			return h, Trailer{}, err
		}
		if !more {
			break
		}
	}
	t, err := e.Close(inputs[len(inputs)-1].Trailer().Mark)
	return h, t, err
}

func mergedHeader(inputs []*Reader) (Header, error) {
	if len(inputs) == 0 {
		return Header{}, homeward.Errorf("merge deltas", homeward.Invalid, "inputs", "give at least one", "none given")
	}
	h := inputs[0].Header()
	for i, r := range inputs[1:] {
		next, at := r.Header(), inputs[i].Position()
		bad := func(fix, format string, args ...any) error {
			return homeward.Errorf("merge deltas", homeward.Invalid, fmt.Sprintf("input %d", i+1), fix, format, args...)
		}
		if next.Item != h.Item || next.Kind != h.Kind {
			return h, bad("merge deltas of one item and kind", "%v of %s after %v of %s", next.Kind, next.Item, h.Kind, h.Item)
		}
		if next.Follows != at {
			return h, homeward.Errorf("merge deltas", homeward.Conflict, fmt.Sprintf("input %d", i+1),
				"give all deltas between the two positions, in order", "it follows %v: %w", next.Follows, &homeward.PositionError{True: at})
		}
		disks, ok := unite(h.Disks, next.Disks)
		if !ok {
			return h, bad("merge deltas of the same disks", "its disks are not those of the inputs before")
		}
		h.Disks = disks
	}
	last := inputs[len(inputs)-1]
	h.To, h.Machine = last.Position(), last.Header().Machine
	return h, nil
}

// unite is the list that both are the beginning of, sizes aside, each disk as
// large as in the list where it is larger.
func unite(a, b []DiskInfo) ([]DiskInfo, bool) {
	if len(a) < len(b) {
		a, b = b, a
	}
	a = slices.Clone(a)
	for i, d := range b {
		if a[i].ID != d.ID {
			return nil, false
		}
		a[i].Size = max(a[i].Size, d.Size)
	}
	return a, true
}

// cursor stands at a block in an input.
type cursor struct {
	d     *Decoder
	f     *Frame // nil: at the end
	run   int
	skip  int64 // blocks of the run that are done
	buf   []byte
	plain []byte // of f, once asked for
}

func (c *cursor) nextFrame() error {
	f, err := c.d.Next()
	if errors.Is(err, io.EOF) {
		c.f = nil
		return nil
	}
	c.f, c.run, c.skip, c.plain = f, 0, 0, nil
	return err
}

// here is the next block; rest is how many follow each other from it, itself included.
func (c *cursor) here() (k key, rest int64) {
	r := c.f.Runs[c.run]
	return key{c.f.Disk, r.Start + c.skip}, r.Count - c.skip
}

// pass moves beyond every block before k.
func (c *cursor) pass(k key) error {
	for c.f != nil {
		at, rest := c.here()
		if !at.less(k) {
			return nil
		}
		if at.disk == k.disk && k.block-at.block < rest {
			c.skip += k.block - at.block
			return nil
		}
		c.skip = 0
		if c.run++; c.run == len(c.f.Runs) {
			if err := c.nextFrame(); err != nil {
				return err
			}
		}
	}
	return nil
}

// content is n blocks from where the cursor stands.
func (c *cursor) content(n int64) ([]byte, error) {
	if c.plain == nil {
		p, err := c.f.Plain(c.buf)
		if err != nil {
			return nil, err
		}
		if c.f.Codec != None {
			c.buf = p
		}
		c.plain = p
	}
	at, _ := c.here()
	from := c.f.offset(at.block)
	return c.plain[from:min(from+n*block.Size, int64(len(c.plain)))], nil
}

// merger steps through all cursors in block order.
type merger struct {
	out     *Encoder
	cursors []*cursor
	pad     [block.Size]byte
}

// step writes one stretch of adjacent blocks from the one input that wins there.
func (m *merger) step() (more bool, err error) {
	var win *cursor
	var at key
	for _, c := range m.cursors { // among equals the last one wins
		if c.f == nil {
			continue
		}
		if k, _ := c.here(); win == nil || !at.less(k) {
			win, at = c, k
		}
	}
	if win == nil {
		return false, nil
	}
	_, n := win.here()
	for i := len(m.cursors) - 1; m.cursors[i] != win; i-- { // later inputs cut it short
		if c := m.cursors[i]; c.f != nil {
			if k, _ := c.here(); k.disk == at.disk {
				n = min(n, k.block-at.block)
			}
		}
	}
	if err := m.write(win, at, n); err != nil {
		return false, err
	}
	end := key{at.disk, at.block + n}
	for _, c := range m.cursors {
		if err := c.pass(end); err != nil {
			return false, err
		}
	}
	return true, nil
}

func (m *merger) write(c *cursor, at key, n int64) error {
	if c.f.Zero {
		return m.out.AddZero(at.disk, at.block, n)
	}
	p, err := c.content(n)
	if err != nil {
		return err
	}
	size := m.out.out.sums.header.Disks[at.disk].Size
	whole := len(p) / block.Size * block.Size
	if short := p[whole:]; len(short) > 0 && at.block*block.Size+int64(len(p)) < size {
		return m.writeGrown(at, p[:whole], short, size)
	}
	return m.out.Add(at.disk, at.block, p)
}

// writeGrown writes blocks whose last one was a smaller disk's short end.
func (m *merger) writeGrown(at key, whole, short []byte, size int64) error {
	if len(whole) > 0 {
		if err := m.out.Add(at.disk, at.block, whole); err != nil {
			return err
		}
	}
	last := at.block + int64(len(whole)/block.Size)
	n := min(size-last*block.Size, block.Size)
	clear(m.pad[copy(m.pad[:], short):])
	return m.out.Add(at.disk, last, m.pad[:n])
}
