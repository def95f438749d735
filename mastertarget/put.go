package mastertarget

import (
	"bytes"
	"context"
	"errors"
	"io"
	"time"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/delta"
)

// received is a delta on its way in.
type received struct {
	item   homeward.ItemID
	header delta.Header
	head   bytes.Buffer // what was read of the body to learn the header
	rest   io.Reader

	// Set by takeIn.
	body     []byte // all of it, in a slab
	trailer  delta.Trailer
	position homeward.Position
}

// receive reads the header of a delta.
func receive(id homeward.ItemID, body io.Reader) (*received, error) {
	r := &received{item: id, rest: body}
	d, err := delta.NewDecoder(io.TeeReader(io.LimitReader(body, homeward.MaxDelta), &r.head), delta.Limits{MaxStored: homeward.MaxDelta})
	if err != nil {
		return nil, err
	}
	r.header = d.Header()
	switch {
	case r.header.Kind != delta.Forward:
		err = homeward.Errorf("apply delta", homeward.Invalid, "kind", "send forward deltas", "an %v delta", r.header.Kind)
	case r.header.Item != id:
		err = homeward.Errorf("apply delta", homeward.Invalid, "item", "send it to the item it is of", "a delta of %s sent to %s", r.header.Item, id)
	}
	return r, err
}

// takeIn reads the rest into slab and verifies all of it: CRCs, contents, chain. Nothing
// is touched before a delta is known to be whole.
func (r *received) takeIn(slab []byte) error {
	all := io.MultiReader(&r.head, r.rest)
	n, err := io.ReadFull(all, slab)
	switch {
	case err == nil:
		return homeward.Errorf("receive delta", homeward.Invalid, "item "+string(r.item),
			"send the changes as several deltas, all but the last closed by mark none", "it is larger than %d bytes", homeward.MaxDelta)
	case errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF):
		r.body = slab[:n]
	case homeward.KindOf(err) != homeward.Internal:
		return homeward.Wrap(err, "receive delta", "item "+string(r.item))
	default:
		return homeward.Errorf("receive delta", homeward.Unavailable, "item "+string(r.item), "send it again", "the sender broke off: %w", err)
	}
	t, err := r.each(func(*delta.Frame, []byte) error { return nil })
	if err != nil {
		return err
	}
	r.trailer = t
	r.position = r.header.Position(r.trailer)
	return nil
}

// each walks the frames with their plain bytes, checked.
func (r *received) each(do func(f *delta.Frame, plain []byte) error) (delta.Trailer, error) {
	d, err := delta.NewDecoder(bytes.NewReader(r.body), delta.Limits{MaxStored: homeward.MaxDelta})
	if err != nil {
		return delta.Trailer{}, err
	}
	var buf []byte
	for {
		f, err := d.Next()
		if errors.Is(err, io.EOF) {
			return d.Trailer(), nil
		}
		if err != nil {
			return delta.Trailer{}, err
		}
		plain, err := f.Plain(buf)
		if err != nil {
			return delta.Trailer{}, err
		}
		if f.Codec != delta.None {
			buf = plain
		}
		if err := do(f, plain); err != nil {
			return delta.Trailer{}, err
		}
	}
}

// follows reports whether a delta continues from a position. A new generation may
// begin where the old one stood, or at the base that both ends derive from it.
func follows(h delta.Header, p homeward.Position) bool {
	return h.Follows == p || h.Follows == p.Base(h.To.Generation)
}

// admission is what becomes of a delta as things stand.
type admission int

const (
	admitNow   admission = iota
	admitLater           // its predecessor is not here yet
	admitKnown           // it may be one that was applied before
)

// intake takes the deltas of an item.
type intake struct{ *item }

