package mastertarget

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"syscall"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/durable"
)

// Where an item keeps its points. All files of an item are in one directory: in the
// target's own, or on the retention volume that its first Prepare chose.
//
//	<Dir>/<item>/fence                       the generation in force: here always, so that
//	                                         fencing needs no other volume
//	<Dir>/<item>/volume                      where the other files are; absent: here
//	<mount>/homeward-retention/<name>/volume the volume's id: what tells it from the empty
//	                                         directory that is left when it is not mounted
//	<mount>/homeward-retention/<name>/items/<item>/
//
// A volume that is not there takes its items away, and no more: they are listed
// with the fault, fenced, and opened by the first call after it is back.

const (
	volumeFile    = "volume"
	retentionDir  = "homeward-retention"
	mountRemedy   = "mount the volume; the item is opened by itself then"
	defaultTarget = "master-target"
)

// place is where an item's files are.
type place struct {
	dir string // of the item
	on  string // the volume's path: Config.Dir, or where another one is mounted
}

// placeRecord is the volume file of an item.
type placeRecord struct {
	Path string      `json:"path"` // the volume's, as Prepare was told it
	Dir  string      `json:"dir"`  // of this target on it
	ID   homeward.ID `json:"id"`   // of the volume
}

// volumeRecord is the volume file of a volume.
type volumeRecord struct {
	ID homeward.ID `json:"id"`
}

// volumes are those that are in use, besides the target's own directory.
type volumes struct {
	fsys durable.FS

	choosing sync.Mutex // one at a time gives a volume its id

	mu    sync.Mutex
	locks map[string]*durable.Lock // by directory of this target
}

func newVolumes(fsys durable.FS) *volumes {
	return &volumes{fsys: fsys, locks: map[string]*durable.Lock{}}
}

// use makes sure that the volume is there, is the one that is meant, and is used by
// no other target.
func (v *volumes) use(at placeRecord) error {
	const op = "open retention volume"
	var found volumeRecord
	err := durable.ReadJSON(v.fsys, filepath.Join(at.Dir, volumeFile), &found)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return homeward.Errorf(op, homeward.Unavailable, at.Path, mountRemedy, "it is not mounted: what was kept in %s is not there", at.Dir)
	case err != nil:
		return homeward.Wrap(err, op, at.Path)
	case found.ID != at.ID:
		return homeward.Errorf(op, homeward.Unavailable, at.Path, mountRemedy, "another volume is mounted there")
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.locks[at.Dir] != nil {
		return nil
	}
	lock, err := durable.LockFile(v.fsys, filepath.Join(at.Dir, "lock"))
	if err != nil {
		return homeward.Wrap(err, op, at.Path)
	}
	v.locks[at.Dir] = lock
	return nil
}

func (v *volumes) close() error {
	v.mu.Lock()
	defer v.mu.Unlock()
	var errs []error
	for _, lock := range v.locks {
		errs = append(errs, lock.Unlock())
	}
	clear(v.locks)
	return errors.Join(errs...)
}

// home is a file of an item that is in the target's own directory wherever the
// others are.
func (e *env) home(id homeward.ItemID, name string) string {
	return filepath.Join(e.Dir, string(id), name)
}

func (e *env) defaultPlace(id homeward.ItemID) place { return place{e.home(id, ""), e.Dir} }

func (r placeRecord) place(id homeward.ItemID) place {
	return place{filepath.Join(r.Dir, "items", string(id)), r.Path}
}

// placeOf finds an item's files. The place is told also when it is not there now.
func (e *env) placeOf(id homeward.ItemID) (place, error) {
	var rec placeRecord
	err := durable.ReadJSON(e.FS, e.home(id, volumeFile), &rec)
	if errors.Is(err, fs.ErrNotExist) {
		return e.defaultPlace(id), nil
	}
	if err != nil {
		return e.defaultPlace(id), homeward.Wrap(err, "find the files of", "item "+string(id))
	}
	return rec.place(id), e.volumes.use(rec)
}

