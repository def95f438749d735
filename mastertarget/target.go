package mastertarget

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/durable"
	"github.com/homeward-dr/homeward/mastertarget/history"
)

// Target is a master target: homeward.MasterTarget, and the homeward.Sink of its
// items. All methods may be called concurrently; calls that move one replica wait
// for each other.
type Target struct {
	env  *env
	lock *durable.Lock

	mu    sync.Mutex
	items map[homeward.ItemID]*item
}

var (
	_ homeward.MasterTarget = (*Target)(nil)
	_ homeward.Sink         = (*Target)(nil)
)

// Open opens the master target of a retention volume: it finishes what a crash
// cut off, serves the machines that run on its copies, and goes on with their
// promotion. An item that cannot be opened is listed with its fault.
//
// Errors: Invalid for a missing field, InUse when another master target has the
// volume, those of the file system.
func Open(ctx context.Context, c Config) (*Target, error) { return open(ctx, c, false) }

func open(ctx context.Context, c Config, idle bool) (*Target, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	c = c.withDefaults()
	if err := c.FS.MkdirAll(c.Dir, 0o700); err != nil {
		return nil, homeward.Wrap(err, "open master target", c.Dir)
	}
	lock, err := durable.LockFile(c.FS, c.Dir+"/lock")
	if err != nil {
		return nil, homeward.Wrap(err, "open master target", c.Dir)
	}
	t := &Target{lock: lock, items: map[homeward.ItemID]*item{}, env: &env{
		Config: c, files: history.NewFiles(c.FS), slabs: newSlabs(c.ApplyBytes),
		work: newBackground(ctx, idle), trees: &treeCache{}, volumes: newVolumes(c.FS),
	}}
	entries, err := c.FS.ReadDir(c.Dir)
	if err != nil {
		return nil, errors.Join(homeward.Wrap(err, "open master target", c.Dir), lock.Unlock())
	}
	for _, e := range entries {
		if id := homeward.ItemID(e.Name()); e.IsDir() && id.Validate() == nil {
			it := loadItem(ctx, t.env, id, nil)
			if it.fault != nil {
				c.Log.Error("item not open", "item", id, "err", it.fault)
			}
			t.items[id] = it
		}
	}
	t.adopt(ctx)
	if c.ThinEvery > 0 {
		t.env.work.start(func(ctx context.Context) { keepThinning(ctx, t) })
	}
	return t, nil
}

// Close stops background work, withdraws all views and closes every replica. What
// was under way goes on at the next Open. ctx bounds the wait for NBD requests.
func (t *Target) Close(ctx context.Context) error {
	t.env.work.stop()
	var errs []error
	for _, it := range t.list() {
		if err := it.take(ctx, "close master target"); err != nil {
			errs = append(errs, err)
			continue
		}
		// Calls that waited for the turn find it closed.
		it.change(func() { it.fault = errClosed() })
		errs = append(errs, it.shut(ctx))
		it.give()
	}
	t.env.files.Close()
	return errors.Join(append(errs, t.env.volumes.close(), t.lock.Unlock())...)
}

func errClosed() error {
	return homeward.Errorf("use master target", homeward.Unavailable, "", "try again when it runs again", "the master target is closed")
}

// Items lists what is kept here, by name; forgotten items are not.
func (t *Target) Items() (ids []homeward.ItemID) {
	for _, it := range t.list() {
		if st := it.state(); st.State != "" || st.fault != nil {
			ids = append(ids, it.id)
		}
	}
	return ids
}

func (t *Target) list() []*item {
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.SortedFunc(maps.Values(t.items), func(a, b *item) int { return strings.Compare(string(a.id), string(b.id)) })
}

// item finds an item that can be used; with make it is entered if it is not known
// yet. One whose volume is not there is that fault.
func (t *Target) item(op string, id homeward.ItemID, make bool) (*item, error) {
	it, err := t.known(op, id, make)
	if err == nil && it.away != nil {
		return nil, homeward.Wrap(it.away, op, "item "+string(id))
	}
	return it, err
}

