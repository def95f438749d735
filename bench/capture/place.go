package capture

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/bench/leg"
	"github.com/homeward-dr/homeward/bench/measure"
)

// place is a file system that holds images, and everything else of a part that is
// measured on it. Each contender has an image of its own, all of the same content.
type place struct {
	name string // "tmpfs", "file system"
	dir  string
	run  string // sockets: short names, in memory
	size int64  // of an image
	seed uint64
	leg  *leg.Leg
	ends []func() error // in reverse order
}

// openPlace makes the directories and starts Homeward's roles there.
func openPlace(ctx context.Context, b *measure.Bench, name, parent string, size int64) (_ *place, err error) {
	p := &place{name: name, size: size, seed: b.Seed}
	defer func() {
		if err != nil {
			err = errors.Join(err, p.close())
		}
	}()
	if p.dir, err = os.MkdirTemp(parent, "capture-"); err != nil {
		return nil, homeward.Errorf("measure capture", homeward.IO, parent, "name a directory that can be written to", "%w", err)
	}
	p.atEnd(func() error { return os.RemoveAll(p.dir) })
	if p.run, err = os.MkdirTemp(b.Memory, "run-"); err != nil {
		return nil, homeward.Errorf("measure capture", homeward.IO, b.Memory, "make it writable", "%w", err)
	}
	p.atEnd(func() error { return os.RemoveAll(p.run) })
	if err := p.fill(ctx); err != nil {
		return nil, err
	}
	if p.leg, err = leg.Start(ctx, leg.Options{Binary: b.Binary, Dir: filepath.Join(p.dir, "roles")}); err != nil {
		return nil, err
	}
	p.atEnd(p.leg.Close)
	return p, nil
}

func (p *place) atEnd(do func() error) { p.ends = append(p.ends, do) }

// close ends what was begun, the last first.
func (p *place) close() error {
	var faults []error
	for len(p.ends) > 0 {
		last := len(p.ends) - 1
		faults = append(faults, p.ends[last]())
		p.ends = p.ends[:last]
	}
	return errors.Join(faults...)
}

func (p *place) path(name string) string { return filepath.Join(p.dir, name+".raw") }

const original = "original"

// fill makes the image that others are copies of: random bytes, no holes.
func (p *place) fill(ctx context.Context) error {
	var seed [32]byte
	copy(seed[:], fmt.Sprint(p.seed))
	return p.write(ctx, original, rand.NewChaCha8(seed))
}

// image makes a copy of the original and returns its path.
func (p *place) image(ctx context.Context, name string) (string, error) {
	f, err := os.Open(p.path(original))
	if err != nil {
		return "", err
	}
	defer func() { _ = f.Close() }() // it was only read
	return p.path(name), p.write(ctx, name, f)
}

// write makes a file of the place's size.
func (p *place) write(ctx context.Context, name string, from io.Reader) error {
	f, err := os.OpenFile(p.path(name), os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	chunk := make([]byte, 1<<20)
	for at := int64(0); at < p.size && err == nil; at += int64(len(chunk)) {
		if err = ctx.Err(); err != nil {
			break
		}
		part := chunk[:min(int64(len(chunk)), p.size-at)]
		if _, err = io.ReadFull(from, part); err == nil {
			_, err = f.Write(part)
		}
	}
	if err == nil {
		err = f.Sync() // writing it back is no part of what is measured
	}
	return errors.Join(err, f.Close())
}

// compare is an error unless two images are the same, byte by byte.
func (p *place) compare(ctx context.Context, a, b string) error {
	var files [2]*os.File
	for i, path := range []string{a, b} {
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		defer func() { _ = f.Close() }() // it was only read
		if st, err := f.Stat(); err != nil || st.Size() != p.size {
			return errors.Join(err, fmt.Errorf("%s has not the %d bytes of the image", path, p.size))
		}
		files[i] = f
	}
	x, y := make([]byte, 1<<20), make([]byte, 1<<20)
	for at := int64(0); at < p.size; at += int64(len(x)) {
		n := min(int64(len(x)), p.size-at)
		for i, into := range [][]byte{x[:n], y[:n]} {
			if _, err := files[i].ReadAt(into, at); err != nil {
				return err
			}
		}
		if !bytes.Equal(x[:n], y[:n]) {
			return fmt.Errorf("the disks differ in the MiB at %d: %s, %s", at, a, b)
		}
		if err := ctx.Err(); err != nil {
			return err
		}
	}
	return nil
}
