package role

import (
	"errors"
	"io/fs"
	"sync"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/durable"
)

// Epoch is the highest epoch of a vault that a role has met, durably: a vault that
// was restored from a backup raises it, and the one it replaces is refused from
// then on, though its certificate is good. Safe for concurrent use.
type Epoch struct {
	fsys durable.FS
	path string

	mu      sync.Mutex
	highest uint64
}

type epochRecord struct {
	Epoch uint64 `json:"epoch"`
}

// OpenEpoch reads the file at path, which need not exist; its directory must when
// a vault is met. Errors: Corrupt for a damaged file, those of the file system.
func OpenEpoch(fsys durable.FS, path string) (*Epoch, error) {
	e := &Epoch{fsys: fsys, path: path}
	var r epochRecord
	if err := durable.ReadJSON(fsys, path, &r); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, homeward.Wrap(err, "read the vault's epoch", path)
	}
	e.highest = r.Epoch
	return e, nil
}

// meet takes in the epoch of a vault: a higher one is durable when it returns, an
// older one is Fenced.
func (e *Epoch) meet(epoch uint64, who string) error {
	const op = "greet"
	e.mu.Lock()
	defer e.mu.Unlock()
	switch {
	case epoch < e.highest:
		return homeward.Errorf(op, homeward.Fenced, who,
			"stop this vault: a newer one is in force; if this is the one to keep, raise its epoch by restoring it once more, or remove "+e.path+" at the node",
			"it is of epoch %d, and one of epoch %d was here", epoch, e.highest)
	case epoch == e.highest:
		return nil
	}
	if err := durable.WriteJSON(e.fsys, e.path, epochRecord{epoch}); err != nil {
		return homeward.Wrap(err, op, who)
	}
	e.highest = epoch
	return nil
}
