package mastertarget

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/delta"
	"github.com/homeward-dr/homeward/durable"
)

// verification collects what Verify finds.
type verification struct {
	homeward.VerifyReport
}

// file counts a file; a fault says what it costs and what to do.
func (v *verification) file(path string, bytes int64, err error, costs, remedy string) {
	v.Files++
	v.Bytes += bytes
	if err != nil {
		v.Faults = append(v.Faults, fmt.Sprintf("%s: %v; it costs %s; %s", path, err, costs, remedy))
	}
}

// verifier checks what is stored for an item.
type verifier struct{ *item }

// verify reads everything stored for an item. Replication goes on meanwhile; a
// segment that is merged away before its turn is checked in its merged form.
func (it verifier) verify(ctx context.Context) (homeward.VerifyReport, error) {
	st := it.state()
	if st.State == "" && st.fault == nil {
		return homeward.VerifyReport{}, it.unknown("verify item")
	}
	v := &verification{}
	it.verifyRecords(v)
	if st.replica == nil {
		v.Faults = append(v.Faults, fmt.Sprintf("%s: %v; it costs every point until it is mended; %s", it.dir, st.fault, homeward.RemedyOf(st.fault)))
		return v.VerifyReport, nil
	}
	for _, why := range st.replica.lost {
		v.Faults = append(v.Faults, why+"; restore the file from a copy, or let these points go")
	}
	if _, err := st.replica.cell.load(); err != nil && st.fault == nil { // a failed store is a fault that Report shows
		v.file(it.path("position"), 0, err, "knowing where the replica stands", "forget the item and prepare it again")
	}
	done := map[string]bool{}
	for again := true; again; {
		again = false
		for _, s := range it.state().replica.chain.Segments() {
			if done[s.Path()] {
				continue
			}
			done[s.Path()], again = true, true
			if err := ctx.Err(); err != nil {
				return v.VerifyReport, homeward.Errorf("verify item", homeward.KindOf(err), it.subject(), "", "%w", err)
			}
			bytes, err := verifyDelta(it.FS, s.Path())
			if homeward.KindOf(err) == homeward.NotFound {
				continue // merged or dropped meanwhile
			}
			v.file(s.Path(), bytes, err, fmt.Sprintf("points up to %s; newer ones are not touched", s.At.Format("2006-01-02 15:04:05Z")),
				"fail over to a newer point, or restore the file from a copy")
		}
	}
	it.verifyStores(v)
	it.verifyMaps(v, st)
	return v.VerifyReport, nil
}

func verifyDelta(fsys durable.FS, path string) (int64, error) {
	f, err := fsys.OpenFile(path, os.O_RDONLY, 0)
	if err != nil {
		return 0, err
	}
	info, err := f.Stat()
	var size int64
	if err == nil {
		size = info.Size()
		_, _, err = delta.Verify(io.NewSectionReader(f, 0, size))
	}
	return size, errors.Join(err, f.Close())
}

func (it verifier) verifyRecords(v *verification) {
	for name, into := range map[string]any{"item": new(record), "fence": new(fenceRecord), "pins": new(pinsRecord)} {
		info, err := it.FS.Stat(it.path(name))
		if homeward.KindOf(err) == homeward.NotFound {
			continue // never written
		}
		var size int64
		if err == nil {
			size = info.Size()
			err = durable.ReadJSON(it.FS, it.path(name), into)
		}
		v.file(it.path(name), size, err, "the item after a restart", "forget the item and prepare it again, or restore the file from a copy")
	}
}

// verifyStores checks the maps of overlays; their data has no checksum, it is the
// disk of a machine.
func (it verifier) verifyStores(v *verification) {
	stores := it.state().replica.past
	if run := it.view(failOverView); run != nil {
		it.mu.Lock()
		stores = append(stores[:len(stores):len(stores)], run.stores...)
		it.mu.Unlock()
	}
	for _, s := range stores {
		v.file(s.Path(), s.Bytes(), s.Verify(), "what the running machine wrote, after a restart", "promote the view now: what runs is whole")
	}
}

func (it verifier) verifyMaps(v *verification, st state) {
	if st.Diverged == nil {
		return
	}
	for i, d := range st.Leg.Machine.Disks {
		_, err := divergences{it.item}.readMap(st.Diverged, i, d.Blocks())
		v.file(divergences{it.item}.mapPath(st.Diverged, i), 0, err, "knowing what the failover gave up: the whole disk is suspect", "reprotect compares it by digest")
	}
}
