package model

import (
	"context"
	"fmt"
	"time"

	"github.com/homeward-dr/homeward/recovery"
	"github.com/homeward-dr/homeward/test/world"
)

// role is what every role of a site has, as far as its death goes.
type role interface{ Process() *world.Process }

func (k *walker) anySite() *world.Site {
	if k.rng.IntN(2) == 0 {
		return k.w.Home
	}
	return k.w.Away
}

func (k *walker) anyRole() (string, role) {
	s := k.anySite()
	switch k.rng.IntN(3) {
	case 0:
		return s.Name + "/agent", s.Agent
	case 1:
		return s.Name + "/ps", s.Process
	}
	return s.Name + "/mt", s.Target
}

// disturb does harm now, or lays it out for the steps to come.
func (k *walker) disturb() {
	k.choose(k.kill, k.fuse, k.fuse, k.fuse, k.powerLoss, k.powerFuse, k.powerFuse, k.loseSpool, k.weather, k.weather, k.outage, k.replay, k.crashGuest)
}

// kill ends a role at once.
func (k *walker) kill() {
	name, r := k.anyRole()
	k.note("kill %s", name)
	if p := r.Process(); p != nil {
		p.Kill()
	}
}

// fuse lets a role die at some operation on storage of the next steps.
func (k *walker) fuse() {
	name, r := k.anyRole()
	after := int64(1 + k.rng.IntN(1<<k.rng.IntN(9)))
	k.note("let %s die before its operation %d from now", name, after)
	if p := r.Process(); p != nil {
		p.KillAfter(after)
	}
}

// powerLoss takes the power from a site for a moment.
func (k *walker) powerLoss() {
	s := k.anySite()
	k.do("power loss at "+s.Name, s.PowerLoss)
}

// powerFuse lets a site lose power at some operation on storage of the next steps.
func (k *walker) powerFuse() {
	s := k.anySite()
	role := []role{s.Agent, s.Target}[k.rng.IntN(2)]
	after := int64(1 + k.rng.IntN(1<<k.rng.IntN(9)))
	k.note("let %s lose power before operation %d of its %T from now", s.Name, after, role)
	if p := role.Process(); p != nil {
		s.PowerLossAfter(p, after)
	}
}

// loseSpool puts a new, empty machine into the place of a process server.
func (k *walker) loseSpool() {
	s := k.anySite()
	k.do("lose the spool at "+s.Name, s.LoseSpool)
	k.reroute()
}

// reroute tells a process server that has forgotten them where deltas go.
func (k *walker) reroute() {
	k.do("route anew", func(ctx context.Context) error {
		for _, it := range k.w.Items {
			if it.State != recovery.Protected && it.State != recovery.Synchronizing {
				continue
			}
			if err := it.Reroute(ctx); err != nil {
				return err
			}
		}
		return nil
	})
}

// weather changes how deltas fare.
func (k *walker) weather() {
	k.note("weather")
	if k.rng.IntN(3) == 0 {
		k.w.Net.SetWeather(world.Weather{Remember: true})
		return
	}
	k.w.Net.SetWeather(world.Weather{Lost: k.rng.Float64() / 4, LostAck: k.rng.Float64() / 4, Doubled: k.rng.Float64() / 2,
		Delayed: k.rng.Float64(), Delay: 30 * time.Millisecond, Remember: true})
}

// outage takes a site off the network while the guest writes.
func (k *walker) outage() {
	s := k.anySite()
	k.note("cut off %s", s.Name)
	k.w.Net.CutOff(s.Name, true)
	k.write()
	k.w.Net.CutOff(s.Name, false)
}

// replay brings deltas of long ago again.
func (k *walker) replay() {
	k.do("replay old deltas", func(ctx context.Context) error { k.w.Net.Replay(ctx, 12); return nil })
}

// crashGuest pulls the plug of the machine alone.
func (k *walker) crashGuest() {
	k.note("crash the guest")
	k.at().Hyper.Crash(k.it.ID())
}

// resync makes maps whole again where a power loss left suspects.
func (k *walker) resync() {
	if k.it.State != recovery.Protected {
		return
	}
	k.do("resync", func(ctx context.Context) error {
		if err := k.settle(ctx); err != nil {
			return err
		}
		for _, it := range k.w.Items {
			if _, err := it.Resync(ctx); err != nil {
				return fmt.Errorf("resync %s: %w", it.ID(), err)
			}
		}
		return nil
	})
}