// admit decides by the header alone.
func (it intake) admit(h delta.Header, st state) (admission, error) {
	const op = "apply delta"
	if err := it.fence.check(op, h.To.Generation); err != nil {
		return 0, err
	}
	conflict := func(fix, format string, args ...any) error {
		return homeward.Errorf(op, homeward.Conflict, it.subject(), fix, format+": %w", append(args, &homeward.PositionError{True: st.tip.Position})...)
	}
	switch {
	case st.fault != nil:
		return 0, st.fault
	case st.replica == nil:
		_, err := it.open(op)
		return 0, err
	case st.State != homeward.ReplicaReplicating:
		return 0, conflict("begin a new leg with Prepare", "the replica is %s and takes no deltas", st.State)
	case it.fence.generation() != h.To.Generation:
		return 0, conflict("prepare this side for generation %d first", "generation %d is not known here", h.To.Generation.Number)
	case follows(h, st.tip.Position):
		return admitNow, it.sameDisks(h, st)
	}
	if it.knows(h.To, st) {
		return admitKnown, nil
	}
	if h.Follows.Generation == st.tip.Position.Generation && h.Follows.Sequence > st.tip.Position.Sequence {
		return admitLater, nil
	}
	return 0, conflict("cut again from the true position", "the delta follows %v", h.Follows)
}

// sameDisks refuses a delta of other disks than the leg was prepared for.
func (it intake) sameDisks(h delta.Header, st state) error {
	disks := st.Leg.Machine.Disks
	same := len(h.Disks) == len(disks)
	for i := 0; same && i < len(disks); i++ {
		same = h.Disks[i].ID == disks[i].ID && h.Disks[i].Size == disks[i].Size
	}
	if same {
		return nil
	}
	return homeward.Errorf("apply delta", homeward.Invalid, it.subject(),
		"when a disk has grown: grow the replica's disk, then prepare the item again under a new generation; shrinking is not possible",
		"the delta is of other disks, or of other sizes, than the leg")
}

// knows reports whether a position, its checksum aside where it is zero, is one
// the replica came through.
func (it intake) knows(p homeward.Position, st state) bool {
	same := func(q homeward.Position) bool {
		return p.Generation == q.Generation && p.Sequence == q.Sequence && p.Cut == q.Cut &&
			(p.Checksum.IsZero() || p.Checksum == q.Checksum)
	}
	if same(st.tip.Position) {
		return true
	}
	for _, q := range st.tip.Recent {
		if same(q) {
			return true
		}
	}
	for _, s := range st.replica.chain.Segments() {
		if s.Older < st.tip.Boundary && same(s.Position) {
			return true
		}
	}
	return false
}

// await waits for the predecessor of a delta, as long as Config.Patience.
func (it intake) await(ctx context.Context, h delta.Header) (admission, error) {
	timeout := time.NewTimer(it.Patience)
	defer timeout.Stop()
	for {
		st := it.state()
		a, err := it.admit(h, st)
		if err != nil || a != admitLater {
			return a, err
		}
		select {
		case <-st.changed:
		case <-ctx.Done():
			return 0, homeward.Errorf("apply delta", homeward.KindOf(ctx.Err()), it.subject(), "send it again", "its predecessor did not come: %w", ctx.Err())
		case <-timeout.C:
			return 0, homeward.Errorf("apply delta", homeward.Conflict, it.subject(), "send the delta before it first",
				"its predecessor did not come within %v: %w", it.Patience, &homeward.PositionError{True: st.tip.Position})
		}
	}
}

// put is Target.Put for an item.
func (it intake) put(ctx context.Context, body io.Reader) (homeward.Ack, error) {
	r, err := receive(it.id, body)
	if err != nil {
		return homeward.Ack{}, err
	}
	if _, err := it.await(ctx, r.header); err != nil {
		return homeward.Ack{}, err
	}
	slab, err := it.slabs.take(ctx)
	if err != nil {
		return homeward.Ack{}, err
	}
	defer it.slabs.give(slab)
	if err := r.takeIn(slab); err != nil {
		return homeward.Ack{}, err
	}
	ack := homeward.Ack{Position: r.position, Applied: true}
	if err := it.take(ctx, "apply delta"); err != nil {
		return homeward.Ack{}, err
	}
	defer it.give()
	st := it.state()
	a, err := it.admit(r.header, st)
	switch {
	case err != nil:
		return homeward.Ack{}, err
	case a == admitNow:
		return ack, it.apply(ctx, r, st)
	case a == admitKnown && it.knows(r.position, st):
		return ack, nil
	}
	return homeward.Ack{}, homeward.Errorf("apply delta", homeward.Conflict, it.subject(), "cut again from the true position",
		"another delta of the same sequence was applied: %w", &homeward.PositionError{True: st.tip.Position})
}
