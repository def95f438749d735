package model

import (
	"testing"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/durable/powerloss"
	"github.com/homeward-dr/homeward/test/world"
)

// roundTrip takes a walker to the other side and protects it there.
func (k *walker) roundTrip() {
	k.write()
	k.failBack()
	k.write()
	k.commit()
	k.write()
	k.reprotect()
	k.check()
}

// scripts are walks that once went wrong, without the chance in them.
var scripts = map[string]func(k *walker){
	// The running side runs on a view of its master target by then, not on its disks.
	"cancel on the second leg": func(k *walker) {
		k.roundTrip()
		k.failOver()
		k.write()
		k.cancel()
		k.write()
		k.prove()
	},
	// The replica stands under its older generation.
	"cancel of a planned failover": func(k *walker) {
		k.write()
		k.failBack()
		k.cancel()
		k.write()
		k.prove()
	},
	// What looked like a Prepare that was cut off closed what the machine writes into.
	"restart at a point before the leg": func(k *walker) {
		k.write()
		k.cut()
		old := k.newest()
		for range 2 { // nothing older is chosen, which would end the newer points
			k.failBackTo(homeward.Position{})
			k.commit()
			k.reprotect()
		}
		k.failOverTo(old)
		k.commit()
		k.at().Target.Process().Kill()
		k.write()
		k.reprotect()
		k.check()
		k.prove()
	},
	// Deltas without a mark are no points, whoever digests them.
	"reverse leg in rounds": func(k *walker) {
		k.write()
		k.failOver()
		k.write()
		k.commit()
		k.weather()
		k.reprotect()
		k.check()
	},
	// What is suspect is compared, also if it was once known to differ.
	"power loss amid a reprotect": func(k *walker) {
		k.write()
		k.failOver()
		k.write()
		k.commit()
		k.write()
		k.running().PowerLossAfter(k.running().Agent.Process(), int64(20+k.rng.IntN(150)))
		k.reprotect()
		k.resync()
		k.check()
		k.prove()
	},
	// A promoted machine comes back after every power loss of its site.
	"power losses of the side that runs": func(k *walker) {
		k.failOver()
		k.commit()
		for range 6 {
			k.write()
			k.running().PowerLossAfter(k.running().Target.Process(), int64(1+k.rng.IntN(60)))
			k.write()
			k.check()
		}
		k.reprotect()
		k.resync()
	},
	// A dead guest must not keep its side from being handed over.
	"crash and cancel": func(k *walker) {
		for range 3 {
			k.write()
			k.at().Hyper.Crash(k.it.ID())
			k.failOver()
			k.at().Hyper.Crash(k.it.ID())
			k.cancel()
			k.check()
		}
	},
	// The running side is lost before the way back has a point, on both legs, and each time
	// the standby side's own last state boots.
	"given up amid a synchronization": func(k *walker) {
		for range 2 {
			k.write()
			k.failOver()
			k.commit()
			k.reverse()
			k.write()
			k.check()
			k.giveUp()
			k.check()
			k.cancel()
			k.check()
			k.giveUp()
			k.write()
			k.commit()
			k.check()
			k.reverse()
			k.giveUp()
			k.commit()
			k.reprotect()
			k.check()
			k.prove()
		}
	},
	// One hold, while sets travel in rounds of their own.
	"group cut amid rounds": func(k *walker) {
		for range 8 {
			k.write()
			k.cutGroup()
		}
	},
}

func TestModelRegressions(t *testing.T) {
	for name, script := range scripts {
		t.Run(name, func(t *testing.T) {
			k := newWalker(t, powerloss.Rand(t), world.Options{Precopy: 64 << 10})
			script(k)
			k.check()
		})
	}
}

// newest is the newest point.
func (k *walker) newest() (at homeward.Position) {
	ctx, cancel := k.context()
	defer cancel()
	list, err := k.it.Standby.Target.Points(ctx, k.id())
	if err != nil || len(list.Points) == 0 {
		k.fatal("no point: %v", err)
	}
	return list.Points[len(list.Points)-1].Position
}
