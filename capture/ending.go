package capture

import (
	"context"
	"errors"

	"github.com/homeward-dr/homeward"
)

// end refuses writes, cuts and releases from now on, for good; the first reason stays.
func (m *Machine) end(why error) {
	m.ended.CompareAndSwap(nil, &why)
	m.gate.close()
	m.gate.open(*m.ended.Load())
}

// halt refuses everything and waits for what is under way.
func (m *Machine) halt(ctx context.Context, why error) error {
	m.cutting.Lock()
	if m.hold != nil {
		m.unhold(m.hold)
	}
	m.end(why)
	m.cutting.Unlock()
	m.gate.close() // refuses already; a closed gate tells when it is empty
	m.gate.drain(ctx, nil)
	empty := m.gate.empty()
	m.gate.open(nil)
	if !empty {
		return homeward.Errorf("drain", homeward.Timeout, "", "try again: writes stay refused", "writes are still in flight: %w", context.Cause(ctx))
	}
	m.applying.Lock() // waits for a release under way; later ones are refused
	defer m.applying.Unlock()
	return nil
}

// Handover ends writing at this side for good (I-11): new writes fail with
// ErrHandedOver (Fenced), those in flight are waited for, the disks are flushed,
// and the maps are made durable. When it returns nil, Dirty and Suspect are final,
// also after a restart: Open then finds StartHandedOver, until Forget. A disk
// whose flush fails becomes wholly suspect. When it fails, writes stay refused in
// this run; call it again.
func (m *Machine) Handover(ctx context.Context) error {
	if m.closed.Load() {
		return homeward.Errorf("hand over", homeward.Unavailable, "", "open the capture again", "%w", ErrClosed)
	}
	over := homeward.Errorf("write", homeward.Fenced, "", "write at the side that took over", "%w", ErrHandedOver)
	if err := m.halt(ctx, over); err != nil {
		return homeward.Wrap(err, "hand over", "")
	}
	for _, d := range m.disks {
		if err := d.flush(); err != nil {
			d.suspect.set(0, d.blocks)
			m.notes.addSuspect(d.index, "flush failed at handover: "+err.Error())
		}
	}
	for _, d := range m.disks {
		if err := d.keep.finish(); err != nil && !errors.Is(err, errDown) {
			d.keep.giveUp("checkpoint failed at handover", err)
		}
	}
	return homeward.Wrap(m.writeStamp(stampHandedOver), "hand over", "")
}

// Close ends the capture cleanly: it refuses writes, waits for those in flight,
// flushes, and makes maps and stamp durable, so that the next Open is exact
// (StartClean). Cuts that are open or unapplied are dirty again then. When it fails,
// the files stay as after a kill, which the next Open copes with. The engine is of
// no use afterwards in either case; the disks stay open.
func (m *Machine) Close(ctx context.Context) error {
	if m.closed.Swap(true) {
		return nil
	}
	handedOver := m.ending() != nil && !errors.Is(m.ending(), ErrClosed)
	err := m.halt(ctx, homeward.Errorf("write", homeward.Unavailable, "", "open the capture again", "%w", ErrClosed))
	if err != nil {
		m.closed.Store(false)
		return homeward.Wrap(err, "close capture", m.cfg.Dir)
	}
	m.quiet()
	if !handedOver {
		err = m.detach()
	}
	return homeward.Wrap(errors.Join(err, m.shut(err == nil)), "close capture", m.cfg.Dir)
}

// quiet stops all goroutines; nothing may be in the gate.
func (m *Machine) quiet() {
	if c := m.frozen.Load(); c != nil {
		c.giveUp(homeward.Errorf("close capture", homeward.Canceled, "", "", "%w", ErrClosed))
	}
	close(m.stop)
	m.work.Wait()
	for _, d := range m.disks {
		d.keep.end()
	}
}

// detach makes the stamp of a clean end.
func (m *Machine) detach() error {
	for _, d := range m.disks {
		if err := d.flush(); err != nil {
			return err
		}
	}
	for _, d := range m.disks {
		if err := d.keep.finish(); err != nil {
			return homeward.Wrap(err, "write checkpoint", d.name())
		}
	}
	return m.writeStamp(stampClean)
}

// shut closes all files; clean takes the live maps away, which nothing needs then.
func (m *Machine) shut(clean bool) (err error) {
	m.closed.Store(true)
	m.roles.Lock() // nobody reads the maps while they are unmapped
	defer m.roles.Unlock()
	for _, d := range m.disks {
		if d.keep != nil {
			d.keep.close()
		}
		if d.live == nil {
			continue
		}
		if clean {
			err = errors.Join(err, d.live.remove())
		} else {
			err = errors.Join(err, d.live.close())
		}
	}
	if f := m.pool.spill.file; f != nil {
		err = errors.Join(err, f.Close(), m.cfg.FS.Remove(m.pool.spill.path))
	}
	return errors.Join(err, m.lock.Unlock())
}
