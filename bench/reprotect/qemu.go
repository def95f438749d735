package reprotect

import (
	"context"
	"errors"
	"net"
	"path/filepath"

	"github.com/homeward-dr/homeward/bench/measure"
	"github.com/homeward-dr/homeward/bench/qmp"
	"github.com/homeward-dr/homeward/nbd"
)

// qemu sends the clusters that a dirty bitmap names, which QEMU kept while the disk
// changed, to qemu-nbd at the target.
func (p *pair) qemu(ctx context.Context, c change) (measure.Values, error) {
	address := p.r.Address(home)
	host, port, _ := net.SplitHostPort(address)
	control, export := filepath.Join(p.r.brief, "qmp"), filepath.Join(p.r.brief, "nbd")
	var monitor *qmp.Monitor
	defer func() {
		if monitor != nil {
			_ = monitor.Close() // the program has ended
		}
	}()
	v, err := p.r.take(ctx, pids{}, away, home, func(x *attempt) error {
		err := x.serve(ctx, x.target, address, "qemu-nbd", "--persistent", "--format=raw", "--cache=writeback", "--shared=4", "--bind="+host, "--port="+port, p.target)
		if err != nil {
			return err
		}
		if err := x.serve(ctx, x.source, control, "qemu-storage-daemon",
			"--chardev", "socket,id=c,path="+control+",server=on,wait=off", "--monitor", "chardev=c",
			"--blockdev", "driver=raw,node-name=disk,file.driver=file,file.filename="+p.source,
			"--nbd-server", "addr.type=unix,addr.path="+export,
			"--export", "type=nbd,id=e,node-name=disk,name=disk,writable=on"); err != nil {
			return err
		}
		if monitor, err = qmp.Open(ctx, control); err != nil {
			return err
		}
		err = monitor.Do("block-dirty-bitmap-add", map[string]any{"node": "disk", "name": "written", "granularity": 65536})
		if err == nil {
			err = writeNBD(ctx, nbd.UnixURI(export, "disk").String(), c)
		}
		return errors.Join(err, settle(p.source))
	}, func(*attempt) error {
		err := monitor.Do("blockdev-add", map[string]any{"driver": "nbd", "node-name": "copy",
			"server": map[string]any{"type": "inet", "host": host, "port": port}})
		if err == nil {
			err = monitor.Do("blockdev-backup", map[string]any{"job-id": "back", "device": "disk", "target": "copy", "sync": "incremental", "bitmap": "written"})
		}
		if err == nil {
			err = monitor.Await(ctx, "back", "BLOCK_JOB_COMPLETED")
		}
		if err != nil {
			return err
		}
		return settle(p.target)
	})
	return p.finish(ctx, v, err, c)
}