// known finds an item, also one whose volume is not there; if it has come back, the
// item is opened now.
func (t *Target) known(op string, id homeward.ItemID, make bool) (*item, error) {
	if err := id.Validate(); err != nil {
		return nil, err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if it := t.items[id]; it != nil {
		if it.away == nil {
			return it, nil
		}
		if _, err := t.env.placeOf(id); err != nil {
			return it, nil
		}
		t.items[id] = loadItem(t.env.work.ctx, t.env, id, it.fence)
		return t.items[id], nil
	}
	if !make {
		return nil, homeward.Errorf(op, homeward.NotFound, "item "+string(id), "prepare it first", "no such item here")
	}
	if err := t.env.FS.MkdirAll(t.env.home(id, ""), 0o700); err != nil {
		return nil, homeward.Wrap(err, op, "item "+string(id))
	}
	it := loadItem(t.env.work.ctx, t.env, id, nil)
	if it.fault != nil {
		return nil, it.fault
	}
	t.items[id] = it
	return it, nil
}

// Put implements homeward.Sink: it returns when the delta is applied.
func (t *Target) Put(ctx context.Context, id homeward.ItemID, body io.Reader) (homeward.Ack, error) {
	it, err := t.item("apply delta", id, false)
	if err != nil {
		return homeward.Ack{}, err
	}
	ack, err := intake{it}.put(ctx, body)
	if err != nil {
		return homeward.Ack{}, err
	}
	return ack, nil
}

// Standing implements homeward.Sink.
func (t *Target) Standing(ctx context.Context, req homeward.StandingRequest) (homeward.Standing, error) {
	it, err := t.known("standing", req.Item, false)
	if err != nil {
		return homeward.Standing{}, err
	}
	return reporter{it}.standing(ctx, req)
}

// Prepare implements homeward.Replica.
func (t *Target) Prepare(ctx context.Context, req homeward.ReplicaRequest) (homeward.ReplicaReport, error) {
	const op = "prepare replica"
	if err := req.Machine.Validate(); err != nil {
		return homeward.ReplicaReport{}, err
	}
	req.Policy = req.Policy.WithDefaults()
	if err := req.Policy.Validate(); err != nil {
		return homeward.ReplicaReport{}, err
	}
	bad := func(field, fix, format string, args ...any) (homeward.ReplicaReport, error) {
		return homeward.ReplicaReport{}, homeward.Errorf(op, homeward.Invalid, field, fix, format, args...)
	}
	switch {
	case len(req.Disks) != len(req.Machine.Disks):
		return bad("disks", "give one reference for each disk of the machine, in its order", "%d references for %d disks", len(req.Disks), len(req.Machine.Disks))
	case req.Generation.IsZero():
		return bad("generation", "give the generation of the leg", "missing")
	case len(branchPin)+len(req.Branch) > maxPinName:
		return bad("branch", fmt.Sprintf("give at most %d bytes", maxPinName-len(branchPin)), "%d bytes", len(req.Branch))
	case req.SpaceReserve < 0:
		return bad("space_reserve", "give 0 or more bytes", "%d", req.SpaceReserve)
	}
	it, err := t.placed(ctx, op, req.Machine.Item, req.Retention)
	if err != nil {
		return homeward.ReplicaReport{}, err
	}
	if err := (preparer{it}).prepare(ctx, req); err != nil {
		return homeward.ReplicaReport{}, err
	}
	return reporter{it}.report()
}

// Report implements homeward.Replica.
func (t *Target) Report(_ context.Context, req homeward.ItemRequest) (homeward.ReplicaReport, error) {
	it, err := t.known("report", req.Item, false)
	if err != nil {
		return homeward.ReplicaReport{}, err
	}
	return reporter{it}.report()
}

// SetGeneration implements homeward.Fencer. The item need not be prepared here, nor
// its volume be mounted.
func (t *Target) SetGeneration(_ context.Context, req homeward.GenerationRequest) (homeward.Done, error) {
	it, err := t.known("set generation", req.Item, true)
	if err != nil {
		return homeward.Done{}, err
	}
	if err := it.fence.raise("set generation", req.Generation); err != nil {
		return homeward.Done{}, err
	}
	it.change(func() {}) // deltas that wait learn it
	return homeward.Done{}, nil
}
