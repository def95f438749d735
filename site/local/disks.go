package local

import (
	"context"
	"path/filepath"
	"slices"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/block"
	"github.com/homeward-dr/homeward/durable"
)

// CreateDisk makes a sparse raw file in a datastore (empty: the default one).
func (s *Site) CreateDisk(_ context.Context, key string, d homeward.Disk, where string) (homeward.Operation, error) {
	if where == "" {
		where = s.cfg.Datastores[0]
	}
	if !slices.Contains(s.cfg.Datastores, where) {
		return homeward.Operation{}, homeward.Errorf("create disk", homeward.NotFound, "datastore "+where,
			"choose one of the site's datastores", "site %s has no such datastore", s.cfg.Name)
	}
	if err := d.ID.Validate(); err != nil {
		return homeward.Operation{}, err
	}
	return s.begin(key, func(ctx context.Context) (homeward.Ref, error) {
		path := filepath.Join(where, string(d.ID)+".raw")
		disk, err := block.OpenFile(ctx, "file:"+path, block.Mode{Size: d.Size, Create: true})
		if err != nil {
			return homeward.Ref{}, err
		}
		return homeward.Ref{Native: "file:" + path, UUID: string(d.ID)}, disk.Close()
	})
}

// DeleteDisk removes a disk that no machine has attached.
func (s *Site) DeleteDisk(_ context.Context, key string, ref homeward.Ref) (homeward.Operation, error) {
	return s.begin(key, func(context.Context) (homeward.Ref, error) {
		s.mu.Lock()
		defer s.mu.Unlock()
		path := filepath.Clean(trimFile(ref.Native))
		if !slices.Contains(s.cfg.Datastores, filepath.Dir(path)) {
			return ref, homeward.Errorf("delete disk", homeward.Forbidden, ref.Native, "delete it by hand", "it is in none of the site's datastores")
		}
		for _, m := range s.machines {
			for _, d := range m.Disks {
				if trimFile(d.Ref) == path {
					return ref, homeward.Errorf("delete disk", homeward.InUse, ref.Native, "detach it first", "machine %s has it", m.Native)
				}
			}
		}
		return ref, durable.Remove(s.fsys, path)
	})
}

func trimFile(ref string) string {
	if len(ref) > 5 && ref[:5] == "file:" {
		return ref[5:]
	}
	return ref
}

// Snapshot is not to be had here; see Capabilities.
func (s *Site) Snapshot(_ context.Context, _ string, ref homeward.Ref, _ string) (homeward.Operation, error) {
	return homeward.Operation{}, homeward.Errorf("snapshot disk", homeward.Unsupported, ref.Native,
		"use a recovery point of the master target", "raw files have no snapshots")
}

// Attach adds a disk to a machine that is off, or replaces the one of that id.
func (s *Site) Attach(_ context.Context, key string, ref homeward.Ref, a homeward.Attachment) (homeward.Operation, error) {
	return s.begin(key, func(context.Context) (homeward.Ref, error) {
		return ref, s.change("attach disk", ref, func(m *machine) {
			m.Disks = slices.DeleteFunc(m.Disks, func(d homeward.Attachment) bool { return d.Disk == a.Disk })
			m.Disks = append(m.Disks, a)
			slices.SortStableFunc(m.Disks, func(x, y homeward.Attachment) int { return x.Slot - y.Slot })
		})
	})
}

// Detach takes a disk from a machine that is off; one it has not is detached.
func (s *Site) Detach(_ context.Context, key string, ref homeward.Ref, disk homeward.DiskID) (homeward.Operation, error) {
	return s.begin(key, func(context.Context) (homeward.Ref, error) {
		return ref, s.change("detach disk", ref, func(m *machine) {
			m.Disks = slices.DeleteFunc(m.Disks, func(d homeward.Attachment) bool { return d.Disk == disk })
		})
	})
}

// change edits a machine that is off, durably before it shows.
func (s *Site) change(op string, ref homeward.Ref, edit func(*machine)) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	m, err := s.find(op, ref)
	if err != nil {
		return err
	}
	if m.Process.alive() {
		return homeward.Errorf(op, homeward.InUse, "machine "+ref.Native, "power it off first", "disks of a running machine stay as they are here")
	}
	next := *m
	next.Disks = slices.Clone(m.Disks)
	edit(&next)
	if err := s.save(&next); err != nil {
		return err
	}
	*m = next
	return nil
}
