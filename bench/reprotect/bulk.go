package reprotect

import (
	"context"
	"os"
	"path/filepath"

	"github.com/homeward-dr/homeward/bench/measure"
	"github.com/homeward-dr/homeward/bench/mover"
	"github.com/homeward-dr/homeward/bench/network"
)

// Who moves bytes in bulk.
const (
	ourTransport = "Homeward's transport"
	bareHTTP     = "HTTP/1.1, bare"
)

// bulk compares what carries deltas with a bare HTTP client and server: no disks.
func (r *rig) bulk(ctx context.Context, f *measure.Figure) error {
	if err := r.net.Join(ctx, network.Plain()); err != nil {
		return err
	}
	dir, bytes := filepath.Join(r.dir, "mover"), 4*gib
	switch {
	case r.b.Smoke:
		bytes = 64 * mib
	case r.quick():
		bytes = gib
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	if err := mover.Identities(dir); err != nil {
		return err
	}
	var contenders []measure.Contender
	for _, c := range []struct{ name, protocol string }{{ourTransport, mover.Ship}, {bareHTTP, mover.Bare}} {
		contenders = append(contenders, measure.Contender{Name: c.name, Measure: func(ctx context.Context) (measure.Values, error) {
			return r.move(ctx, c.protocol, dir, bytes)
		}})
	}
	r.b.Say("  bulk copy over TLS, %s", size(bytes))
	series, err := measure.Alternate(ctx, r.rounds(), []measure.Label{label("part", "bulk"), label("bytes", size(bytes))}, contenders...)
	f.Series = append(f.Series, series)
	return err
}

func (r *rig) move(ctx context.Context, protocol, dir string, bytes int64) (measure.Values, error) {
	address := r.Address(home)
	v, err := r.take(ctx, pids{}, away, home, func(x *attempt) error {
		cmd, err := mover.Receive(ctx, protocol, dir, address)
		if err != nil {
			return err
		}
		return x.serveProgram(ctx, x.target, address, cmd)
	}, func(x *attempt) error {
		cmd, err := mover.Send(ctx, protocol, dir, address, bytes)
		if err != nil {
			return err
		}
		return x.source.runProgram(cmd)
	})
	if err == nil {
		v["rate"] = float64(bytes) / v["seconds"]
	}
	return v, err
}
