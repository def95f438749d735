package main

import (
	"context"
	"io/fs"
	"iter"
	"path/filepath"

	"github.com/homeward-dr/homeward/block"
	"github.com/homeward-dr/homeward/durable"
)

// Besides the points that roles name themselves, every step that changes a file
// or a disk of a role is a fault point: "fs.sync tip", "fs.rename item",
// "disk.flush". The process dies before the step; the point after it is the next
// one. Without HOMEWARD_FAULT none of this is in the way.

// faultFS passes a point before each change.
type faultFS struct {
	durable.FS
	pass func(point string)
}

func (f faultFS) OpenFile(name string, flag int, perm fs.FileMode) (durable.File, error) {
	file, err := f.FS.OpenFile(name, flag, perm)
	if err != nil {
		return nil, err
	}
	return faultFile{file, f.pass}, nil
}

func (f faultFS) Rename(old, new string) error {
	f.pass("fs.rename " + filepath.Base(new))
	return f.FS.Rename(old, new)
}

func (f faultFS) Remove(name string) error {
	f.pass("fs.remove " + filepath.Base(name))
	return f.FS.Remove(name)
}

func (f faultFS) SyncDir(dir string) error {
	f.pass("fs.syncdir " + filepath.Base(dir))
	return f.FS.SyncDir(dir)
}

type faultFile struct {
	durable.File
	pass func(point string)
}

func (f faultFile) at(step string) { f.pass("fs." + step + " " + filepath.Base(f.Name())) }

func (f faultFile) Write(p []byte) (int, error) {
	f.at("write")
	return f.File.Write(p)
}

func (f faultFile) WriteAt(p []byte, off int64) (int, error) {
	f.at("write")
	return f.File.WriteAt(p, off)
}

func (f faultFile) Sync() error {
	f.at("sync")
	return f.File.Sync()
}

func (f faultFile) Truncate(size int64) error {
	f.at("truncate")
	return f.File.Truncate(size)
}

func (f faultFile) Allocate(off, n int64) error {
	f.at("allocate")
	return f.File.Allocate(off, n)
}

func (f faultFile) Punch(off, n int64) error {
	f.at("punch")
	return f.File.Punch(off, n)
}

// TryLock makes it a durable.Locker, as files of the operating system are.
func (f faultFile) TryLock() (bool, error) { return f.File.(durable.Locker).TryLock() }

// faultOpeners open disks that pass points.
func faultOpeners(o block.Openers, pass func(point string)) block.Openers {
	wrapped := block.Openers{}
	for scheme, open := range o {
		wrapped[scheme] = func(ctx context.Context, ref string, m block.Mode) (block.Disk, error) {
			d, err := open(ctx, ref, m)
			if err != nil {
				return nil, err
			}
			return faultDisk{d, pass}, nil
		}
	}
	return wrapped
}

// faultDisk has all the powers a disk may have; those of the disk below that are
// missing are made up for as package block does.
type faultDisk struct {
	block.Disk
	pass func(point string)
}

func (d faultDisk) WriteAt(p []byte, off int64) (int, error) {
	d.pass("disk.write")
	return d.Disk.WriteAt(p, off)
}

func (d faultDisk) WriteAtFUA(p []byte, off int64) (int, error) {
	d.pass("disk.write-fua")
	if w, can := d.Disk.(block.FUAWriter); can {
		return w.WriteAtFUA(p, off)
	}
	n, err := d.Disk.WriteAt(p, off)
	if err != nil {
		return n, err
	}
	return n, d.Disk.Flush()
}

func (d faultDisk) Zero(off, n int64, punch bool) error {
	d.pass("disk.zero")
	return d.Disk.Zero(off, n, punch)
}

func (d faultDisk) Flush() error {
	d.pass("disk.flush")
	return d.Disk.Flush()
}

func (d faultDisk) Extents(off, n int64) iter.Seq2[block.Extent, error] {
	return block.Extents(d.Disk, off, n)
}

func (d faultDisk) Resized() error { return block.Resized(d.Disk) }
