package reprotect

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"

	"github.com/homeward-dr/homeward/bench/measure"
)

// pair is a disk and its older copy as plain files, for programs that need no more.
type pair struct {
	r              *rig
	source, target string
}

func (r *rig) makePair(ctx context.Context, size int64) (*pair, error) {
	p := &pair{r: r, source: filepath.Join(r.dir, "source", "disk.raw"), target: filepath.Join(r.dir, "target", "disk.raw")}
	for _, path := range []string{p.source, p.target} {
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			return nil, err
		}
	}
	return p, fill(ctx, r.b.Seed, size, p.source, p.target)
}

func (p *pair) close() error {
	for _, path := range []string{p.source, p.target} {
		if err := os.RemoveAll(filepath.Dir(path)); err != nil {
			return err
		}
	}
	return nil
}

// change writes a change to the source.
func (p *pair) change(ctx context.Context, c change) error {
	f, err := os.OpenFile(p.source, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }() // what it holds is compared
	if err := c.apply(ctx, f); err != nil {
		return err
	}
	return f.Sync()
}

// finish compares both, and completes an attempt's values.
func (p *pair) finish(ctx context.Context, v measure.Values, err error, c change) (measure.Values, error) {
	if err == nil {
		err = same(ctx, p.source, p.target)
	}
	if err != nil {
		return nil, err
	}
	c.tell(v)
	return v, nil
}

// rsync sends what rolling checksums find, to a daemon at the target: without a
// shell and its encryption.
func (p *pair) rsync(ctx context.Context, c change) (measure.Values, error) {
	if err := p.change(ctx, c); err != nil {
		return nil, err
	}
	address := p.r.Address(home)
	host, port, _ := net.SplitHostPort(address)
	config := filepath.Join(p.r.dir, "rsyncd.conf")
	err := write(config, fmt.Sprintf("use chroot = no\nread only = no\nreverse lookup = no\nuid = 0\ngid = 0\n[disks]\npath = %s\n", filepath.Dir(p.target)))
	if err != nil {
		return nil, err
	}
	v, err := p.r.take(ctx, pids{}, away, home, func(x *attempt) error {
		return x.serve(ctx, x.target, address, "rsync", "--daemon", "--no-detach", "--config="+config, "--address="+host, "--port="+port)
	}, func(x *attempt) error {
		if err := x.source.run(ctx, "rsync", "--inplace", "--no-whole-file", "--ignore-times", p.source,
			fmt.Sprintf("rsync://%s/disks/%s", address, filepath.Base(p.target))); err != nil {
			return err
		}
		return settle(p.target)
	})
	return p.finish(ctx, v, err, c)
}

// nbdcopy copies the whole disk to an NBD server at the target.
func (p *pair) nbdcopy(ctx context.Context, c change) (measure.Values, error) {
	if err := p.change(ctx, c); err != nil {
		return nil, err
	}
	address := p.r.Address(home)
	host, port, _ := net.SplitHostPort(address)
	v, err := p.r.take(ctx, pids{}, away, home, func(x *attempt) error {
		return x.serve(ctx, x.target, address, "nbdkit", "--foreground", "--ipaddr", host, "--port", port, "file", p.target)
	}, func(x *attempt) error {
		if err := x.source.run(ctx, "nbdcopy", "--flush", p.source, "nbd://"+address); err != nil {
			return err
		}
		return settle(p.target)
	})
	return p.finish(ctx, v, err, c)
}