// onVolume is where this target keeps its items on a volume.
func (e *env) onVolume(path string) string { return filepath.Join(path, retentionDir, e.Name) }

// choose takes a volume that a Prepare names into use.
func (t *Target) choose(path string) (placeRecord, error) {
	const op = "choose retention volume"
	rec := placeRecord{Path: path, Dir: t.env.onVolume(path)}
	bad := func(kind homeward.Kind, fix, format string, args ...any) (placeRecord, error) {
		return rec, homeward.Errorf(op, kind, "retention "+path, fix, format, args...)
	}
	if !filepath.IsAbs(path) || filepath.Clean(path) != path {
		return bad(homeward.Invalid, "give the path of a volume as the node's health lists it", "not a clean absolute path")
	}
	if info, err := t.env.FS.Stat(path); err != nil || !info.IsDir() {
		return bad(homeward.Unavailable, "mount the volume there, or choose another", "no directory is there")
	}
	if !slices.Contains(t.env.Retention, path) && !t.env.Mounted(path) {
		return bad(homeward.Invalid, "mount a volume there, or start the master target with --retention "+path, "nothing is mounted there, and it was not given to this master target")
	}
	inUse := false
	for _, it := range t.list() {
		if it.on == path && it.away != nil {
			return rec, homeward.Wrap(it.away, op, path)
		}
		inUse = inUse || it.on == path
	}
	t.env.volumes.choosing.Lock()
	defer t.env.volumes.choosing.Unlock()
	var found volumeRecord
	err := durable.ReadJSON(t.env.FS, filepath.Join(rec.Dir, volumeFile), &found)
	switch {
	case errors.Is(err, fs.ErrNotExist) && inUse: // it was unmounted under its items
		return bad(homeward.Unavailable, mountRemedy, "it is not mounted any more")
	case errors.Is(err, fs.ErrNotExist):
		found.ID = homeward.NewID()
		if err = t.env.FS.MkdirAll(filepath.Join(rec.Dir, "items"), 0o700); err == nil {
			err = durable.WriteJSON(t.env.FS, filepath.Join(rec.Dir, volumeFile), found)
		}
	}
	if err != nil {
		return rec, homeward.Wrap(err, op, path)
	}
	rec.ID = found.ID
	return rec, t.env.volumes.use(rec)
}

// placed is the item of a Prepare that wants its points on a volume; empty: where
// they are, or the default one. An item moves only while there is nothing to move.
func (t *Target) placed(ctx context.Context, op string, id homeward.ItemID, wanted string) (*item, error) {
	it, err := t.item(op, id, true)
	if err != nil {
		return nil, err
	}
	st := it.state()
	if prepared := st.State != "" || st.fault != nil; prepared {
		if wanted == "" || wanted == it.on {
			return it, nil
		}
		return nil, homeward.Errorf(op, homeward.Conflict, it.subject(), "leave the retention volume out, or forget the item first, with its points",
			"its points are on %s, and do not move to another volume after the first Prepare", it.on)
	}
	if wanted == "" {
		wanted = t.env.Dir
		if len(t.env.Retention) > 0 {
			wanted = t.env.Retention[0]
		}
	}
	if wanted == it.on {
		return it, nil
	}
	return t.move(ctx, op, it, wanted)
}

// move gives an item that holds nothing another place. The volume file decides:
// until it is written the item is where it was.
func (t *Target) move(ctx context.Context, op string, it *item, path string) (*item, error) {
	if err := it.take(ctx, op); err != nil {
		return nil, err
	}
	defer it.give()
	if it.state().State != "" { // prepared meanwhile
		return nil, errMoved(op, it.id)
	}
	var err error
	if path == t.env.Dir {
		err = durable.Remove(t.env.FS, t.env.home(it.id, volumeFile))
	} else {
		var rec placeRecord
		if rec, err = t.choose(path); err == nil {
			err = t.env.FS.MkdirAll(rec.place(it.id).dir, 0o700)
		}
		if err == nil {
			err = durable.WriteJSON(t.env.FS, t.env.home(it.id, volumeFile), rec)
		}
	}
	if err != nil {
		return nil, homeward.Wrap(err, op, it.subject())
	}
	next := loadItem(t.env.work.ctx, t.env, it.id, it.fence)
	if next.fault != nil {
		return nil, next.fault
	}
	t.mu.Lock()
	t.items[it.id] = next
	t.mu.Unlock()
	it.change(func() { it.left = true })
	return next, nil
}

