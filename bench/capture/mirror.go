package capture

import (
	"context"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"time"

	"github.com/homeward-dr/homeward/bench/measure"
	"github.com/homeward-dr/homeward/bench/qmp"
	"github.com/homeward-dr/homeward/nbd"
)

// mirror is QEMU's blockdev-mirror: a storage daemon serves the image over NBD and
// mirrors it to a qemu-nbd over loopback TCP.
type mirror struct {
	place           *place
	source, replica string
	monitor         *qmp.Monitor
	host, port      string // of the replica's server
	target          target
}

// openMirror starts both servers; no job yet.
func (p *place) openMirror(ctx context.Context) (*mirror, error) {
	m := &mirror{place: p, replica: p.path("mirror-replica")}
	var err error
	if m.source, err = p.image(ctx, "mirror-source"); err != nil {
		return nil, err
	}
	if _, err = p.image(ctx, "mirror-replica"); err != nil {
		return nil, err
	}
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	at := free.Addr().String()
	if err := free.Close(); err != nil {
		return nil, err
	}
	if m.host, m.port, err = net.SplitHostPort(at); err != nil {
		return nil, err
	}
	server, err := p.start(ctx, "tcp", at, "qemu-nbd", "--persistent", "--format=raw", "--cache=writeback", "--bind="+m.host, "--port="+m.port,
		"--export-name=replica", m.replica)
	if err != nil {
		return nil, err
	}
	control, export := p.socket("monitor"), filepath.Join(p.run, "mirror")
	daemon, err := p.start(ctx, "unix", export, "qemu-storage-daemon", "--chardev", "socket,id=c0,path="+control+",server=on,wait=off",
		"--monitor", "chardev=c0", "--blockdev", "driver=raw,node-name=disk,file.driver=file,file.filename="+m.source,
		"--nbd-server", "addr.type=unix,addr.path="+export, "--export", "type=nbd,id=e0,node-name=disk,name=disk,writable=on")
	if err != nil {
		return nil, err
	}
	m.target = target{uri: nbd.UnixURI(export, "disk").String(), pids: []int{daemon, server}}
	if m.monitor, err = qmp.Open(ctx, control); err != nil {
		return nil, err
	}
	p.atEnd(m.monitor.Close)
	return m, nil
}

// measure mirrors the whole image, runs the workload on it while the mirror is
// ready, ends the mirror at a moment when both are the same, and compares them.
func (m *mirror) measure(ctx context.Context, mode string, w workload, length time.Duration, seed uint64) (measure.Values, error) {
	err := m.monitor.Do("blockdev-add", map[string]any{"driver": "nbd", "node-name": "replica", "export": "replica",
		"server": map[string]any{"type": "inet", "host": m.host, "port": m.port}})
	if err != nil {
		return nil, err
	}
	const job = "mirror"
	err = m.monitor.Do("blockdev-mirror", map[string]any{"job-id": job, "device": "disk", "target": "replica", "sync": "full", "copy-mode": mode})
	if err == nil {
		err = m.monitor.Await(ctx, job, "BLOCK_JOB_READY")
	}
	var v measure.Values
	if err == nil {
		v, err = fio(ctx, m.target, w, m.place.size, length, seed, func() error {
			// A mirror that is ready ends when source and target are the same.
			return errors.Join(m.monitor.Do("block-job-cancel", map[string]any{"device": job}), m.monitor.Await(ctx, job, "BLOCK_JOB_COMPLETED"))
		})
	}
	if err == nil {
		err = m.monitor.Do("blockdev-del", map[string]any{"node-name": "replica"})
	}
	if err == nil {
		err = m.place.compare(ctx, m.source, m.replica)
	}
	if err != nil {
		return nil, fmt.Errorf("mirror (%s): %w", mode, err)
	}
	return v, nil
}
