package world

import (
	"fmt"
	"math"
	"slices"
	"sync"
	"sync/atomic"
)

// Clock orders events of all guests of a world. Safe for concurrent use.
type Clock struct{ now atomic.Int64 }

// Tick is a later instant than every one before.
func (c *Clock) Tick() int64 { return c.now.Add(1) }

const (
	never  = math.MaxInt64
	always = math.MinInt64
)

// version is what one write made of a sector. It may be what the sector holds at
// the instants from its beginning until the first later one has ended.
type version struct {
	write uint64 // 0: zeroes
	start int64
	end   int64 // when the guest was told; never: it was not
	void  int64 // when it was seen not to have been done, for a write of which the guest was not told
}

// Timeline is the life of one machine under one generation: what its disks may
// hold at any instant. Safe for concurrent use.
type Timeline struct {
	clock *Clock
	began [32]byte // Hash of what the disks held at first

	mu      sync.Mutex
	disks   [][][]version // by disk and sector, in the order of the writes
	durable []int64       // by disk: writes that ended before are safe from power loss
}

// newTimeline begins with what the disks hold now.
func newTimeline(clock *Clock, contents [][]byte) (*Timeline, error) {
	t := &Timeline{clock: clock, began: Hash(contents)}
	for d, content := range contents {
		writes, err := readDisk(content, int64(d))
		if err != nil {
			return nil, err
		}
		sectors := make([][]version, len(writes))
		for s, w := range writes {
			sectors[s] = []version{{write: w, start: always, end: always, void: never}}
		}
		t.disks = append(t.disks, sectors)
		t.durable = append(t.durable, always)
	}
	return t, nil
}

// begin notes that a write (zeroes: 0) is about to be sent. No other write to the
// same sectors may be on its way.
func (t *Timeline) begin(disk int, first, count int64, write uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := t.clock.Tick()
	for s := first; s < first+count; s++ {
		t.disks[disk][s] = append(t.disks[disk][s], version{write: write, start: now, end: never, void: never})
	}
}

// finish notes that the write begun last on these sectors was answered well.
func (t *Timeline) finish(disk int, first, count int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := t.clock.Tick()
	for s := first; s < first+count; s++ {
		v := t.disks[disk][s]
		v[len(v)-1].end = now
	}
}

// flushed notes that a flush of a disk, begun at an instant, was answered well.
func (t *Timeline) flushed(disk int, begun int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.durable[disk] = max(t.durable[disk], begun)
}

// sectors of a disk.
func (t *Timeline) sectors(disk int) int64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return int64(len(t.disks[disk]))
}

// settle takes what the disks hold when the machine boots again as what they hold
// from now on. After a power loss writes that were not flushed may be gone.
func (t *Timeline) settle(contents [][]byte, powerLoss bool) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	began := t.clock.Tick()
	now := t.clock.Tick()
	for d, content := range contents {
		writes, err := readDisk(content, int64(d))
		if err != nil {
			return err
		}
		for s, w := range writes {
			v := t.disks[d][s]
			safe := int64(never)
			if powerLoss {
				safe = t.durable[d]
			}
			if !slices.ContainsFunc(v[lastEnded(v, safe):], func(c version) bool { return c.write == w }) {
				return fmt.Errorf("disk %d sector %d holds write %d after a restart, not one of %v", d, s, w, v[lastEnded(v, safe):])
			}
			for i := range v {
				if v[i].end == never {
					v[i].void = min(v[i].void, now)
				}
			}
			if last := v[len(v)-1]; last.write != w || last.end == never {
				t.disks[d][s] = append(v, version{write: w, start: began, end: now, void: never})
			}
		}
		if powerLoss {
			t.durable[d] = now
		}
	}
	return nil
}

// lastEnded is the index of the last version that had ended by an instant.
func lastEnded(v []version, by int64) int {
	for i, c := range slices.Backward(v) {
		if c.end <= by && c.end != never {
			return i
		}
	}
	return 0
}

// span is instants, both ends included.
type span struct{ from, to int64 }

// Observed is what a state of disks says about the instant at which it was.
type Observed struct {
	from, to int64   // every sector of which one version alone fits
	choices  []fork  // sectors of which several do
	err      error   // it fits no instant
	where    [2]fork // what limits from and to
}

// fork is one sector and the instants at which it may hold what it holds.
type fork struct {
	disk, sector int64
	write        uint64
	spans        []span
}

func (f fork) String() string {
	return fmt.Sprintf("disk %d sector %d holds write %d, which fits %v", f.disk, f.sector, f.write, f.spans)
}

// Observe reads a state of all disks.
func (t *Timeline) Observe(contents [][]byte) Observed {
	t.mu.Lock()
	defer t.mu.Unlock()
	o := Observed{from: always, to: never}
	for d, content := range contents {
		writes, err := readDisk(content, int64(d))
		if err != nil {
			o.err = err
			return o
		}
		for s, w := range writes {
			f := fork{int64(d), int64(s), w, instants(t.disks[d][s], w)}
			switch len(f.spans) {
			case 0:
				o.err = fmt.Errorf("disk %d sector %d holds write %d, which it never held in this life: %v", d, s, w, t.disks[d][s])
				return o
			case 1:
				if f.spans[0].from > o.from {
					o.from, o.where[0] = f.spans[0].from, f
				}
				if f.spans[0].to < o.to {
					o.to, o.where[1] = f.spans[0].to, f
				}
			default:
				o.choices = append(o.choices, f)
			}
		}
	}
	return o
}

// instants is when a sector may hold a write, as spans that do not touch.
func instants(v []version, write uint64) (list []span) {
	until := int64(never)
	for _, c := range slices.Backward(v) {
		if c.write == write {
			s := span{c.start, min(until, c.void)}
			if n := len(list); n > 0 && s.to >= list[n-1].from {
				list[n-1].from = s.from
			} else if s.from <= s.to {
				list = append(list, s)
			}
		}
		until = min(until, c.end)
	}
	slices.Reverse(list)
	return list
}

// Between tells why states of disks, seen of one or several timelines of one clock,
// are not all those of one instant in [from, to]; nil: they are.
func Between(from, to int64, states ...Observed) error {
	low, high := fork{spans: []span{{from, never}}}, fork{spans: []span{{always, to}}}
	var choices []fork
	for _, o := range states {
		if o.err != nil {
			return o.err
		}
		if o.from > from {
			from, low = o.from, o.where[0]
		}
		if o.to < to {
			to, high = o.to, o.where[1]
		}
		choices = append(choices, o.choices...)
	}
	if from > to {
		return fmt.Errorf("no instant fits: %v, but %v", low, high)
	}
	// The earliest instant that fits everything is from, or where a span begins.
	candidates := []int64{from}
	for _, f := range choices {
		for _, s := range f.spans {
			if s.from > from && s.from <= to {
				candidates = append(candidates, s.from)
			}
		}
	}
	slices.Sort(candidates)
	var against fork
	for _, at := range slices.Compact(candidates) {
		bad := slices.IndexFunc(choices, func(f fork) bool {
			return !slices.ContainsFunc(f.spans, func(s span) bool { return s.from <= at && at <= s.to })
		})
		if bad < 0 {
			return nil
		}
		against = choices[bad]
	}
	return fmt.Errorf("no instant fits: %v, and %v, but %v", low, high, against)
}