func errMoved(op string, id homeward.ItemID) error {
	return homeward.Errorf(op, homeward.Busy, "item "+string(id), "try again", "it is being prepared by somebody else")
}

// adopt takes in the items on the volumes that were given whose own directory here
// is lost, as after the target was installed anew. What cannot be read is logged:
// the other items do without it.
func (t *Target) adopt(ctx context.Context) {
	for _, path := range t.env.Retention {
		if err := t.adoptFrom(ctx, path); err != nil {
			t.env.Log.Error("retention volume not searched", "volume", path, "err", err)
		}
	}
}

func (t *Target) adoptFrom(ctx context.Context, path string) error {
	rec := placeRecord{Path: path, Dir: t.env.onVolume(path)}
	var found volumeRecord
	if err := durable.ReadJSON(t.env.FS, filepath.Join(rec.Dir, volumeFile), &found); err != nil {
		if errors.Is(err, fs.ErrNotExist) { // nothing was kept there yet, or it is not mounted: its items say so
			return nil
		}
		return err
	}
	rec.ID = found.ID
	if err := t.env.volumes.use(rec); err != nil {
		return err
	}
	entries, err := t.env.FS.ReadDir(filepath.Join(rec.Dir, "items"))
	if err != nil {
		return err
	}
	for _, e := range entries {
		id := homeward.ItemID(e.Name())
		if !e.IsDir() || id.Validate() != nil || t.items[id] != nil {
			continue
		}
		if err := t.adoptItem(ctx, id, rec); err != nil {
			return err
		}
		t.env.Log.Warn("item found on a retention volume", "item", id, "volume", path)
	}
	return nil
}

// adoptItem makes an item known. Its fence is what its record tells: the newest
// generation that acted here.
func (t *Target) adoptItem(ctx context.Context, id homeward.ItemID, at placeRecord) error {
	var rec record
	err := durable.ReadJSON(t.env.FS, filepath.Join(at.place(id).dir, "item"), &rec)
	if errors.Is(err, fs.ErrNotExist) { // nothing of it was ever prepared there, or it was forgotten
		return nil
	}
	if err == nil {
		err = t.env.FS.MkdirAll(t.env.home(id, ""), 0o700)
	}
	if err != nil {
		return err
	}
	f, err := openFence(t.env.FS, t.env.home(id, "fence"), id)
	for _, g := range rec.generations() {
		if err == nil && g.Number > f.generation().Number {
			err = f.raise("adopt item", g)
		}
	}
	if err == nil {
		err = durable.WriteJSON(t.env.FS, t.env.home(id, volumeFile), at)
	}
	if err != nil {
		return err
	}
	t.items[id] = loadItem(ctx, t.env, id, nil)
	return nil
}

// generations are all that acted on the item, as far as the record remembers.
func (r record) generations() []homeward.Generation {
	list := []homeward.Generation{r.Leg.Generation}
	if r.FailOver != nil {
		list = append(list, r.FailOver.Generation)
	}
	if r.RollBack != nil {
		list = append(list, r.RollBack.Generation)
	}
	return list
}

// mounted reports whether a file system begins at path: its device is another than
// that of the directory above.
func mounted(path string) bool {
	here, err := os.Stat(path)
	if err != nil {
		return false
	}
	above, err := os.Stat(filepath.Dir(path))
	if err != nil {
		return false
	}
	a, known := here.Sys().(*syscall.Stat_t)
	b, too := above.Sys().(*syscall.Stat_t)
	return known && too && (a.Dev != b.Dev || a.Ino == b.Ino) // or it is the root
}
