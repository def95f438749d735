package shiptest

import (
	"context"
	"errors"
	"io"
	"maps"
	"sync"
	"time"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/block"
	"github.com/homeward-dr/homeward/delta"
	"github.com/homeward-dr/homeward/ship"
)

// Twin is a master target in memory: it verifies every delta whole before it
// applies it, and keeps what the disks hold. Safe for concurrent use.
//
// The hooks may be set before first use. Gate runs before a Put does anything,
// its error is the answer: to hang, wait there for the context. Received runs
// when a delta is whole and verified, before it is applied.
type Twin struct {
	Gate     func(ctx context.Context, item homeward.ItemID) error
	Received func(homeward.Position) error
	Patience time.Duration // for a predecessor; 0: ship.Patience

	mu    sync.Mutex
	items map[homeward.ItemID]*twinItem
}

type twinItem struct {
	line      *ship.Line
	content   Content
	applied   []homeward.Position // all of them
	appliedAt time.Time
	changed   chan struct{}
}

var _ homeward.Sink = (*Twin)(nil)

// NewTwin makes a twin without items.
func NewTwin() *Twin { return &Twin{items: map[homeward.ItemID]*twinItem{}} }

// Prepare begins a leg of an item: it stands at base, under g, and its content
// is what it was. The generation must not be older than the one in force.
func (w *Twin) Prepare(item homeward.ItemID, g homeward.Generation, base homeward.Position) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	it := w.items[item]
	if it == nil {
		it = &twinItem{line: ship.NewLine(item, w.Patience), content: Content{}, changed: make(chan struct{})}
		w.items[item] = it
	}
	if err := it.line.Fence(g); err != nil {
		return err
	}
	it.line.Reset(base, true)
	it.notify()
	return nil
}

// Fence raises the generation of an item.
func (w *Twin) Fence(item homeward.ItemID, g homeward.Generation) error {
	it, err := w.item(item)
	if err != nil {
		return err
	}
	return it.line.Fence(g)
}

// Content is a copy of what the item's disks hold.
func (w *Twin) Content(item homeward.ItemID) Content {
	w.mu.Lock()
	defer w.mu.Unlock()
	if it := w.items[item]; it != nil {
		return maps.Clone(it.content)
	}
	return nil
}

// Applied are the positions of all deltas ever applied, in order.
func (w *Twin) Applied(item homeward.ItemID) []homeward.Position {
	w.mu.Lock()
	defer w.mu.Unlock()
	if it := w.items[item]; it != nil {
		return append([]homeward.Position(nil), it.applied...)
	}
	return nil
}

func (w *Twin) item(item homeward.ItemID) (*twinItem, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if it := w.items[item]; it != nil {
		return it, nil
	}
	return nil, homeward.Errorf("find item", homeward.NotFound, "item "+string(item), "prepare it first", "not known here")
}

func (it *twinItem) notify() {
	close(it.changed)
	it.changed = make(chan struct{})
}

// Put is homeward.Sink's.
func (w *Twin) Put(ctx context.Context, item homeward.ItemID, body io.Reader) (homeward.Ack, error) {
	none := homeward.Ack{}
	if w.Gate != nil {
		if err := w.Gate(ctx, item); err != nil {
			return none, err
		}
	}
	it, err := w.item(item)
	if err != nil {
		return none, err
	}
	dec, err := delta.NewDecoder(body, delta.Limits{MaxStored: homeward.MaxDelta})
	if err != nil {
		return none, err
	}
	turn, err := it.line.Enter(ctx, dec.Header())
	if err != nil {
		return none, err
	}
	if !turn.Taken.IsZero() {
		return homeward.Ack{Position: turn.Taken, Applied: true}, nil
	}
	defer turn.Done(homeward.Position{}) // when something fails on the way
	content, trailer, err := readAll(dec)
	if err != nil {
		return none, err
	}
	to := dec.Header().Position(trailer)
	if w.Received != nil {
		if err := w.Received(to); err != nil {
			return none, err
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if !turn.Done(to) {
		g, _, _ := it.line.Where()
		return none, ship.FencedBy(item, g)
	}
	maps.Copy(it.content, content)
	it.applied = append(it.applied, to)
	if trailer.Mark.Kind.Bootable() {
		it.appliedAt = trailer.Mark.At
	}
	it.notify()
	return homeward.Ack{Position: to, Applied: true}, nil
}

// readAll is the verified content of the rest of a delta.
func readAll(dec *delta.Decoder) (Content, delta.Trailer, error) {
	content := Content{}
	for {
		f, err := dec.Next()
		if errors.Is(err, io.EOF) {
			return content, dec.Trailer(), nil
		}
		if err != nil {
			return nil, delta.Trailer{}, err
		}
		plain, err := f.Plain(nil)
		if err != nil {
			return nil, delta.Trailer{}, err
		}
		for run, data := range f.Split(plain) {
			for i := range run.Count {
				var b []byte
				if !f.Zero {
					b = append(b, data[i*block.Size:min((i+1)*block.Size, int64(len(data)))]...)
				}
				content[Block{f.Disk, run.Start + i}] = b
			}
		}
	}
}

// Standing is homeward.Sink's.
func (w *Twin) Standing(ctx context.Context, req homeward.StandingRequest) (homeward.Standing, error) {
	it, err := w.item(req.Item)
	if err != nil {
		return homeward.Standing{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, min(req.Wait, time.Minute))
	defer cancel()
	for {
		w.mu.Lock()
		g, tip, _ := it.line.Where()
		st := homeward.Standing{Item: req.Item, Generation: g, Applied: tip, Known: true, Spooled: tip, AppliedAt: it.appliedAt}
		changed := it.changed
		w.mu.Unlock()
		if req.Applied.IsZero() || ship.Covers(tip, req.Applied) {
			return st, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return st, nil
		}
	}
}

// TwinSubject is w as the suite's subject, when it was prepared for leg.
func TwinSubject(w *Twin, leg Leg) Subject {
	return Subject{
		Sink:    w,
		Fence:   func(g homeward.Generation) error { return w.Fence(leg.Machine.Item, g) },
		Content: func() Content { return w.Content(leg.Machine.Item) },
	}
}
