package service

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/recovery"
	"github.com/homeward-dr/homeward/vault"
)

const (
	defaultBoot = 5 * time.Minute
	maxBoot     = 24 * time.Hour
	bootEvery   = 500 * time.Millisecond
)

// checkProbe refuses, by name, a probe that cannot be made, before anything is done
// that it would have to wait for.
func checkProbe(p vault.Probe) error {
	if p.Timeout < 0 || p.Timeout > maxBoot {
		return homeward.Errorf("check probe", homeward.Invalid, "probe.timeout", "give up to 24 h", "%v", p.Timeout)
	}
	return tryOf(p).Validate()
}

// tryOf is one try of a probe.
func tryOf(p vault.Probe) homeward.TryRequest {
	return homeward.TryRequest{TCP: p.TCP, HTTP: p.HTTP, Command: p.Command, Timeout: min(p.Timeout, homeward.MaxTry)}
}

// awaitBoot waits until the machine answers: its agent sees it at its disks, or the
// probe that was asked for says so. A machine that does not answer in time leaves the
// job to a person.
func awaitBoot(ctx context.Context, w *work) error {
	side := w.item.Standby // failed over, not committed
	if w.item.State != recovery.FailedOver {
		side = w.item.Running
	}
	return w.booted(ctx, side.Site, w.asked.Input.Probe, func(ctx context.Context) error {
		r, err := side.Agent.Report(ctx, homeward.ItemRequest{Item: w.id()})
		if err == nil && r.Clients == 0 {
			err = homeward.Errorf("wait for the machine", homeward.Unavailable, "item "+string(w.id()), "", "it is not connected to its disks")
		}
		return err
	})
}

// booted has a probe tried at the machine's site, or what stands for none, until it says
// that the machine is up. Where a probe cannot be tried, a person is asked.
func (w *work) booted(ctx context.Context, at homeward.Site, p *vault.Probe, unless func(context.Context) error) error {
	within := defaultBoot
	ask := unless
	if p != nil {
		if p.Timeout > 0 {
			within = p.Timeout
		}
		ask = probing(at, *p)
	}
	bound, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	var said error // by the last try that had its time
	for {
		err := ask(bound)
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if bound.Err() == nil || said == nil {
			said = err
		}
		if bound.Err() != nil || slices.Contains([]homeward.Kind{homeward.Unsupported, homeward.Forbidden, homeward.Invalid}, homeward.KindOf(err)) {
			return w.run.Pause(fmt.Sprintf("the machine does not answer after %v: %v", within, said),
				"look at its console; then retry, skip the check, or abort and cancel the failover")
		}
		// Whoever is asked may need the time: how long it takes is the guest's.
		_ = pause(bound, bootEvery)
	}
}

// probing tries a probe at a site: the vault itself may not reach the machine's network.
func probing(at homeward.Site, p vault.Probe) func(context.Context) error {
	return func(ctx context.Context) error {
		prober, tries := at.(homeward.Prober)
		if !tries {
			return homeward.Errorf("probe", homeward.Unsupported, "site", "probe nothing: its agent tells whether the machine is up", "it tries no probes")
		}
		r, err := prober.Try(ctx, tryOf(p))
		if err == nil && !r.Up {
			err = homeward.Errorf("probe", homeward.Unavailable, "machine", "", "%s", r.Why)
		}
		return err
	}
}

// pause waits, but not beyond ctx.
func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}
