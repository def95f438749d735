package overlay

import "github.com/homeward-dr/homeward/block"

// How a Disk becomes another one, while it is used:
//
//	d.Mirror(target)                      nothing is covered yet
//	d.Cover(run, copy) for all of it      ascending; copy brings the run into target
//	d.Pause(); …; d.Resume(target)        from here on requests go to target
//
// Until Resume the store is authoritative: a crash anywhere loses nothing, and
// Mirror begins anew.

// Mirror makes target the disk that this one will become.
func (d *Disk) Mirror(target block.Disk) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.mirror, d.covered, d.mirrored = target, 0, nil
}

// Cover runs copy while no write touches the run; from then on writes to its
// blocks, and to all before it, reach the mirror too. It returns why the mirror
// was given up, if it was: a write to it failed, the one to the store did not.
func (d *Disk) Cover(r block.Run, copy func() error) error {
	d.latch.Lock(r)
	defer d.latch.Unlock(r)
	if err := copy(); err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.mirrored == nil {
		d.covered = r.Start + r.Count
	}
	return d.mirrored
}

// below is the first block that writes need not repeat in the mirror.
func (d *Disk) below() int64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.covered
}

// repeat does a write once more, its first n bytes, to the mirror.
func (d *Disk) repeat(n int64, again func(mirror block.Disk, n int64) error) {
	if n <= 0 {
		return
	}
	d.mu.Lock()
	mirror := d.mirror
	d.mu.Unlock()
	if err := again(mirror, n); err != nil {
		d.mu.Lock()
		defer d.mu.Unlock()
		// The write itself stands: it is in the store. Whoever empties the store
		// learns it from Cover or Mirrored and begins anew.
		d.mirrored, d.covered = err, 0
	}
}

// Mirrored is why the mirror was given up; nil: it was not.
func (d *Disk) Mirrored() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.mirrored
}

// Pause waits for the requests in progress and holds new ones until Resume.
func (d *Disk) Pause() { d.mode.Lock() }

// Resume lets requests go on: to direct, or, if that is nil, as before.
func (d *Disk) Resume(direct block.Disk) {
	if direct != nil {
		d.direct = direct
	}
	d.mode.Unlock()
}
