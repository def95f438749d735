package agent

import (
	"fmt"
	"io/fs"
	"path/filepath"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/durable"
)

// record is what an item keeps on disk, in item.json of its directory. A record
// without a State is what Release leaves: the generation that fences older calls.
type record struct {
	InForce  homeward.Generation     `json:"in_force"` // the newest one heard of
	State    homeward.CaptureState   `json:"state,omitempty"`
	Request  homeward.CaptureRequest `json:"request,omitzero"` // without Initial: that is in the map
	Complete bool                    `json:"complete"`         // the set to ship is whole
	// Began is the generation under which the capture began that a live leg goes on
	// with: its files and the guest's exports are named by it. Zero: the request's.
	Began homeward.Generation `json:"began,omitzero"`
}

// capture is the generation under which the capture began.
func (r record) capture() homeward.Generation {
	if r.Began.IsZero() {
		return r.Request.Generation
	}
	return r.Began
}

// positions is the name of the file of the chain: each leg on a capture has its own.
func (r record) positions() string {
	if r.Began.IsZero() {
		return chainName
	}
	return chainName + "-" + legName(r.Request.Generation)
}

// What is in an item's directory: the record, and one directory for the capture it
// names, by the generation under which that began.
const (
	recordName = "item.json"
	chainName  = "positions" // of a leg: see chain
	noteName   = "frozen"    // of a leg: see freezer
	captureDir = "capture"   // of a leg: package capture's
)

func legName(g homeward.Generation) string {
	return fmt.Sprintf("leg-%d-%s", g.Number, g.ID.String()[:8])
}

// sweep removes from a directory of an item every leg but that of the record:
// what a crash left of one that was being begun or had just ended.
func sweep(fsys durable.FS, r record, dir string) error {
	entries, err := fsys.ReadDir(dir)
	if homeward.KindOf(err) == homeward.NotFound {
		return nil
	}
	for _, e := range entries {
		if err != nil {
			return err
		}
		if e.IsDir() && (!r.live() || e.Name() != legName(r.capture())) {
			err = removeTree(fsys, filepath.Join(dir, e.Name()))
		}
	}
	return err
}

func (r record) live() bool { return r.State != "" }

// fenced reports whether another generation than the one captured under is in force.
func (r record) fenced() bool { return r.InForce.Fences(r.Request.Generation) }

// removeTree removes a directory of ours with all that is in it.
func removeTree(fsys durable.FS, dir string) error {
	entries, err := fsys.ReadDir(dir)
	if homeward.KindOf(err) == homeward.NotFound {
		return nil
	}
	for _, e := range entries {
		if err != nil {
			break
		}
		if path := filepath.Join(dir, e.Name()); e.Type()&fs.ModeDir != 0 {
			err = removeTree(fsys, path)
		} else {
			err = fsys.Remove(path)
		}
	}
	if err == nil {
		err = fsys.Remove(dir)
	}
	return homeward.Wrap(err, "remove", dir)
}
